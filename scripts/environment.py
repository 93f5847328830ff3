#!/usr/bin/env python3
"""Make `.venv` beside this folder ready to use: `python3 scripts/environment.py [test|dev]`.

Needs only Python. The libraries are installed by uv, which pip installs into the new `.venv`, or by pip
if uv fails. A broken or incomplete `.venv` is repaired or recreated; a valid one is
used unchanged, after a check of about five seconds. Runs in any Python 3, so that an old version prints
a message instead of a syntax error.
"""

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
PYTHON = os.path.join(BIN, "python")
OLDEST_PYTHON = (3, 11)
CHECK = "import torch, torchvision, sklearn, numpy, typer, rich, matplotlib, PIL, jinja2, filelock, platformdirs, ssgan"
EXTRA_MODULES = {
    "": "",
    "test": ", pytest, hypothesis, pytest_timeout",
    "dev": ", pytest, hypothesis, mypy, ruff, importlinter, mkdocs, mkdocstrings",
}
PIP_INSTALL = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input")
# torch without CUDA, which is much smaller. SSGAN_TORCH is `cpu`, `default` (from the usual index) or `auto`.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
TORCH_CHOICES = ("auto", "cpu", "default")
PROBE_SECONDS = 2
NVIDIA_PATHS = ("/proc/driver/nvidia", "/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")
# Prefixes of the lines of pip and uv that are printed.
OUTPUT_PREFIXES = (
    *("Collecting ", "Downloading ", "Installing collected", "Successfully installed"),
    *("Resolved ", "Downloaded ", "Prepared ", "Installed ", "Building ", "Built "),
)
# Settings of pip, and the options of uv that correspond to them.
UV_OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraints",
    "trusted-host": "--allow-insecure-host",
}
UV_SWITCHES = {"no-index": "--no-index", "pre": "--prerelease=allow", "no-cache-dir": "--no-cache"}
UV_VARIABLES = {
    "cert": ("SSL_CERT_FILE",),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
    "proxy": ("HTTP_PROXY", "HTTPS_PROXY"),
}
# Settings of pip that do not change the installed packages.
IGNORED_SETTINGS = {
    *("disable-pip-version-check", "no-input", "progress-bar", "quiet", "verbose", "log", "no-color", "retries"),
    *("cache-dir", "require-virtualenv", "root-user-action", "no-warn-script-location", "break-system-packages"),
    *("no-python-version-warning", "prefer-binary", "use-feature", "use-deprecated"),
}


def say(text):
    """Print one line and flush the output."""
    print(text, flush=True)


def restart_with_new_enough_python():
    """Run this program again with a newer Python if this one is too old."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    for minor in range(20, OLDEST_PYTHON[1] - 1, -1):
        python = shutil.which(f"python3.{minor}")
        if python:
            os.execv(python, [python, *sys.argv])
    sys.exit(f"ssgan needs Python 3.11 or newer, but this is {sys.version.split()[0]}: install one and try again.")


def fingerprint(extra):
    """Return a hash of pyproject.toml, the extra and the folder of the repository."""
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as stream:
        return hashlib.sha256(stream.read() + extra.encode() + ROOT.encode()).hexdigest()


def stamp(extra):
    """Return the path of the file that marks a successful installation."""
    return os.path.join(VENV, "ssgan-installed-" + (extra or "plain"))


def is_complete(extra):
    """Return whether `.venv` was installed from the current pyproject.toml and all its packages can be imported."""
    try:
        with open(stamp(extra)) as stream:
            if stream.read() != fingerprint(extra):
                return False
    except OSError:
        return False
    say("Checking .venv ...")
    command = [PYTHON, "-c", CHECK + EXTRA_MODULES[extra]]
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def make():
    """Make a fresh, empty `.venv`."""
    if os.path.islink(VENV) or os.path.isfile(VENV):
        os.remove(VENV)
    elif os.path.isdir(VENV):
        say("The existing .venv is broken or unfinished: removing it.")
        shutil.rmtree(VENV)
    say(f"Making .venv with Python {sys.version.split()[0]} ...")
    if subprocess.run([sys.executable, "-m", "venv", VENV]).returncode:
        sys.exit("Could not make .venv: is Python's venv module installed (on Debian: apt install python3-venv)?")


def run(command, env=None):
    """Run an installer and print its progress; return whether it succeeded, and print its last lines if not."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    last_lines = []
    for line in process.stdout:
        last_lines = ([*last_lines, line.rstrip()])[-15:]
        if line.strip().startswith(OUTPUT_PREFIXES):
            say("  " + line.strip()[:76])
    if process.wait() == 0:
        return True
    print("\n".join(last_lines), file=sys.stderr)
    return False


def pip_settings():
    """Return the settings of pip from its files and variables, as text by name."""
    command = [PYTHON, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    values = {}
    for line in output.stdout.splitlines():
        name, equals, text = line.partition("=")
        section, _, key = name.rpartition(".")
        if equals and section in ("global", "install", ":env:"):
            values[section, key] = str(ast.literal_eval(text))
    # Later sections win, as with pip.
    return {k: v for part in ("global", "install", ":env:") for (section, k), v in values.items() if section == part}


def uv_configuration(settings):
    """Return the options and variables that give uv the settings of pip; None if uv lacks one of them."""
    options, variables = [], {}
    for name, text in settings.items():
        is_on = text.strip().lower() not in ("", "0", "false", "no", "off")
        if name in UV_OPTIONS:
            options += [word for value in text.split() for word in (UV_OPTIONS[name], value)]
        elif name in UV_SWITCHES:
            options += [UV_SWITCHES[name]] if is_on else []
        elif name in UV_VARIABLES:
            variables.update(dict.fromkeys(UV_VARIABLES[name], text.strip()))
        elif name not in IGNORED_SETTINGS and is_on:
            return None
    # Like pip, take the best version of all indexes and trust the certificates of the system.
    return ["--index-strategy", "unsafe-best-match", "--system-certs", *options], variables


def install_by_uv(target):
    """Install uv into `.venv` and a target with it; return whether it succeeded."""
    configuration = uv_configuration(pip_settings())
    if configuration is None:
        return False
    options, variables = configuration
    if run([PYTHON, *PIP_INSTALL, "--retries", "1", "uv"]):
        command = [PYTHON, "-m", "uv", "pip", "install", "--python", PYTHON, *options, "-e", target]
        if run(command, {**os.environ, **variables}):
            return True
    say("Installation with uv failed: continuing with pip.")
    return False


def torch_choice():
    """Return the value of the variable SSGAN_TORCH: `auto`, `cpu` or `default`."""
    choice = os.environ.get("SSGAN_TORCH", "").strip().lower() or "auto"
    if choice not in TORCH_CHOICES:
        sys.exit("SSGAN_TORCH is {!r}, but must be one of {}.".format(choice, ", ".join(TORCH_CHOICES)))
    return choice


def has_nvidia():
    """Return whether the machine has an NVIDIA device, or a driver for one."""
    return bool(shutil.which("nvidia-smi")) or any(os.path.exists(path) for path in NVIDIA_PATHS)


def cpu_index_answers():
    """Return whether the index of torch for the CPU answers in time, including the lookup of its name."""
    answers = []

    def ask():
        request = urllib.request.Request(CPU_INDEX + "/torch/", method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS) as answer:
                answers.append(answer.status == 200)
        except (OSError, ValueError):
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return answers == [True]


def wants_cpu_torch():
    """Return whether to install torch for the CPU only; the usual torch has CUDA only on Linux."""
    choice = torch_choice()
    if choice != "auto":
        return choice == "cpu"
    if not sys.platform.startswith("linux") or has_nvidia():
        return False
    custom_index = {"index-url", "no-index", "find-links"} & set(pip_settings())  # the user chose another index
    return not custom_index and cpu_index_answers()


def torch_requirements():
    """Return the requirements of pyproject.toml that have a build for the CPU only."""
    import tomllib

    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as stream:
        dependencies = tomllib.load(stream)["project"].get("dependencies", [])
    return [requirement for requirement in dependencies if requirement.startswith("torch")]


def install_cpu_torch():
    """Install torch for the CPU only if it is wanted; if this fails, the usual torch is installed later."""
    if not wants_cpu_torch():
        return
    say(f"Installing torch for the CPU only from {CPU_INDEX} (with CUDA: SSGAN_TORCH=default) ...")
    if not run([PYTHON, *PIP_INSTALL, "--index-url", CPU_INDEX, *torch_requirements()]):
        say("This installation failed: continuing with the usual torch.")


def install(extra):
    """Install the package and print the progress; return whether it succeeded."""
    say("Installing ssgan and its libraries (the first time: minutes and gigabytes, most of it torch) ...")
    install_cpu_torch()
    target = ROOT + ("[" + extra + "]" if extra else "")
    if not (install_by_uv(target) or run([PYTHON, *PIP_INSTALL, "-e", target])):
        return False
    with open(stamp(extra), "w") as stream:
        stream.write(fingerprint(extra))
    return True


def is_usable():
    """Return whether the Python of `.venv` runs, is new enough and has pip."""
    check = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([PYTHON, "-c", check], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:  # there is no Python, or it cannot be executed
        return False


def ensure(extra=""):
    """Make `.venv` ready with an extra of pyproject.toml; return the path of its Python."""
    restart_with_new_enough_python()
    torch_choice()  # fail on an invalid choice before anything is installed
    if is_complete(extra):
        return PYTHON
    if not is_usable():
        make()
    if install(extra) and is_complete(extra):
        return PYTHON
    say("Installation failed: starting again from an empty .venv.")
    make()
    if not (install(extra) and is_complete(extra)):
        sys.exit("Installation failed twice; see the lines above. Without a network, pip cannot fetch the libraries.")
    return PYTHON


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    if chosen not in EXTRA_MODULES:
        sys.exit(f"Unknown extra {chosen!r}: choose test or dev, or none.")
    say("Ready: " + ensure(chosen))
