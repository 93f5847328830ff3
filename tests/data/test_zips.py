"""Zip files of images: their folders, and archives that are refused."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import ALL, classes, encoded, grey, packed
from refused_data import refusal

from ssgan.data import file_tree
from ssgan.data.dataset import Data
from ssgan.data.datasets import load
from ssgan.errors import UserError

pytestmark = pytest.mark.usefixtures("temporary_cache")


def test_single_top_level_folder_of_a_zip_is_skipped(tmp_path: Path) -> None:
    files = {f"my photos/{name}": image for name, image in classes().items()}
    extra = {"__MACOSX/my photos/cat/._0.png": b"", "my photos/.DS_Store": b"", "my photos/.git/x.png": b""}
    data = load(packed(tmp_path / "a.zip", {**extra, **files, "README.txt": b""}), None, ALL)
    assert data.name == "a"
    assert data.files_train == tuple(classes())
    assert data.file_counts["ignored"] == {".txt": 1, "hidden": 1}
    assert load(packed(tmp_path / "b.ZIP", classes("train/")), None, ALL).files_train == tuple(classes("train/"))


@pytest.mark.parametrize(
    "name", ["../x.png", "cat/../../x.png", "/etc/x.png", "\\\\cat\\x.png", "C:/x.png", "..", "cat/..\\x.png"]
)
def test_refuses_zips_with_absolute_or_parent_paths(tmp_path: Path, name: str) -> None:
    path = packed(tmp_path / "a.zip", {**classes(), name: grey(1)})
    sentence = refusal(path)
    assert sentence.startswith(f"{path} holds a member named {name!r}, but names in a zip must be relative")
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip"}


def rewritten(path: Path, change: Callable[[zipfile.ZipInfo], None]) -> Path:
    """Change the central directory of a zip so that it contradicts the members."""
    with zipfile.ZipFile(path, "a") as archive:
        for member in archive.infolist():
            change(member)
        archive._didModify = True  # type: ignore[attr-defined]
    return path


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", classes())
    content = path.read_bytes().replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\x01\0")
    path.write_bytes(content)
    assert refusal(path) == f"{path} is encrypted (cat/0.png): unpack it, and give the folder."


def test_refuses_zip_bombs_by_their_declared_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grow(member: zipfile.ZipInfo) -> None:
        if member.filename == "cat/1.png":
            member.file_size = 2**30

    path = rewritten(packed(tmp_path / "a.zip", classes()), grow)
    assert refusal(path) == (
        f"{path} declares that cat/1.png unpacks to more than 256 MiB, which no picture should: if you trust it, "
        f"unpack it, and give the folder."
    )
    path = packed(tmp_path / "b.zip", {name: bytes(2**20) for name in classes()})
    monkeypatch.setattr(file_tree, "TOTAL_LIMIT", 4 * 2**20)
    assert "all of it unpacks to more than 4 MiB" in refusal(path)


def test_member_is_read_only_up_to_its_declared_size(tmp_path: Path) -> None:
    def shrink(member: zipfile.ZipInfo) -> None:
        if member.filename == "cat/1.png":
            member.file_size = 10

    data = load(rewritten(packed(tmp_path / "a.zip", classes()), shrink), None, ALL)
    ((name, reason),) = data.skipped
    assert name == "cat/1.png"
    assert reason.startswith("cannot be unpacked (") or "decoded" in reason


def test_a_damaged_member_is_listed_and_a_damaged_zip_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", classes())
    content = path.read_bytes()
    at = content.index(encoded(grey(1)))
    path.write_bytes(content[: at + 60] + b"????" + content[at + 64 :])
    ((name, reason),) = load(path, None, ALL).skipped
    assert (name, reason.split(" (")[0]) == ("cat/1.png", "cannot be unpacked")
    for damaged in (content[: len(content) // 2], b"", b"no zip"):
        path.write_bytes(damaged)
        assert refusal(path) == f"{path} cannot be read as a zip: it is damaged or in another format."


def test_names_of_a_zip_in_utf8_without_the_flag_are_read(tmp_path: Path) -> None:
    """As the macOS archiver writes them; the file has each name twice, before the member and at the end."""
    path = packed(tmp_path / "a.zip", classes(names=("cat", "doXX")))
    path.write_bytes(path.read_bytes().replace(b"doXX", "doé".encode()))
    assert load(path).classes == ("cat", "doé")


def test_refuses_duplicate_member_names(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", classes())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("cat/0.png", encoded(grey(50)))
    assert refusal(path) == f"{path} holds two files named cat/0.png: rename one of them."


def test_nothing_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.zip", classes())
    monkeypatch.setenv("SSGAN_CACHE", "off")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_number_of_file_names_must_match_the_rows() -> None:
    x, y = np.zeros((2, 4, 4), np.uint8), np.array([0, 1])
    with pytest.raises(UserError, match="files_train names 3 files, but must name one for each of the 2 rows"):
        Data(x, y, x, y, ("a", "b"), files_train=("1", "2", "3"))
