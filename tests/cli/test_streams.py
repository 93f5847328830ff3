"""Standard streams that are closed, full, or whose reader has exited."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pictures_on_disk import grey, write

import ssgan

FULL = Path("/dev/full")
Shell = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(run: Path, tmp_path: Path) -> Shell:
    """Run a shell line in a folder with a run and a picture; a pipeline returns the status of `ssgan`."""
    write(tmp_path, {"x.png": grey(1)})
    environment = {**os.environ, "PYTHONPATH": str(Path(ssgan.__file__).parents[1]), "OMP_NUM_THREADS": "1"}

    def execute(line: str) -> "subprocess.CompletedProcess[str]":
        program = f'set -o pipefail; ssgan() {{ {sys.executable} -m ssgan.cli "$@"; }}; {line}'
        command = ["bash", "-c", program]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    return execute


def test_closed_output_acts_like_dev_null(shell: Shell, tmp_path: Path) -> None:
    done = shell("ssgan predict run x.png --device cpu >&-")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("by the model of seed 3")
    assert done.stderr.count("\n") == 2  # the second line is the note on calibration
    done = shell("ssgan predict run x.png --out t.csv --json --device cpu <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "t.csv").read_text().startswith("file,class")  # no other output was written into it
    assert "by the model" not in (tmp_path / "t.csv").read_text()


def test_closed_input_is_refused_as_image_list(shell: Shell) -> None:
    done = shell("ssgan predict run - --device cpu <&-")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ssgan: Standard input names no image: give one path per line, or files and folders.\n"


@pytest.mark.parametrize(
    "command", ["predict run x.png x.png --device cpu", "data digits", "data digits --json", "--help"]
)
def test_closed_pipe_exits_quietly_with_sigpipe_status(shell: Shell, command: str) -> None:
    """The status is that of a program ended by SIGPIPE, as for `git` or `grep`."""
    done = shell(f"ssgan {command} | true")
    assert done.returncode == 141, done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("by the model")] == []


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["predict run x.png --device cpu", "data digits", "data digits --json"])
def test_full_output_device_prints_one_line_error(shell: Shell, command: str) -> None:
    done = shell(f"ssgan {command} >/dev/full")
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("by the model")]
    assert lines == ["ssgan: There is no space left on the disk (output): free some and try again."]


def test_names_are_printed_as_bytes_to_a_file_and_escaped_to_a_terminal(
    run: Path, tmp_path: Path, shell: Shell
) -> None:
    odd = b"a\x1b[31m\n\xe9.png"
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + odd)).write_bytes((tmp_path / "x.png").read_bytes())
    environment = {**os.environ, "PYTHONPATH": str(Path(ssgan.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ssgan.cli", "predict", "run", odd, "--device", "cpu"]
    plain = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=120, check=True).stdout
    assert b'\n"' + odd + b'",' in plain
    pty = pytest.importorskip("pty", reason="needs terminals")
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=theirs, stderr=subprocess.DEVNULL) as process:
        os.close(theirs)
        process.wait(timeout=120)
        shown = os.read(ours, 10_000)
    os.close(ours)
    assert rb"a\x1b[31m\n\xe9.png," in shown
    assert b"\x1b" not in shown
