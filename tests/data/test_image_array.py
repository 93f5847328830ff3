"""Many pictures in one array: decoding, and a cache of decoded pictures with keys that depend on the content."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_on_disk import classes, grey, packed, write

import ssgan
from ssgan.data import file_tree, image_array, image_io
from ssgan.data.datasets import load
from ssgan.data.image_array import ImageArray, read_images, reorder_in_place
from ssgan.errors import UserError
from ssgan.settings.options import Options


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache of decoded pictures."""
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("SSGAN_CACHE", raising=False)
    return tmp_path / "cache" / "decoded"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list with one entry for each decoded picture."""
    count: list[int] = []
    decode = image_io.decode

    def counting(*arguments: Any) -> np.ndarray:
        count.append(1)
        return decode(*arguments)

    monkeypatch.setattr(image_io, "decode", counting)
    return count


def read_folder(path: Path, size: int | None = None, mode: str = "auto", **more: Any) -> ImageArray:
    with file_tree.open_tree(path, image_io.SUFFIXES) as tree:
        return read_images(tree, size, mode, **more)


# Decoding


def test_rows_are_in_the_order_of_the_files(tmp_path: Path, cache_folder: Path) -> None:
    folder = write(tmp_path / "a", {f"{i:03d}.png": grey(i) for i in range(200)})
    found = read_folder(folder)
    assert found.names == [f"{i:03d}.png" for i in range(200)]
    assert found.x.dtype == np.uint8
    assert all(np.array_equal(image, grey(i)) for i, image in enumerate(found.x))


def test_decodes_in_several_threads(tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_array, "_processor_count", lambda: 3)
    monkeypatch.setattr(image_array, "CHUNK", 1)
    together, decode = threading.Barrier(3, timeout=30), image_io.decode

    def meeting(*arguments: Any) -> np.ndarray:
        together.wait()  # continues once three threads wait here
        return decode(*arguments)

    monkeypatch.setattr(image_io, "decode", meeting)
    assert len(read_folder(write(tmp_path / "a", {f"{i}.png": grey(i) for i in range(9)})).x) == 9


def test_progress_counts_up_to_the_end(tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_array, "CHUNK", 4)
    calls: list[tuple[str, int, int]] = []
    read_folder(
        write(tmp_path / "a", {f"{i}.png": grey(i) for i in range(10)}), progress=lambda *words: calls.append(words)
    )
    steps = [0, 4, 8, 10]
    assert calls == [(what, done, 10) for what in ("looking at", "decoding") for done in steps]


def test_keyboard_interrupt_stops_decoding_early(
    tmp_path: Path, cache_folder: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_array, "CHUNK", 1)

    def interrupt(what: str, done: int, _: int) -> None:
        if what == "decoding" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_folder(write(tmp_path / "a", {f"{i:03d}.png": grey(i) for i in range(400)}), progress=interrupt)
    assert len(decoded) < 400
    assert not cache_folder.exists()


def test_skips_pictures_whose_size_differs_from_their_header(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = image_io.decode
    monkeypatch.setattr(
        image_io, "decode", lambda stream, *rest: decode(stream, *rest)[: 7 if "1.png" in stream.name else 8]
    )
    found = read_folder(write(tmp_path / "a", {f"{i}.png": grey(i) for i in range(3)}))
    assert found.skipped == [("1.png", "is 8x7, though its header says 8x8")]
    assert found.names == ["0.png", "2.png"]


def test_pool_and_test_set_are_views_of_one_array(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The array that was decoded into, or the one read from the cache."""
    found: list[ImageArray] = []
    monkeypatch.setattr(
        "ssgan.data.image_folder.read_images", lambda *words: found.append(read_images(*words)) or found[-1]
    )
    folder = write(tmp_path / "a", {**classes(each=10), "cat/x.png": b""})
    for _ in range(2):
        data = load(folder)
        assert len(data.x_test) == 4
        for x in (data.x_train, data.x_test):
            assert np.shares_memory(x, found[-1].x)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_rows_are_rearranged_in_place(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    order = data.draw(st.permutations(range(count)))[: data.draw(st.integers(0, count))]
    x = np.arange(count * 2, dtype=np.uint8).reshape(count, 2)
    expected = x[list(order)].copy()
    found = reorder_in_place(x, order)
    assert np.array_equal(found, expected)
    assert np.shares_memory(found, x) or not len(order)


# Cache of decoded pictures


def test_pictures_are_decoded_once(tmp_path: Path, cache_folder: Path, decoded: list[int]) -> None:
    folder = write(tmp_path / "a", {**classes(each=3), "cat/x.png": b"", "unlabeled/1.png": grey(9)})
    first = load(folder)
    assert len(decoded) == 7
    assert len(list(cache_folder.iterdir())) == 1
    again = load(folder)
    assert len(decoded) == 7
    assert again.sha256 == first.sha256
    for name in ("files_train", "files_test", "skipped", "file_counts", "classes"):
        assert getattr(again, name) == getattr(first, name), name
    again.x_train[0] = 1  # a private copy: the cache does not change
    assert load(folder).sha256 == first.sha256


def test_test_split_settings_do_not_decode_again(tmp_path: Path, cache_folder: Path, decoded: list[int]) -> None:
    folder = write(tmp_path / "a", classes(each=5))
    for options in (Options(), Options(test_seed=3), Options(test_share=0)):
        load(folder, None, options)
    assert len(decoded) == 10


def test_each_size_and_mode_is_decoded_separately(tmp_path: Path, cache_folder: Path, decoded: list[int]) -> None:
    folder = write(tmp_path / "a", classes(each=2))
    for options in (Options(), Options(image_size=4), Options(image_size=5), Options(image_mode="rgb")):
        load(folder, None, options)
    assert len(decoded) == 16


@pytest.mark.parametrize("change", ["content", "name", "another", "one less", "place", "zip"])
def test_changed_files_are_decoded_again(tmp_path: Path, cache_folder: Path, change: str) -> None:
    files = classes(each=2)
    folder = write(tmp_path / "a", files)
    path = packed(tmp_path / "a.zip", files) if change == "zip" else folder
    before = load(path, None, Options(test_share=0))
    victim = folder / "cat" / "0.png"
    if change == "content":
        old_stat = victim.stat()
        other = grey(0).copy()
        other[0, 0] ^= 1
        content = victim.read_bytes()
        write(folder, {"cat/0.png": other})
        assert len(victim.read_bytes()) == len(content)
        os.utime(victim, ns=(old_stat.st_atime_ns, old_stat.st_mtime_ns))  # as after `cp -p`
    elif change == "name":
        victim.rename(victim.with_name("z.png"))
    elif change == "another":
        write(folder, {"cat/5.png": grey(5)})
    elif change == "one less":
        victim.unlink()
    elif change == "place":
        path = folder.rename(tmp_path / "b")
    else:
        packed(path, {**files, "cat/0.png": grey(77)})
    after = load(path, None, Options(test_share=0))
    assert (after.sha256 == before.sha256) == (change == "place")
    assert len(list(cache_folder.iterdir())) == 2


def test_another_decoder_version_decodes_again(
    tmp_path: Path, cache_folder: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "a", classes(each=2))
    load(folder)
    monkeypatch.setattr(image_io, "DECODER", "2 of tomorrow")
    load(folder)
    assert len(decoded) == 8


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "folder", "other arrays", "pickle"])
def test_pictures_of_a_damaged_cache_are_decoded_again(
    tmp_path: Path, cache_folder: Path, decoded: list[int], damage: str
) -> None:
    folder = write(tmp_path / "a", classes(each=2))
    whole = load(folder)
    (entry,) = cache_folder.iterdir()
    content = bytearray(entry.read_bytes())
    if damage == "flipped":
        at = content.index(grey(0).tobytes())
        content[at] ^= 1
    new = {"cut": content[: len(content) // 2], "flipped": content, "empty": b"", "text": b"nothing of the kind"}
    if damage == "folder":
        entry.unlink()
        entry.mkdir()
    elif damage == "other arrays":
        np.savez(entry, x=whole.x_train)
    elif damage == "pickle":
        np.savez(entry, x=np.array([{}], object), about=np.zeros(1))
    else:
        entry.write_bytes(new[damage])
    assert load(folder).sha256 == whole.sha256
    assert len(decoded) == 8
    if damage != "folder":
        assert load(folder).sha256 == whole.sha256
        assert len(decoded) == 8
    assert [path.name for path in cache_folder.iterdir()] == [entry.name]


def test_the_cache_can_be_switched_off(
    tmp_path: Path, cache_folder: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "a", classes(each=2))
    load(folder)
    monkeypatch.setenv("SSGAN_CACHE", "off")
    load(folder)
    assert len(decoded) == 8
    load(folder, None, Options(image_size=4))
    assert len(list(cache_folder.iterdir())) == 1
    monkeypatch.setenv("SSGAN_CACHE", "of")
    with pytest.raises(UserError, match="SSGAN_CACHE is 'of', but must be on or off"):
        load(folder)


def test_loads_pictures_if_the_cache_cannot_be_written(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "a", classes(each=2))
    cache_folder.parent.write_text("a file where the folder should be")
    assert len(load(folder, None, Options(test_share=0)).x_train) == 4
    cache_folder.parent.unlink()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert len(load(folder, None, Options(test_share=0)).x_train) == 4
    assert list(cache_folder.iterdir()) == []


def test_failed_reads_are_not_cached(tmp_path: Path, cache_folder: Path) -> None:
    folder = write(tmp_path / "a", {"0.png": grey(0), "1.png": grey(1)})
    with file_tree.open_tree(folder, image_io.SUFFIXES) as tree:
        (folder / "1.png").unlink()
        found = read_images(tree, None, "auto")
    assert found.skipped == [("1.png", "cannot be opened (No such file or directory)")]
    assert not cache_folder.exists()


def test_two_processes_may_decode_at_once(tmp_path: Path, cache_folder: Path) -> None:
    folder = write(tmp_path / "a", classes(each=40))
    code = f"from ssgan import load; print(load({str(folder)!r}).sha256)"
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(ssgan.__file__).parents[1]),
        "SSGAN_DATA": str(cache_folder.parent),
    }
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = {process.communicate(timeout=60)[0] for process in running}
    assert outputs == {f"{load(folder).sha256}\n"}
    assert [path.suffix for path in cache_folder.iterdir()] == [".npz"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_an_entry_has_the_permissions_of_other_new_files(cache_folder: Path) -> None:
    """So that users who share a data folder can read it."""
    image_array.save_cached("a", {"x": np.zeros(8, np.uint8)})
    (cache_folder / "other").touch()
    assert (cache_folder / "a.npz").stat().st_mode == (cache_folder / "other").stat().st_mode


def test_least_recently_used_entries_are_deleted(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_array, "CACHE_BYTES", 3500)
    for i, key in enumerate("abc"):
        image_array.save_cached(key, {"x": np.full(800, i, np.uint8)})
        os.utime(cache_folder / f"{key}.npz", (i, i))
    assert image_array.load_cached("a") is not None  # so it is the most recently used
    (cache_folder / ".left.part").write_text("by a process that was killed")
    os.utime(cache_folder / ".left.part", (1, 1))
    (cache_folder / ".new.part").write_text("by one that is at it")
    image_array.save_cached("d", {"x": np.zeros(800, np.uint8)})
    assert {path.name for path in cache_folder.iterdir()} == {"a.npz", "c.npz", "d.npz", ".new.part"}
    image_array.save_cached("e", {"x": np.zeros(4000, np.uint8)})
    assert image_array.load_cached("e") is None


def test_cache_entry_holds_no_paths(tmp_path: Path, cache_folder: Path) -> None:
    """An entry holds pixels, relative names and counts, and no pickle."""
    read_folder(write(tmp_path / "a", classes(each=2)))
    (entry,) = cache_folder.iterdir()
    with np.load(entry, allow_pickle=False) as archive:
        assert set(archive.files) == {"x", "about"}
        about = json.loads(archive["about"].tobytes())
    assert about == {
        **{"names": list(classes(each=2)), "skipped": [], "sizes": {"8x8": 4}, "modes": {"L": 4}},
        **{"depth": None, "notes": []},
    }
