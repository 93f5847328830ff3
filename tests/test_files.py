"""Atomic writes, JSON lines, locks, and checkpoints that are loaded without running any code."""

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch

import ssgan
from ssgan import files, runs
from ssgan.cli.app import error_message
from ssgan.errors import Busy, UserError
from ssgan.files import lock, read_json_lines, write_atomic, write_json
from ssgan.settings.config import Config
from ssgan.settings.options import Options

STATE: dict[str, Any] = {
    "config": {"method": "gan", "labels": None, "widths": [16, 8], "rate": 2e-3, "root": True},
    "networks": {"D": {"parameters": {"w": torch.arange(6, dtype=torch.float64).reshape(2, 3) / 7}, "buffers": {}}},
    "averaged": {"w": torch.tensor([1.5, -2.25])},
    "seeds": [0, 1],
    "step": torch.tensor(3),
}


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[!.]*"))


# Atomic writes


def test_write_atomic_creates_and_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for content in (b"first, the longer one", b"second"):
        write_atomic(path, content)
        assert path.read_bytes() == content
        assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "b.bin", b"new")
    assert path.read_bytes() == b"old"
    assert visible(tmp_path) == ["a.bin"]


def test_write_error_names_the_final_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the hidden temporary file."""

    def forbidden(path: str, *_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(PermissionError) as caught:
        write_atomic(tmp_path / "split.json", b"")
    assert error_message(caught.value) == f"{tmp_path / 'split.json'} cannot be used (Permission denied)."


def test_checkpoint_without_read_permission_is_not_reported_as_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: str, *_: Any) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(UserError) as caught:
        runs.load_checkpoint(tmp_path / "checkpoint")
    assert str(caught.value) == f"{tmp_path / 'checkpoint'} cannot be read (Permission denied)."


def test_content_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    synced = []

    def look(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", look)
    write_atomic(path, b"12345")
    assert synced[0] == (5, False)
    assert path.read_bytes() == b"12345"


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    """Each writes its own temporary file; one that a killed process left is replaced."""
    path = tmp_path / "file"
    (tmp_path / ".file.part").write_bytes(b"left by a killed process")
    with files.open_atomic(path) as first:
        first.write(b"A hal")
        with files.open_atomic(path) as second:
            second.write(b"B whole")
        assert path.read_bytes() == b"B whole"
        first.write(b"f")
    assert path.read_bytes() == b"A half"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_write_json_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"error": 1.5, "seeds": [0]})
    assert path.read_text() == '{\n  "error": 1.5,\n  "seeds": [\n    0\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"error": float("nan")})
    assert '"error": 1.5' in path.read_text()


# Lines of JSON


def test_read_json_lines_gives_line_numbers_offsets_and_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n[2]\n{"a": \n\xff\n' + b"[" * 100_000 + b'\n{"b": "\xc3\xbc"}')
    lines = read_json_lines(path)
    assert [(line.number, line.value) for line in lines] == [
        (1, {"a": 1}),
        (4, [2]),
        (5, None),
        (6, None),
        (7, None),
        (8, {"b": "ü"}),
    ]
    assert [line.number for line in lines if line.error is not None] == [5, 6, 7]
    content = path.read_bytes()
    assert all(content[line.start :].startswith(line.text) for line in lines)
    assert lines[-1].start + len(lines[-1].text) == len(content)


def test_read_json_lines_keeps_the_error_of_the_parser(tmp_path: Path) -> None:
    def parse(text: bytes) -> int:
        if text == b"3\n":
            raise ValueError("is three")
        return int(text)

    (tmp_path / "a").write_text("1\n3\n5")
    assert [(line.value, line.error and str(line.error)) for line in read_json_lines(tmp_path / "a", parse)] == [
        (1, None),
        (None, "is three"),
        (5, None),
    ]


# Locks

WITHOUT_FCNTL = "import sys; sys.modules['fcntl'] = None\n"
HOLD = """
import sys, time
from pathlib import Path
from ssgan.files import lock
with lock(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    time.sleep(60)
"""
TRY = """
import sys
from pathlib import Path
from ssgan.errors import Busy
from ssgan.files import lock
try:
    with lock(Path(sys.argv[1]), "Somebody is there."):
        print("free")
except Busy as busy:
    print(busy)
"""


def python(code: str, path: Path) -> list[str]:
    return [sys.executable, "-c", code, str(path)]


@pytest.mark.parametrize("beginning", ["", WITHOUT_FCNTL], ids=["fcntl", "no fcntl"])
def test_lock_refuses_another_process_and_ends_with_its_holder(tmp_path: Path, beginning: str) -> None:
    path = tmp_path / ".lock"
    environment = {**os.environ, "PYTHONPATH": str(Path(ssgan.__file__).parents[1])}

    def attempt() -> str:
        done = subprocess.run(
            python(beginning + TRY, path), env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stderr == ""
        return done.stdout

    assert attempt() == "free\n"
    assert list(tmp_path.iterdir()) == []
    holder = subprocess.Popen(python(beginning + HOLD, path), env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        way_out = f" If nothing runs there, delete {path}." if beginning else ""
        assert attempt() == f"Somebody is there.{way_out}\n"
    finally:
        holder.kill()
        holder.wait()
    assert path.exists()  # the remaining file does not lock
    assert attempt() == "free\n"
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_not_shared_within_a_process(tmp_path: Path) -> None:
    with lock(tmp_path / ".lock", "first"), pytest.raises(Busy, match=r"^second$"), lock(tmp_path / ".lock", "second"):
        pass
    with pytest.raises(ZeroDivisionError), lock(tmp_path / ".lock", "busy"):
        raise ZeroDivisionError
    with lock(tmp_path / ".lock", "busy"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EMFILE])
def test_lock_in_an_unwritable_folder_gives_an_error_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(UserError) as caught, lock(tmp_path / ".lock", "busy"):
        pass
    assert str(caught.value) == f"{tmp_path} cannot be written to ({os.strerror(code)})."


def test_lock_is_skipped_on_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with lock(tmp_path / ".lock", "busy"):
        (tmp_path / "a").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# Checkpoints


def assert_same(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key, value in left.items():
            assert_same(value, right[key])
    else:
        assert left == right


def test_checkpoint_round_trip_keeps_the_state(tmp_path: Path) -> None:
    runs.save_checkpoint(tmp_path / "checkpoint", STATE)
    assert_same(runs.load_checkpoint(tmp_path / "checkpoint"), {"format_version": 2, **STATE})
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    runs.save_checkpoint(path, STATE)
    whole = path.read_bytes()
    for length in (0, 1, 4, 100, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as refused:
            runs.load_checkpoint(path)
        assert str(refused.value) == f"{path} cannot be read as a checkpoint: it is damaged or in another format."


@pytest.mark.parametrize(
    "text",
    [
        "not a checkpoint\n",
        '{"config": {}}\n',
        "PK\x03\x04 is how a zip begins",
        " ",
        "hello\n",
        "accuracy 95 %\n",
    ],
)
def test_a_text_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "checkpoint"
    path.write_text(text)
    with pytest.raises(UserError, match="cannot be read as a checkpoint: it is damaged or in another format"):
        runs.load_checkpoint(path)


class Trap:
    """Unpickling this creates a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["pickle", "torch", "torch, old form"])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, form: str) -> None:
    path, sprung = tmp_path / "checkpoint", tmp_path / "sprung"
    content = {"format_version": 1, "config": Trap(sprung)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        runs.load_checkpoint(path)
    assert not sprung.exists()
    # Control: loading it without protection runs the code.
    if form == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert sprung.is_dir()


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ({"format_version": 1}, "1"),
        ({"format_version": "2"}, '"2"'),
        ({"format_version": torch.tensor([2, 2])}, "a Tensor"),
        ({"weights": {}}, "null"),
        ([1, 2], "null"),
    ],
)
def test_checkpoint_of_another_format_version_is_refused(tmp_path: Path, content: object, shown: str) -> None:
    path = tmp_path / "checkpoint"
    torch.save(content, path)
    with pytest.raises(UserError) as refused:
        runs.load_checkpoint(path)
    assert str(refused.value) == f"{path} has format version {shown}, but this version of ssgan reads 2."


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    with pytest.raises(UserError) as refused:
        runs.load_checkpoint(path)
    assert str(refused.value) == f"There is no {path}: the run did not finish, or this is not a run folder."
    path.mkdir()
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        runs.load_checkpoint(path)


# The log and the settings of a run folder


LINES = [json.dumps({"step": step, "L": [0.5, None]}) for step in (5, 10, 15, 20)]


def test_trim_log_keeps_lines_up_to_the_step_of_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is truncated anywhere, as by a kill: only whole lines up to the step are kept, in order."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    path, whole = tmp_path / "log.jsonl", "\n".join(LINES) + "\n"
    for steps_done in (0, 4, 5, 12, 20, 99):
        for cut in range(len(whole) + 1):
            path.write_text(whole[:cut])
            runs.trim_log(path, steps_done)
            ends = [len("\n".join(LINES[: i + 1])) for i in range(len(LINES))]
            kept = [line for line, end in zip(LINES, ends, strict=True) if end <= cut]
            assert path.read_text().splitlines() == [line for line in kept if json.loads(line)["step"] <= steps_done]
            assert path.read_text().endswith("\n" if path.read_text() else "")


def test_trim_log_drops_invalid_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    odd = [b"\xff\xfe\x00", b"7", b"[]", b"null", b"{}", b'{"step": null}', b'{"step": "5"}', b'{"step": [1]}', b""]
    path.write_bytes(b"\n".join([*odd, LINES[0].encode(), *odd, LINES[1].encode()]))
    runs.trim_log(path, 10)
    assert path.read_text().splitlines() == LINES[:2]
    (tmp_path / "none").mkdir()
    runs.trim_log(tmp_path / "none" / "log.jsonl", 10)
    assert list((tmp_path / "none").iterdir()) == []


def test_update_config_writes_only_changed_settings(tmp_path: Path) -> None:
    config = Config(labels=20, decay_last_fraction=0.0)
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    before = (folder / "config.json").stat().st_mtime_ns
    runs.update_config(folder, config)
    assert (folder / "config.json").stat().st_mtime_ns == before
    runs.update_config(folder, config.replace(report_every_images=7))
    assert runs.read_config(folder) == config.replace(report_every_images=7)
    with pytest.raises(UserError, match=r"is not a run folder: there is no config\.json in it\.$"):
        runs.update_config(tmp_path, config)
    assert visible(tmp_path) == ["run"]


def report(**change: Any) -> dict[str, Any]:
    words = {"dataset": "digits", "dataset_sha256": "abc", "method": "gan", "preset": "digits", "run": "run"}
    row = {"seed": 3, "draw_seed": 3, "split_sha256": "def", "diverged": None, "collapsed": None}
    return {
        **{**words, "labels": 20, "images": 400, "seeds": [3], "classes": ["0", "1"], "warnings": []},
        **{"device": "cpu", "device_name": "a processor", "images_per_second": 900.0, "seconds": 2.5},
        **{"accuracy_mean": 90.0, "accuracy_std": None, "error_mean": 10.0, "error_std": None},
        **{"errors": [10.0], "errors_raw": [11.0], "diverged": [], "collapsed": []},
        "rows": [{**row, "error": 10.0, "error_raw": 11.0, "ece": 0.1, "nll": 0.5}],
        **change,
    }


def test_report_is_of_a_finished_run_only_for_the_same_length_and_data(tmp_path: Path) -> None:
    config = Config(total_images=400, batch_size=20)
    assert runs.read_finished_report(tmp_path, config, "digits", "abc") is None
    write_json(tmp_path / "report.json", report())
    assert runs.read_finished_report(tmp_path, config, "digits", "abc") == report()
    # 409 images give the same number of steps as 400.
    assert runs.read_finished_report(tmp_path, config.replace(total_images=409), "digits", "abc") == report()
    for other in (420, 380):
        assert runs.read_finished_report(tmp_path, config.replace(total_images=other), "digits", "abc") is None
    with pytest.raises(UserError) as refused:
        runs.read_finished_report(tmp_path, config, "mine", "other")
    assert str(refused.value) == f"mine does not match digits as it was when {tmp_path} was trained."


def test_settings_are_read_from_a_run_or_a_file(tmp_path: Path) -> None:
    config = Config(labels=20)
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    assert runs.read_settings(folder) == runs.read_settings(folder / "config.json") == config.to_dict()
    (tmp_path / "mine.json").write_text('{"learning_rate_d": 1}')
    assert runs.read_settings(tmp_path / "mine.json") == {"learning_rate_d": 1}


def test_data_source_gives_the_arguments_of_load(tmp_path: Path) -> None:
    recorded = report(source={"data": "/far/few.npz", "data_dir": "/cache"})
    config, plain = Config(image_size=6), Options(image_size=6)
    assert runs.data_source(tmp_path, recorded, config) == ("/far/few.npz", "/cache", plain)
    assert runs.data_source(tmp_path, recorded, config, Path("here")) == ("/far/few.npz", Path("here"), plain)
    assert runs.data_source(tmp_path, report(source={"data": "digits", "data_dir": None}), config) == (
        "digits",
        None,
        plain,
    )
    table = report(source={"data": "flat", "data_dir": None, "labels_csv": "labels.csv"})
    assert runs.data_source(tmp_path, table, config)[2] == Options(image_size=6, labels_csv=Path("labels.csv"))
    # Reports of runs that were not started on the command line, or by an older version.
    for old in (report(source=None), report()):
        assert runs.data_source(tmp_path, old, config) == ("digits", None, plain)
        assert runs.data_source(tmp_path, old, config, Path("here")) == ("digits", Path("here"), plain)


@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
def test_lock_refuses_paths_that_are_not_regular_files(tmp_path: Path, kind: str) -> None:
    """It is neither opened nor followed, and the message names it."""
    path, target = tmp_path / ".lock", tmp_path / "target"
    target.write_text("kept")
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    with (
        pytest.raises(UserError, match="is not a regular file, so it cannot be used as a lock: delete it"),
        lock(path, "busy"),
    ):
        pytest.fail("locked")
    assert target.read_text() == "kept"
