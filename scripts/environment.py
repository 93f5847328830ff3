#!/usr/bin/env python3
"""Make `.venv` beside this folder ready to use: `python3 scripts/environment.py [test|dev]`.

Needs nothing but Python. A broken or half-made `.venv` is mended or made anew; one that is whole is
used as it is, in about five seconds. Written for any Python 3, so that an old one gets a sentence
instead of a syntax error.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
PYTHON = os.path.join(BIN, "python")
OLDEST = (3, 11)
WHOLE = "import torch, torchvision, sklearn, numpy, typer, rich, matplotlib, PIL, ssgan"
EXTRA_MODULES = {"": "", "test": ", pytest, hypothesis, pytest_timeout", "dev": ", pytest, hypothesis, mypy, ruff"}
SHOWN = ("Collecting ", "Downloading ", "Installing collected", "Successfully installed")


def say(text):
    """One line, at once."""
    print(text, flush=True)


def restart_with_new_enough_python():
    """Run this program again under a Python that will do, where this one is too old."""
    if sys.version_info >= OLDEST:
        return
    for minor in range(20, OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            os.execv(found, [found, *sys.argv])
    sys.exit(f"ssgan needs Python 3.11 or newer, and this is {sys.version.split()[0]}: install one and try again.")


def fingerprint(extra):
    """What the environment was installed from."""
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as stream:
        return hashlib.sha256(stream.read() + extra.encode() + ROOT.encode()).hexdigest()


def stamp(extra):
    """The file that says an installation came to its end."""
    return os.path.join(VENV, "ssgan-installed-" + (extra or "plain"))


def is_whole(extra):
    """Whether `.venv` was installed from today's pyproject.toml and every package in it can be imported."""
    try:
        with open(stamp(extra)) as stream:
            if stream.read() != fingerprint(extra):
                return False
    except OSError:
        return False
    say("Checking .venv ...")
    command = [PYTHON, "-c", WHOLE + EXTRA_MODULES[extra]]
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def make():
    """A fresh, empty `.venv`."""
    if os.path.islink(VENV) or os.path.isfile(VENV):
        os.remove(VENV)
    elif os.path.isdir(VENV):
        say("The .venv that is here is broken or unfinished: removing it.")
        shutil.rmtree(VENV)
    say(f"Making .venv with Python {sys.version.split()[0]} ...")
    if subprocess.run([sys.executable, "-m", "venv", VENV]).returncode:
        sys.exit("Could not make .venv: is Python's venv module installed (on Debian: apt install python3-venv)?")


def install(extra):
    """Install the package, showing what is being fetched; return whether it worked."""
    say("Installing ssgan and its libraries (the first time: several minutes and gigabytes, most of it torch) ...")
    target = ROOT + (f"[{extra}]" if extra else "")
    command = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-e", target]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    last = []
    for line in process.stdout:
        last = ([*last, line.rstrip()])[-15:]
        if line.strip().startswith(SHOWN):
            say("  " + line.strip()[:76])
    if process.wait() == 0:
        with open(stamp(extra), "w") as stream:
            stream.write(fingerprint(extra))
        return True
    print("\n".join(last), file=sys.stderr)
    return False


def ensure(extra=""):
    """Make `.venv` ready with an extra of pyproject.toml; return its Python."""
    restart_with_new_enough_python()
    if is_whole(extra):
        return PYTHON
    usable = os.path.exists(PYTHON) and subprocess.run(
        [PYTHON, "-c", "import pip, sys; sys.exit(sys.version_info < (3, 11))"], stderr=subprocess.DEVNULL
    )
    if not usable or usable.returncode:
        make()
    if install(extra) and is_whole(extra):
        return PYTHON
    say("That did not work: starting again from an empty .venv.")
    make()
    if not (install(extra) and is_whole(extra)):
        sys.exit(
            "Installation failed twice; the lines above say why. Without a network, pip cannot fetch the libraries."
        )
    return PYTHON


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    if chosen not in EXTRA_MODULES:
        sys.exit(f"Unknown extra {chosen!r}: choose test or dev, or none.")
    say("Ready: " + ensure(chosen))
