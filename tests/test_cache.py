"""The user's cache folder: disabled by a variable, and limited in size."""

import os
from pathlib import Path

import pytest

from ssgan.cache import cache_folder, make_room
from ssgan.errors import UserError


def test_ssgan_cache_variable_disables_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path))
    for value, expected in (("", tmp_path / "kind"), ("on", tmp_path / "kind"), ("off", None)):
        monkeypatch.setenv("SSGAN_CACHE", value)
        assert cache_folder("kind") == expected
    monkeypatch.setenv("SSGAN_CACHE", "of")
    with pytest.raises(UserError, match=r"^SSGAN_CACHE is 'of', but must be on or off\.$"):
        cache_folder("kind")


def write(path: Path, size: int, age: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_make_room_deletes_the_oldest_entries(tmp_path: Path) -> None:
    old = write(tmp_path / "old" / "1.keys", 10, age=5)
    newer = write(tmp_path / "newer" / "1.keys", 10, age=9)
    write(tmp_path / "newer" / "1.features", 10, age=1)
    newest = write(tmp_path / "newest.keys", 10, age=0)
    foreign = write(tmp_path / "old" / "notes.txt", 1000, age=9)
    patterns = ["*.keys", "*/*.keys", "*/*.features"]
    make_room(tmp_path, patterns, 40)
    assert old.exists()
    make_room(tmp_path, patterns, 39)
    assert not old.exists()
    assert foreign.exists()
    assert newer.exists()
    make_room(tmp_path, patterns, 0, keep=newest)
    assert newest.exists()
    assert not newer.parent.exists()
    assert foreign.exists()


def test_make_room_keeps_the_entry_in_use(tmp_path: Path) -> None:
    old = write(tmp_path / "old.keys", 30, age=5)
    new = write(tmp_path / "new.keys", 20, age=0)
    make_room(tmp_path, ["*.keys"], 40, keep=old)
    assert (old.exists(), new.exists()) == (True, False)


def test_make_room_accepts_a_missing_folder(tmp_path: Path) -> None:
    make_room(tmp_path / "none", ["*"], 0)
