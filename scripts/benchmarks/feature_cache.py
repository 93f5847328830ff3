#!/usr/bin/env python3
"""Time the cache of features and measure its memory, with a network that takes almost no time.

    python scripts/benchmarks/feature_cache.py --images 1000000

Makes a memory map of random images of 16x16 pixels in a temporary folder, computes features for all of them, then reads
the features from the cache, adds ten images, and reads all features in another order. The files are deleted at the end:
a million images of 1,280 features take 2.9 GB, and as much again for the other order. Each step is a separate process.
``memory`` is the peak memory of the process without mapped files; ``with files`` includes mapped pages of files, which
the system can reclaim. On systems without ``/proc`` only the latter is known.
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


def process_memory() -> int:
    """Return the memory of this process in bytes, without mapped files; 0 on systems without ``/proc``."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def make_images(path: Path, count: int) -> None:
    """Write different random images."""
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, PIXELS, PIXELS))
    generator = np.random.default_rng(0)
    for start in range(0, count, 65536):
        images[start : start + 65536] = generator.integers(0, 256, images[start : start + 65536].shape, np.uint8)


def fake_features(images: np.ndarray, width: int) -> np.ndarray:
    """Return features [N, F] that depend on the pixels, at little cost."""
    pixels = images.reshape(len(images), -1).astype(np.float32)
    return np.tile(pixels, (1, -(-width // pixels.shape[1])))[:, :width] + np.arange(width, dtype=np.float32)


class Reordered:
    """Images of an array in another order; only slices can be read."""

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
    inputs = Reordered(images) if step == "other order" else images
    peak, stop = [process_memory()], threading.Event()
    before = peak[0]

    def watch() -> None:
        while not stop.wait(0.02):
            peak.append(max(peak.pop(), process_memory()))

    thread = threading.Thread(target=watch)
    thread.start()
    batch_sizes = []

    def compute(part: np.ndarray) -> np.ndarray:
        batch_sizes.append(len(part))
        return fake_features(part, width)

    start = time.perf_counter()
    features = compute_features(inputs, compute, folder / "cache", width)
    seconds = time.perf_counter() - start
    stop.set()
    thread.join()
    for i in range(0, len(inputs), max(1, len(inputs) // 1000)):
        assert np.array_equal(features[i], fake_features(inputs[i : i + 1], width)[0].astype(np.float16))
    peak_with_files = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(
        f"{step:12s} {len(inputs):>10,} {sum(batch_sizes):>10,} {seconds:9.2f} {len(inputs) / seconds:>10,.0f} "
        f"{(peak[0] - before) / 2**20:10.0f} {peak[0] / 2**20:10.0f} {peak_with_files / 2**20:10.0f}",
        flush=True,
    )


def main() -> None:
    """Make the images, and run each step in a separate process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=1280, help="features of an image")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        run_step(args.step, args.folder, args.width)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        make_images(Path(folder, "images.npy"), args.images + 10)
        print("step             images   computed   seconds   images/s  MiB added MiB memory with files")
        for step in STEPS:
            command = [sys.executable, __file__, "--folder", folder, "--width", str(args.width), "--step", step]
            subprocess.run(command, check=True)
        size = sum(path.stat().st_size for path in Path(folder, "cache").iterdir())
        print(f"The cache takes {size / 2**20:,.0f} MiB on disk.")


if __name__ == "__main__":
    main()
