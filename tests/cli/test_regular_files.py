"""Only regular files are opened: a pipe, socket or device is named in an error, and no command waits for it."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import classes, grey, packed, write
from running import contents, status_of
from small_mnist import Downloads

from ssgan.data import feature_cache, image_array
from ssgan.data.datasets import IDX_FILES
from ssgan.errors import UserError
from ssgan.figures import image_grid
from ssgan.files import IrregularFile, open_atomic, open_file, refuse_irregular

# A process that opens a pipe waits forever, hence the timeout.
pytestmark = [pytest.mark.usefixtures("in_an_empty_folder"), pytest.mark.timeout(60)]

IRREGULAR = "it is not a regular file"


def pipe(path: str | Path) -> Path:
    """Create a pipe at this path, in place of a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


@contextmanager
def bound_socket(path: Path) -> Iterator[Path]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
        yield path


def test_a_regular_file_and_a_link_to_one_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_file(tmp_path / name) as stream:
            assert stream.read() == b"mine"
    with open_file(tmp_path / "link", "ab") as stream:
        stream.write(b"!")
    assert (tmp_path / "file").read_bytes() == b"mine!"
    for name in ("none", "a\0b", "\ud800"):
        with pytest.raises(FileNotFoundError):
            open_file(tmp_path / name)


@pytest.mark.parametrize("mode", ["rb", "r+b", "wb", "ab"])
def test_open_file_refuses_other_file_types_without_waiting(tmp_path: Path, mode: str) -> None:
    (tmp_path / "link").symlink_to(pipe("pipe"))
    with bound_socket(tmp_path / "socket") as place:
        for path in (tmp_path / "pipe", tmp_path / "link", place, Path("/dev/null"), Path("/dev/stdin")):
            with pytest.raises(IrregularFile, match=IRREGULAR):
                open_file(path, mode)
    with pytest.raises(IsADirectoryError):
        open_file(tmp_path, mode)


def test_open_file_refuses_file_replaced_by_pipe_after_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The open file is checked too, and opening does not wait for the other end of a pipe."""
    path = pipe("pipe")
    Path("file").write_bytes(b"")
    regular, look = os.stat("file"), os.stat
    monkeypatch.setattr(os, "stat", lambda name, *_, **__: regular if str(name) == str(path) else look(name))
    before = os.listdir("/proc/self/fd") if Path("/proc/self/fd").exists() else None
    with pytest.raises(IrregularFile):
        open_file(path)
    assert before is None or len(os.listdir("/proc/self/fd")) == len(before)


def test_open_atomic_replaces_existing_part_file(tmp_path: Path) -> None:
    """A pipe or link with the name of the part file is replaced: no waiting, and no write to another file."""
    pipe(".a.json.part")
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / ".b.json.part").symlink_to("other")
    for name in ("a.json", "b.json"):
        with open_atomic(tmp_path / name) as stream:
            stream.write(b"new")
    assert contents(tmp_path) == {"a.json": b"new", "b.json": b"new", "other": b"other"}


# Files of a run


COMMANDS_BY_RUN_FILE = {
    "config.json": [["evaluate"], ["predict"], ["data"], ["sample"], ["resume"], ["config"]],
    "report.json": [["evaluate"], ["predict"], ["data"], ["resume"]],
    "split.json": [["data"], ["resume"]],
    "checkpoint": [["evaluate"], ["predict"], ["sample"], ["resume"]],
    "log.jsonl": [["resume"]],
}
COMMANDS = {
    "evaluate": ["evaluate", "run"],
    "predict": ["predict", "run", "x.png"],
    "data": ["data", "run"],
    "sample": ["sample", "run"],
    "resume": ["train", "digits", "--out", "run", "--resume"],
    "config": ["train", "digits", "--config", "run/config.json", "--out", "other"],
}
CASES = [(name, command) for name, commands in COMMANDS_BY_RUN_FILE.items() for (command,) in commands]


@pytest.mark.parametrize(("name", "command"), CASES)
def test_pipe_in_run_folder_is_refused_with_one_line(
    run: Path, name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "resume" and name != "report.json":
        (run / "report.json").unlink()
    pipe(run / name)
    capsys.readouterr()
    assert status_of(*COMMANDS[command], *(["--device", "cpu"] if command != "data" else [])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(("ssgan: run", "ssgan: There is no run"))
    assert name in line


def test_animate_refuses_pipe_as_frame(run: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as a picture"):
        image_grid.animate({1: pipe(run / "frames" / "000000001.png")}, ".gif")


# Data


def folder(*pipes: str) -> list[str]:
    write(Path("a"), classes(each=4))
    for name in pipes:
        pipe(Path("a", name))
    return ["a"]


def labels_csv() -> list[str]:
    write(Path("a"), {f"{i}.png": grey(i) for i in range(6)})
    return ["a", "--labels-csv", str(pipe("l.csv"))]


DATA = {
    "npz": (lambda: [str(pipe("a.npz"))], f"a.npz cannot be read ({IRREGULAR})."),
    "zip": (lambda: [str(pipe("a.zip"))], f"a.zip cannot be read ({IRREGULAR})."),
    "labels": (labels_csv, f"l.csv cannot be read ({IRREGULAR})."),
    "pipe": (lambda: [str(pipe("a/b"))], "a/b is not a data set"),
    "device": (lambda: ["/dev/zero"], "/dev/zero is not a data set"),
    "cifar10": (
        lambda: ["cifar10", "--data-dir", str(pipe("d/cifar10.npz").parent)],
        "is not a regular file: remove it",
    ),
    "mnist": (lambda: ["mnist", "--data-dir", str(pipe(f"d/MNIST/raw/{IDX_FILES[0]}").parents[2])], "is not a regular"),
    "gz": (lambda: ["mnist", "--data-dir", str(pipe(f"d/MNIST/raw/{IDX_FILES[1]}.gz").parents[2])], "is not a regular"),
}


@pytest.mark.parametrize(("build", "words"), DATA.values(), ids=DATA)
def test_pipe_or_device_as_data_is_refused(
    mistake: Callable[..., str], build: Callable[[], list[str]], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", Downloads())
    assert words in mistake("data", *build())


def test_a_pipe_among_pictures_is_skipped_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("data", *folder("cat/x.png", "notes.txt", "dog/y.PNG")) == 0
    said = capsys.readouterr().out
    assert "Skipped files that cannot be read: 2 " in said
    assert "cat/x.png is not a regular file; dog/y.PNG is not a regular file" in said


def test_predict_writes_row_with_reason_for_pipes_and_sockets(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "p", {"good.png": grey(1)})
    packed(tmp_path / "good.zip", {"a.png": grey(2)})
    names = [str(pipe(f"p/{name}")) for name in ("x.png", "y.zip", "z.npz")]
    with bound_socket(tmp_path / "s.png"):
        assert status_of("predict", run, "p", *names[1:], "s.png", "/dev/stdin", "good.zip", "--device", "cpu") == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split(",")[0] for row in rows if IRREGULAR in row] == [*names, "s.png", "/dev/stdin"]
    assert len(rows) == 7


def test_report_and_compare_refuse_pipe_as_row_file(mistake: Callable[..., str]) -> None:
    path = pipe("r.jsonl")
    assert mistake("report", path, "--out", "page") == f"r.jsonl cannot be read ({IRREGULAR})."
    assert "which is not a regular file" in mistake("compare", "digits", "--labels", "20", "--out", path)


def test_picture_output_does_not_replace_pipe(mistake: Callable[..., str], run: Path) -> None:
    words = "which is not a regular file: choose another file."
    assert mistake("sample", run, "--out", pipe("s.png")) == f"--out is s.png, {words}"
    assert mistake("predict", run, "x.png", "--sheet", "s.png") == f"--sheet is s.png, {words}"


def test_table_output_does_not_replace_pipe(mistake: Callable[..., str], run: Path) -> None:
    assert mistake("predict", run, "x.png", "--out", pipe("t.csv")) == (
        "--out is t.csv, which is not a regular file: choose another file."
    )


# Caches: an unreadable entry is only computed again


def test_pipes_in_the_caches_count_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path))
    pipe("decoded/key.npz")
    assert image_array.load_cached("key") is None
    image_array.save_cached("key", {"x": np.arange(3)})
    loaded = image_array.load_cached("key")
    assert loaded is not None
    assert loaded["x"].tolist() == [0, 1, 2]
    for kind in ("features", "keys"):
        shutil.rmtree("cache", ignore_errors=True)
        pipe(f"cache/2.{kind}")
        images = np.arange(6, dtype=np.uint8).reshape(3, 2)
        features = feature_cache.compute_features(images, lambda x: x.astype(np.float16), Path("cache"), 2)
        assert features.tolist() == images.tolist()


def test_refuse_irregular_accepts_files_and_refuses_pipes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    refuse_irregular([tmp_path, tmp_path / "file", tmp_path / "none", tmp_path / ("x" * 300)])
    with pytest.raises(UserError, match="pipe is not a regular file: remove it"):
        refuse_irregular([tmp_path / "file", pipe(tmp_path / "pipe")])
