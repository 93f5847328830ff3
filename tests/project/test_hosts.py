"""Files for other programs: the GitHub workflow, the Docker image and the citation file."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from running import ROOT

import ssgan

yaml = pytest.importorskip("yaml", reason="needs the test extra")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# Programs of the development extra, and the package that installs each.
PROGRAMS = {"ruff": "ruff", "mypy": "mypy", "lint-imports": "import-linter"}
HOSTS = {"ubuntu-latest", "macos-latest", "windows-latest"}


def workflow() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


COMMANDS = [step["run"] for job in workflow()["jobs"].values() for step in job["steps"] if "run" in step]


def fault(command: str) -> str:
    """Why a command of a CI file cannot be run, or an empty text."""
    program, *rest = command.split()
    if program in ("python", "python3", ".venv/bin/python"):
        program, *rest = rest
        path = ROOT / program
        options = [word for word in rest if word.startswith("--") and "=" not in word]
        if not path.is_file():
            return f"there is no {program}"
        text = path.read_text(encoding="utf-8")
        unknown = [one for one in options if f'"{one}"' not in text]
        return f"{program} has no {unknown[0]}" if unknown else ""
    if program.startswith(".venv/bin/"):
        package = PROGRAMS.get(Path(program).name, "no package")
        known = any(re.match(rf"{package}\b", one) for one in PROJECT["optional-dependencies"]["dev"])
        return "" if known else f"no extra installs {program}"
    if program.startswith("scripts/"):
        return "" if os.access(ROOT / program, os.X_OK) else f"{program} cannot be run"
    return "" if program in ("docker", "pipx") else f"{program} is not known"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_workflow_exists(command: str) -> None:
    assert fault(command) == ""


def test_missing_commands_and_options_are_detected() -> None:
    assert fault("python scripts/gone.py") == "there is no scripts/gone.py"
    assert fault("python scripts/packages --outside dist") == "scripts/packages has no --outside"
    assert fault(".venv/bin/flake8 .") == "no extra installs .venv/bin/flake8"
    assert fault("make test") == "make is not known"


def test_workflow_runs_every_command_of_the_local_ci() -> None:
    """Except for commands on data that only the local CI has."""
    own = [line.strip() for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()]
    joined = "\n".join(COMMANDS)
    for line in own:
        if line.startswith((".venv/bin/", "scripts/")) and "shared" not in line:
            words = line.removeprefix(".venv/bin/python ").split()
            assert words[0] in joined, line


def test_tests_run_on_three_systems_and_two_versions_of_python() -> None:
    matrix = workflow()["jobs"]["test"]["strategy"]["matrix"]
    assert set(matrix["os"]) == HOSTS
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert oldest in matrix["python"]
    assert len(matrix["python"]) == 2


def test_workflow_has_read_only_permissions() -> None:
    assert workflow()["permissions"] == {"contents": "read"}
    checkouts = [s for job in workflow()["jobs"].values() for s in job["steps"] if "checkout" in s.get("uses", "")]
    assert len(checkouts) == len(workflow()["jobs"])
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_dockerfile_copies_only_files_of_the_build_context() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [rule[1:] for rule in rules if rule.startswith("!")]
    assert rules[1] == "*"
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists()
            assert any(fnmatch(name, pattern) for pattern in sent), name


def test_docker_image_has_the_required_torch_and_no_root_user() -> None:
    required = {one for one in PROJECT["dependencies"] if one.startswith("torch")}
    for line in re.findall(r"^RUN pip install .*torch.*$", DOCKERFILE, re.MULTILINE):
        assert set(re.findall(r'"(torch[^"]+)"', line)) == required
    users = re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["1000:1000"]
    assert DOCKERFILE.index("USER") < DOCKERFILE.index("ENTRYPOINT")
    extras = re.search(r"\[([\w,]+)\]\"", DOCKERFILE)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_dockerfile_passes_hadolint() -> None:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hadolint = shutil.which("hadolint", path=programs)
    if hadolint is None:
        pytest.skip("hadolint is not installed: it is in the dev extra, but for Windows")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_citation_file_has_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == ssgan.__version__
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [one["name"] for one in PROJECT["authors"]]
    (paper,) = citation["references"]
    assert paper["title"] == "Improved Techniques for Training GANs"
    assert paper["url"] == "https://arxiv.org/abs/1606.03498"
    assert len(paper["authors"]) == 6
