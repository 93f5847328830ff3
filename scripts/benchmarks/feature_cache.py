#!/usr/bin/env python3
"""Time the cache of features and measure its memory, with a network that costs nothing.

    python scripts/benchmarks/feature_cache.py --images 1000000

Makes a memory map of random images of 16x16 pixels in a temporary folder, computes features for all of them, then reads
them from the cache, adds ten images, and reads all images in another order. The files are deleted at the end: a million
images of 1,280 features take 2.9 GB, and as much again for the other order. Each step is a process of its own.
``memory`` is the peak of what the process itself takes; ``with files`` counts mapped pages of files as well, which the
system takes back when it needs them. On systems without ``/proc`` only the latter is known.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

PIXELS = 16
STEPS = ("compute", "read", "add ten", "other order")


def own_memory() -> int:
    """Return the bytes that this process takes without pages of files; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def make_images(path: Path, count: int) -> None:
    """Write random images, which differ."""
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, PIXELS, PIXELS))
    generator = np.random.default_rng(0)
    for start in range(0, count, 65536):
        images[start : start + 65536] = generator.integers(0, 256, images[start : start + 65536].shape, np.uint8)


def fake_features(images: np.ndarray, width: int) -> np.ndarray:
    """Return features [N, F] that depend on the pixels, at little cost."""
    pixels = images.reshape(len(images), -1).astype(np.float32)
    return np.tile(pixels, (1, -(-width // pixels.shape[1])))[:, :width] + np.arange(width, dtype=np.float32)


class Reordered:
    """Images of an array in another order, with slices alone."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.order = images, np.random.default_rng(1).permutation(len(images))

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.images[self.order[part]]


def run_step(step: str, folder: Path, width: int) -> None:
    """Run one step, check its result, and print its row of the table."""
    from ssgan.data.feature_cache import compute_features

    images = np.load(folder / "images.npy", mmap_mode="r")
    images = images if step == "add ten" else images[:-10]
    wanted = Reordered(images) if step == "other order" else images
    peak, done = [own_memory()], threading.Event()
    before = peak[0]

    def watch() -> None:
        while not done.wait(0.02):
            peak.append(max(peak.pop(), own_memory()))

    thread = threading.Thread(target=watch)
    thread.start()
    computed = []

    def compute(part: np.ndarray) -> np.ndarray:
        computed.append(len(part))
        return fake_features(part, width)

    began = time.perf_counter()
    features = compute_features(wanted, compute, folder / "cache", width)
    seconds = time.perf_counter() - began
    done.set()
    thread.join()
    for i in range(0, len(wanted), max(1, len(wanted) // 1000)):
        assert np.array_equal(features[i], fake_features(wanted[i : i + 1], width)[0].astype(np.float16))
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(
        f"{step:12s} {len(wanted):>10,} {sum(computed):>10,} {seconds:9.2f} {len(wanted) / seconds:>10,.0f} "
        f"{(peak[0] - before) / 2**20:10.0f} {peak[0] / 2**20:10.0f} {whole / 2**20:10.0f}",
        flush=True,
    )


def main() -> None:
    """Make the images, and run each step in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=1280, help="features of an image")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.step:
        run_step(chosen.step, chosen.folder, chosen.width)
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        make_images(Path(folder, "images.npy"), chosen.images + 10)
        print("step             images   computed   seconds   images/s  MiB added MiB memory with files")
        for step in STEPS:
            command = [sys.executable, __file__, "--folder", folder, "--width", str(chosen.width), "--step", step]
            subprocess.run(command, check=True)
        size = sum(path.stat().st_size for path in Path(folder, "cache").iterdir())
        print(f"The cache takes {size / 2**20:,.0f} MiB on disk.")


if __name__ == "__main__":
    main()
