"""The environment script repairs a broken environment and keeps a valid one; the other scripts run."""

import http.server
import importlib.util
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The installer in an empty folder, with the installation replaced by a record of its calls."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "scripts" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    monkeypatch.setattr(module, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(module, "PYTHON", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setattr(module, "CHECK", "import json")
    monkeypatch.setattr(module, "EXTRA_MODULES", {"": "", "test": ", csv"})
    monkeypatch.setattr(module, "cpu_index_answers", lambda: False)
    monkeypatch.delenv("SSGAN_TORCH", raising=False)
    module.installed = []

    def install(extra: str) -> bool:
        module.installed.append(extra)
        Path(module.stamp(extra)).write_text(module.fingerprint(extra))
        return True

    def make() -> None:
        python = Path(module.PYTHON)
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)

    module.really_install = module.install
    monkeypatch.setattr(module, "install", install)
    module.really_make = module.make

    def clear_and_make() -> None:
        real = subprocess.run
        monkeypatch.setattr(module.subprocess, "run", lambda *a, **k: (make(), real(["true"]))[1])
        module.really_make()
        monkeypatch.setattr(module.subprocess, "run", real)

    monkeypatch.setattr(module, "make", clear_and_make)
    return module


def test_a_missing_environment_is_made_once(environment: ModuleType) -> None:
    assert environment.ensure("test") == environment.PYTHON
    assert environment.installed == ["test"]
    environment.ensure("test")
    assert environment.installed == ["test"]


def test_a_changed_project_is_installed_again(environment: ModuleType) -> None:
    environment.ensure()
    Path(environment.ROOT, "pyproject.toml").write_text("[project]\nname = 'other'\n")
    environment.ensure()
    assert environment.installed == ["", ""]


@pytest.mark.parametrize(
    "damage", ["file", "dangling link", "empty folder", "dead python", "foreign python", "no stamp", "lost library"]
)
def test_broken_environment_is_repaired(environment: ModuleType, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    venv = Path(environment.VENV)
    if damage == "file":
        venv.write_text("no folder")
    elif damage == "dangling link":
        venv.symlink_to(venv.parent / "nowhere")
    elif damage == "empty folder":
        venv.mkdir()
    else:
        environment.ensure()
        environment.installed.clear()
        if damage == "dead python":
            os.remove(environment.PYTHON)
            Path(environment.PYTHON).write_text("#!/bin/sh\nexit 3\n")
            Path(environment.PYTHON).chmod(stat.S_IRWXU)
        elif damage == "foreign python":
            os.remove(environment.PYTHON)
            Path(environment.PYTHON).write_bytes(b"\x7fELF of another processor")
            Path(environment.PYTHON).chmod(stat.S_IRWXU)
        elif damage == "no stamp":
            os.remove(environment.stamp(""))
        else:
            whole = iter([False, True])
            monkeypatch.setattr(environment, "is_complete", lambda extra: next(whole))
    environment.ensure()
    assert environment.installed == [""]
    assert subprocess.run([environment.PYTHON, "-c", "import json"]).returncode == 0


def test_failed_installation_is_retried_once_from_scratch(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tries: list[str] = []
    monkeypatch.setattr(environment, "install", lambda extra: tries.append(extra) is not None)
    with pytest.raises(SystemExit) as stop:
        environment.ensure("test")
    assert tries == ["test", "test"]
    assert "Installation failed twice" in str(stop.value.code)
    assert "starting again from an empty .venv" in capsys.readouterr().out


def test_old_python_is_refused_with_a_message(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.sys, "version_info", (3, 8, 0))
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer"):
        environment.ensure()


# Installation by uv, and by pip if uv fails


def really_install(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch, failing: set[str], settings: dict[str, str] | None = None
) -> tuple[bool, list[str]]:
    """Whether it succeeded, and the steps that were run: `get uv`, `uv` or `pip`, of which some fail."""
    steps: list[str] = []

    def run(command: list[str], env: dict[str, str] | None = None) -> bool:
        assert command[:2] == [environment.PYTHON, "-m"]
        steps.append("uv" if command[2] == "uv" else "get uv" if command[-1] == "uv" else "pip")
        if steps[-1] != "get uv":
            assert command[-2:] == ["-e", environment.ROOT + "[test]"]
        if steps[-1] == "uv":
            assert command[command.index("--python") + 1] == environment.PYTHON
            assert env is not None
            assert env.items() >= os.environ.items()
        return steps[-1] not in failing

    monkeypatch.setattr(environment, "run", run)
    monkeypatch.setattr(environment, "pip_settings", lambda: settings or {})
    Path(environment.VENV).mkdir()
    return environment.really_install("test"), steps


@pytest.mark.parametrize(
    ("failing", "steps"),
    [
        (set(), ["get uv", "uv"]),
        ({"get uv"}, ["get uv", "pip"]),
        ({"uv"}, ["get uv", "uv", "pip"]),
        ({"uv", "pip"}, ["get uv", "uv", "pip"]),
    ],
)
def test_pip_installs_if_uv_fails(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch, failing: set[str], steps: list[str]
) -> None:
    worked = "pip" not in failing
    assert really_install(environment, monkeypatch, failing) == (worked, steps)
    assert Path(environment.stamp("test")).exists() == worked


def test_pip_installs_if_its_configuration_has_no_uv_equivalent(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert really_install(environment, monkeypatch, set(), {"client-cert": "me.pem"}) == (True, ["pip"])


def test_uv_uses_the_configuration_of_pip(environment: ModuleType) -> None:
    always = ["--index-strategy", "unsafe-best-match", "--system-certs"]
    assert environment.uv_configuration({}) == (always, {})
    settings = {
        "index-url": "https://mirror/simple",
        "extra-index-url": "file:///a/simple\nfile:///b/simple",
        "find-links": "/wheels",
        "constraint": "/etc/constraints.txt",
        "trusted-host": "mirror",
        "no-index": "true",
        "pre": "0",
        "cert": "/etc/ca.crt",
        "default-timeout": "180",
        "disable-pip-version-check": "1",
    }
    options = [
        *["--default-index", "https://mirror/simple", "--index", "file:///a/simple", "--index", "file:///b/simple"],
        *["--find-links", "/wheels", "--constraints", "/etc/constraints.txt", "--allow-insecure-host", "mirror"],
        "--no-index",
    ]
    variables = {"SSL_CERT_FILE": "/etc/ca.crt", "UV_HTTP_TIMEOUT": "180"}
    assert environment.uv_configuration(settings) == ([*always, *options], variables)
    assert environment.uv_configuration({"client-cert": "me.pem"}) is None


def test_the_configuration_of_pip_is_read_from_files_and_variables(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://a\nextra-index-url =\n    https://b\n    https://c\ntimeout = 5\n"
        "[install]\ntimeout = 6\n[download]\nno-index = true\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_INDEX_URL", "https://d")
    monkeypatch.setattr(environment, "PYTHON", sys.executable)
    settings = environment.pip_settings()
    assert settings["index-url"] == "https://d"
    assert settings["extra-index-url"].split() == ["https://b", "https://c"]
    assert settings["timeout"] == "6"
    assert "no-index" not in settings


def test_installer_prints_progress_and_the_reason_of_a_failure(
    environment: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "print('Resolved 60 packages in 1s\\nnoise\\n   Building ssgan\\nDownloading torch (180MiB)')"
    assert environment.run([sys.executable, "-c", words])
    shown = ["  Resolved 60 packages in 1s", "  Building ssgan", "  Downloading torch (180MiB)"]
    captured = capsys.readouterr()
    assert (captured.out.splitlines(), captured.err) == (shown, "")
    assert not environment.run([sys.executable, "-c", "print('noise'); raise SystemExit('no such package')"])
    assert sorted(capsys.readouterr().err.splitlines()) == ["no such package", "noise"]


# torch for the CPU only


@pytest.fixture
def cpu_machine(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Linux without an NVIDIA device, where the index answers and pip has no settings."""
    monkeypatch.setattr(environment.sys, "platform", "linux")
    monkeypatch.setattr(environment, "has_nvidia", lambda: False)
    monkeypatch.setattr(environment, "cpu_index_answers", lambda: True)
    monkeypatch.setattr(environment, "pip_settings", dict)
    return environment


def test_a_machine_without_nvidia_gets_torch_for_the_cpu(
    cpu_machine: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(cpu_machine, "run", lambda command, env=None: commands.append(command) is None)
    project = '[project]\ndependencies = ["torch>=2.8", "numpy>=2.0", "torchvision>=0.23"]\n'
    Path(cpu_machine.ROOT, "pyproject.toml").write_text(project)
    Path(cpu_machine.VENV).mkdir()
    assert cpu_machine.really_install("")
    first, *others = commands
    assert first[-4:] == ["--index-url", "https://download.pytorch.org/whl/cpu", "torch>=2.8", "torchvision>=0.23"]
    assert all("download.pytorch.org" not in " ".join(command) for command in others)
    assert others[-1][-2:] == ["-e", cpu_machine.ROOT]
    lines = [line for line in capsys.readouterr().out.splitlines() if "CPU" in line]
    assert len(lines) == 1
    assert "SSGAN_TORCH=default" in lines[0]


def test_default_torch_is_installed_if_cpu_torch_fails(
    cpu_machine: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cpu_machine, "run", lambda command, env=None: "--index-url" not in command)
    Path(cpu_machine.VENV).mkdir()
    assert cpu_machine.really_install("")
    assert "continuing with the usual torch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, True),
        ({"has_nvidia": lambda: True}, False),
        ({"cpu_index_answers": lambda: False}, False),
        ({"pip_settings": lambda: {"index-url": "https://mirror/simple"}}, False),
        ({"pip_settings": lambda: {"timeout": "60"}}, True),
        ({"platform": "darwin"}, False),
        ({"platform": "win32"}, False),
        ({"choice": "cpu", "has_nvidia": lambda: True, "cpu_index_answers": lambda: False}, True),
        ({"choice": "default"}, False),
        ({"choice": "AUTO"}, True),
    ],
)
def test_cpu_torch_is_chosen_by_machine_index_and_settings(
    cpu_machine: ModuleType, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], wanted: bool
) -> None:
    for name, value in change.items():
        if name == "choice":
            monkeypatch.setenv("SSGAN_TORCH", value)
        else:
            monkeypatch.setattr(cpu_machine.sys if name == "platform" else cpu_machine, name, value)
    assert cpu_machine.wants_cpu_torch() == wanted


def test_unknown_value_of_ssgan_torch_is_refused(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSGAN_TORCH", "gpu")
    with pytest.raises(SystemExit, match="SSGAN_TORCH is 'gpu', but must be one of auto, cpu, default"):
        environment.ensure()
    assert environment.installed == []


def test_cpu_index_check_sends_a_real_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """To a local server, to a missing page of it, and to a port where nothing listens."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "scripts" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if self.path == "/whl/cpu/torch/" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_address[1]}"
        for address, answers in ((f"{root}/whl/cpu", True), (f"{root}/other", False)):
            monkeypatch.setattr(module, "CPU_INDEX", address)
            assert module.cpu_index_answers() == answers
        server.shutdown()
    monkeypatch.setattr(module, "CPU_INDEX", f"{root}/whl/cpu")
    assert not module.cpu_index_answers()


# The quickstart

STUB = """
ROOT = {root!r}
say = print
ensure = lambda: {trainer!r}
"""
TRAINER = """#!{python}
import json, pathlib, sys
out, method = (sys.argv[sys.argv.index(name) + 1] for name in ("--out", "--method"))
errors = {{"gan": [1.25, 2.75, 3.5], "supervised": [20.0, None, 22.0]}}[method]
report = {{"errors": errors, "error_mean": {means}[method], "error_std": 1.0, "run": out}}
report["accuracy_mean"] = None if report["error_mean"] is None else 100 - report["error_mean"]
pathlib.Path(out).mkdir()
(pathlib.Path(out) / "report.json").write_text(json.dumps(report))
print("trained by", *sys.argv[3:])
"""


def quickstart(folder: Path, **means: float | None) -> list[str]:
    """The output of the quickstart in a folder, with a program that writes reports instead of training."""
    trainer = folder / "trainer"
    trainer.write_text(TRAINER.format(python=sys.executable, means=means))
    trainer.chmod(stat.S_IRWXU)
    (folder / "environment.py").write_text(STUB.format(root=str(folder), trainer=str(trainer)))
    (folder / "quickstart").write_text((ROOT / "scripts" / "quickstart").read_text())
    command = [sys.executable, "-u", str(folder / "quickstart")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_quickstart_ends_with_accuracy_samples_and_the_next_command(tmp_path: Path) -> None:
    for number in (1, 2):
        lines = quickstart(tmp_path, gan=2.5, supervised=21.0)
        trainings = [line for line in lines if line.startswith("trained by")]
        folder = f"runs/quickstart-{number}"
        assert trainings == [
            f"trained by train digits --labels 50 --seeds 3 --method {method} --out {folder}-{method}"
            for method in ("gan", "supervised")
        ]
        assert lines[-4] == "With 50 labels the GAN is right for about 98 of 100 images."
        assert lines[-3] == f"Digits that it generates: {folder}-gan/samples.png"
        assert lines[-1].strip() == ".venv/bin/ssgan train FOLDER --out runs/mine"


def test_quickstart_gives_no_accuracy_of_diverged_models(tmp_path: Path) -> None:
    lines = quickstart(tmp_path, gan=None, supervised=21.0)
    assert not any("of 100 images" in line for line in lines)
    assert ["gan", "diverged", "-"] in [line.split()[:3] for line in lines]


IMPORT_EACH = """
import importlib, sys

sys.path[:0], modules = {folders!r}, {modules!r}
for name in modules:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as missing:  # of an extra that is not installed
        if missing.name.partition(".")[0] in ("ssgan", *modules):
            raise
"""


def test_every_script_can_be_imported() -> None:
    """In one process without a display; an import runs nothing."""
    places = [ROOT / "scripts" / name for name in ("benchmarks", "docs", "experiments", "torture")]
    modules = sorted(path.stem for place in places for path in place.glob("*.py"))
    assert len(modules) > 30
    code = IMPORT_EACH.format(folders=[*map(str, places), str(ROOT / "tests")], modules=modules)
    environ = {**os.environ, "MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
