"""Feature cache on disk: computes each image once; same bits after damage, kills and concurrent access."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssgan.data import feature_cache
from ssgan.data.feature_cache import CHUNK, RECORD, compute_features, feature_folder
from ssgan.files import lock

WIDTH = 24
ROOT = Path(__file__).parents[2]


class Network:
    """A cheap feature function that counts the images it computes."""

    def __init__(self, width: int = WIDTH) -> None:
        self.computed, self.width = 0, width

    def __call__(self, images: np.ndarray) -> np.ndarray:
        assert 0 < len(images) <= CHUNK
        self.computed += len(images)
        return features_of(images, self.width)


def features_of(images: np.ndarray, width: int = WIDTH) -> np.ndarray:
    pixels = images.reshape(len(images), -1).astype(np.float32)
    weights = np.sin(np.arange(pixels.shape[1] * width, dtype=np.float32)).reshape(-1, width)
    return np.stack([(row[:, None] * weights).sum(0) for row in pixels])


def random_images(count: int, seed: int = 0, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size), np.uint8)


IMAGES = random_images(200)
EXPECTED = features_of(IMAGES).astype(np.float16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "net"


def check(images: Any, folder: Path | None, computed: int, **options: Any) -> np.ndarray:
    """Check the features of images and how many of them had to be computed."""
    network = Network()
    features = compute_features(images, network, folder, WIDTH, **options)
    whole = np.concatenate([images[i : i + 1] for i in range(len(images))])
    assert features.dtype == np.float16
    assert np.array_equal(features, features_of(whole).astype(np.float16))
    assert not features.flags.writeable
    assert network.computed == computed
    return features


# Each image is computed once


def test_features_are_computed_once(folder: Path) -> None:
    assert isinstance(check(IMAGES, folder, 200), np.memmap)
    assert isinstance(check(IMAGES, folder, 0), np.memmap)
    assert isinstance(check(IMAGES[50:120], folder, 0), np.memmap)
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == {
        f"{WIDTH}.features": 200 * WIDTH * 2,
        f"{WIDTH}.keys": 200 * 20,
    }


def test_only_new_images_are_computed(folder: Path) -> None:
    check(IMAGES, folder, 200)
    order = np.random.default_rng(0).permutation(210)
    check(np.concatenate([IMAGES, random_images(10, seed=1)])[order], folder, 10)
    check(np.concatenate([IMAGES, random_images(10, seed=1)]), folder, 0)


def test_read_only_use_does_not_write_to_the_cache(folder: Path) -> None:
    check(IMAGES[:50], folder, 50, read_only=True)
    assert not folder.exists()
    check(IMAGES, folder, 200)
    before = {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()}
    check(np.concatenate([IMAGES, random_images(10, seed=1)]), folder, 10, read_only=True)
    check(random_images(10, seed=1), folder, 10, read_only=True)
    assert {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()} == before


def test_equal_images_are_computed_once(folder: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 30, 200)
    different = len(set(numbers.tolist()))
    check(IMAGES[numbers], folder, different)
    check(IMAGES[numbers], None, different)
    check(IMAGES[numbers][::-1], folder, 0)


def test_empty_input_gives_empty_features(folder: Path) -> None:
    assert check_shape(IMAGES[:0], folder) == (0, WIDTH)
    check(IMAGES, folder, 200)
    assert check_shape(IMAGES[:0], folder) == (0, WIDTH)


def check_shape(images: np.ndarray, folder: Path) -> tuple[int, ...]:
    return compute_features(images, Network(), folder, WIDTH).shape


def test_cache_key_depends_on_shape_dtype_context_and_width(folder: Path) -> None:
    check(IMAGES, folder, 200)
    check(IMAGES.reshape(200, 4, 9), folder, 200)
    check(IMAGES.view(np.int8), folder, 200)
    check(IMAGES, folder, 200, context="scale 1")
    check(IMAGES, folder, 0)
    compute_features(IMAGES, network := Network(2 * WIDTH), folder, 2 * WIDTH)
    assert network.computed == 200
    check(IMAGES, folder, 0)


class Slices:
    """An array-like that supports only its length and slices, which are copies."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> list[np.ndarray]:
        assert isinstance(part, slice)
        return list(np.array(self.images[part]))


def test_accepts_memory_mapped_sliceable_and_fortran_ordered_arrays(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    check(np.load(tmp_path / "x.npy", mmap_mode="r"), folder, 200)
    check(Slices(IMAGES), folder, 0)
    check(np.asfortranarray(IMAGES), folder, 0)


def test_keys_with_trailing_zeros_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy drops trailing zeros of fixed-length bytes, but the keys must keep them."""
    keys = np.frombuffer(b"".join(bytes([1] * i + [0] * (16 - i)) for i in range(16)), "S16")
    monkeypatch.setattr(feature_cache, "_hash_images", lambda images, context: keys)
    check(IMAGES[:16], folder, 16)
    check(IMAGES[:16], folder, 0)


def test_progress_counts_only_computed_images(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    check(IMAGES[:30], folder, 30)
    check(IMAGES, folder, 170, on_progress=lambda *call: calls.append(call))
    assert calls == [(0, 170), (64, 170), (128, 170), (170, 170)]
    check(IMAGES, folder, 0, on_progress=lambda *call: calls.append(call))
    assert len(calls) == 4


def test_wrong_feature_shape_raises_value_error(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"compute returned the shape \(64, 24\), not \(64, 25\)"):
        compute_features(IMAGES, Network(), folder, WIDTH + 1)


# Damaged files


@pytest.mark.parametrize("name", ["features", "keys"])
def test_a_flipped_bit_recomputes_one_image(folder: Path, name: str) -> None:
    check(IMAGES, folder, 200)
    files = {path: path.read_bytes() for path in folder.iterdir()}
    content = files[folder / f"{WIDTH}.{name}"]
    for place in random.Random(0).sample(range(len(content)), 100):
        for path, whole in files.items():
            path.write_bytes(whole)
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        (folder / f"{WIDTH}.{name}").write_bytes(damaged)
        check(IMAGES, folder, 1)
        check(IMAGES, folder, 0)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2 + 3],
    "bytes before": lambda content: b"abc" + content,
    "bytes lost within": lambda content: content[:777] + content[778:],
    "bytes behind": lambda content: content + b"abc",
    "rows of another": lambda content: content[::-1],
    "zeros": lambda content: bytes(len(content)),
    "zeros behind": lambda content: content + bytes(1000),
    "foreign": lambda content: b"This is a text.\n" * 1000,
}


@pytest.mark.parametrize("name", ["features", "keys"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_give_no_wrong_features(folder: Path, name: str, damage: str) -> None:
    check(IMAGES, folder, 200)
    path = folder / f"{WIDTH}.{name}"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    for _ in range(2):
        features = compute_features(IMAGES, Network(), folder, WIDTH)
        assert np.array_equal(features, EXPECTED)
    check(IMAGES, folder, 0)


# Killed processes


@pytest.mark.parametrize("stop_at", [0, 1, 19, 20, 21, 500, 10**9])
@pytest.mark.parametrize("name", ["features", "keys"])
def test_interrupted_write_recomputes_only_lost_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, stop_at: int
) -> None:
    write_at = feature_cache._write_at

    def killed(stream: Any, start: int, content: bytes) -> None:
        if start and stream.name.endswith(name):
            stream.seek(start)
            stream.write(content[:stop_at])
            raise KeyboardInterrupt
        write_at(stream, start, content)

    check(IMAGES[:100], folder, 100)
    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "_write_at", killed)
        with pytest.raises(KeyboardInterrupt):
            compute_features(IMAGES, Network(), folder, WIDTH)
    whole_records = min(stop_at // RECORD.itemsize, 64) if name == "keys" else 0
    check(IMAGES, folder, 100 - whole_records)
    check(IMAGES, folder, 0)


MANY_IMAGES = random_images(2000)
WORKER = """
import sys, time
from pathlib import Path
from test_feature_cache import MANY_IMAGES, Network
from ssgan.data.feature_cache import compute_features

network = Network()
def compute(images):
    time.sleep(float(sys.argv[2]))
    return network(images)
print("ready", flush=True)
sys.stdin.readline()
features = compute_features(MANY_IMAGES, compute, Path(sys.argv[1]), network.width)
sys.stdout.buffer.write(features.tobytes())
print(network.computed, file=sys.stderr)
"""


def start(folder: Path, seconds: float) -> "subprocess.Popen[bytes]":
    """Start a process that waits for a line of input, then computes features, `seconds` for each 64 images."""
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", WORKER, str(folder), str(seconds)]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, "PYTHONPATH": path})
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def go(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.write(b"go\n")
    process.stdin.flush()


def test_cache_is_valid_after_processes_are_killed(folder: Path) -> None:
    expected = features_of(MANY_IMAGES).astype(np.float16)
    keys, chance, kills = folder / f"{WIDTH}.keys", random.Random(0), 0
    while kills < 6 or not keys.exists() or not keys.stat().st_size:
        with start(folder, 0.02) as process:
            go(process)
            time.sleep(chance.uniform(0.0, 0.1))  # six times this is shorter than computing all images
            process.kill()
        kills += process.returncode == -signal.SIGKILL
    network = Network()
    assert np.array_equal(compute_features(MANY_IMAGES, network, folder, WIDTH), expected)
    assert 0 < network.computed < 2000
    compute_features(MANY_IMAGES, network := Network(), folder, WIDTH)
    assert network.computed == 0


# Concurrent processes


def test_two_processes_share_the_work(folder: Path) -> None:
    workers = [start(folder, 0.05) for _ in range(2)]
    for worker in workers:
        go(worker)
    outputs = [worker.communicate(timeout=100) for worker in workers]
    expected = features_of(MANY_IMAGES).astype(np.float16).tobytes()
    assert [features == expected for features, _ in outputs] == [True, True]
    computed = [int(count) for _, count in outputs]
    assert max(computed) < 2000
    assert 2000 <= sum(computed) <= 2000 + 2 * CHUNK
    compute_features(MANY_IMAGES, network := Network(), folder, WIDTH)
    assert network.computed == 0


def test_features_are_not_saved_while_another_process_holds_the_lock(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "LOCK_SECONDS", 0.05)
    folder.mkdir(parents=True)
    with lock(folder / ".append.lock", "busy"):
        check(IMAGES, folder, 200)
    check(IMAGES, folder, 200)
    check(IMAGES, folder, 0)


def test_cache_deleted_by_another_process_gives_right_features(folder: Path) -> None:
    network = Network()

    def compute(images: np.ndarray) -> np.ndarray:
        if network.computed >= 100:
            shutil.rmtree(folder, ignore_errors=True)
        return network(images)

    features = compute_features(IMAGES, compute, folder, WIDTH)
    assert np.array_equal(features, EXPECTED)
    check(IMAGES, folder, 200)


def test_keys_truncated_during_computation_give_right_features(folder: Path) -> None:
    """Rows written before must not be overwritten."""
    network = Network()

    def compute(images: np.ndarray) -> np.ndarray:
        if network.computed == 2 * CHUNK:
            os.truncate(folder / f"{WIDTH}.keys", 10 * RECORD.itemsize)
        return network(images)

    assert np.array_equal(compute_features(IMAGES, compute, folder, WIDTH), EXPECTED)
    check(IMAGES, folder, 190)
    check(IMAGES, folder, 0)


# Disk space and permissions


def test_full_disk_gives_right_features(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the file size, in the middle of a row, stands in for a full disk."""
    resource = pytest.importorskip("resource", reason="needs limits on the size of a file")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = 100 * WIDTH * 2 + 7
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        check(IMAGES, folder, 200)
        assert (folder / f"{WIDTH}.features").stat().st_size == limit
        check(IMAGES, folder, 200 - CHUNK)
        monkeypatch.setattr(feature_cache, "MEMORY_BYTES", 0)
        check(IMAGES[::-1], folder, 200 - CHUNK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    check(IMAGES, folder, 200 - CHUNK)
    check(IMAGES, folder, 0)


def test_unwritable_cache_is_read_and_not_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(IMAGES[:150], folder, 150)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)  # instead of file permissions: root may write everywhere
    check(IMAGES, folder, 50)
    check(IMAGES[:150], folder, 0)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_computes_features_if_the_cache_folder_cannot_be_created(folder: Path) -> None:
    folder.parent.write_text("a file")
    check(IMAGES, folder, 200)


def test_ssgan_cache_off_disables_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SSGAN_CACHE", "off")
    assert feature_folder("net") is None
    check(IMAGES, feature_folder("net"), 200)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("SSGAN_CACHE", "on")
    assert feature_folder("net") == tmp_path / "data" / "features" / "net"


def test_least_recently_used_caches_are_deleted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path))
    monkeypatch.delenv("SSGAN_CACHE", raising=False)
    size = 200 * (WIDTH * 2 + 20)
    monkeypatch.setattr(feature_cache, "CACHE_BYTES", 2 * size)
    for age, name in enumerate(["old", "new"]):
        folder = feature_folder(name)
        assert folder is not None
        check(IMAGES, folder, 200)
        for path in folder.iterdir():
            os.utime(path, (1e9 + age, 1e9 + age))
    check(IMAGES, feature_folder("old"), 0)  # used again, so it is the newest
    check(IMAGES[:10], feature_folder("third"), 10)
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["old", "third"]


def test_caches_in_other_folders_are_not_deleted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(feature_cache, "CACHE_BYTES", 200 * WIDTH * 2)
    check(IMAGES, tmp_path / "one", 200)
    check(IMAGES, tmp_path / "two", 200)
    check(IMAGES, tmp_path / "one", 0)


def test_a_cache_does_not_outgrow_the_limit(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(feature_cache, "CACHE_BYTES", 150 * WIDTH * 2)
    check(IMAGES, folder, 200)
    check(IMAGES, folder, 200 - 2 * CHUNK)


# Memory


def test_large_results_are_memory_mapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "MEMORY_BYTES", 200 * WIDTH * 2)
    check(IMAGES, folder, 200)
    assert not isinstance(check(IMAGES[::-1], folder, 0), np.memmap)
    monkeypatch.setattr(feature_cache, "MEMORY_BYTES", 200 * WIDTH * 2 - 1)
    assert isinstance(check(IMAGES[::-1], folder, 0), np.memmap)
    assert len(list(folder.iterdir())) == 2


def test_neither_pixels_nor_features_are_held_in_memory(folder: Path, tmp_path: Path) -> None:
    count, width = 20_000, 512
    np.save(tmp_path / "x.npy", random_images(count, size=16))
    images = np.load(tmp_path / "x.npy", mmap_mode="r")
    wanted = Slices(images)

    def compute(part: np.ndarray) -> np.ndarray:
        return np.tile(part.reshape(len(part), -1), 2)[:, :width]

    for _ in range(2):
        tracemalloc.start()
        features = compute_features(wanted, compute, folder, width)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.array_equal(features[-100:], compute(images[-100:]))
        assert peak < 200 * count + 2**20  # of 5 MB of pixels and 20 MB of features
