#!/usr/bin/env python3
"""Time the labelling page of a large folder: time to the link, to the first picture and to the next picture.

scripts/benchmarks/label_page.py --pictures 20000
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from headless_browser import headless
from labeling_server import Server


def main() -> None:
    """Run the trials and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--trials", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, headless() as browser:
        folder = Path(place) / "pictures"
        folder.mkdir()
        random = np.random.RandomState(0)
        for i in range(args.pictures):
            Image.fromarray(random.randint(0, 256, (28, 28), np.uint8)).save(folder / f"{i:06}.png", compress_level=1)
        tab = browser.tab()
        for _ in range(args.trials):
            times = [time.perf_counter()]
            with Server(folder, "--classes", "cat,dog", "--train-every", "0") as server:
                times.append(time.perf_counter())
                tab.open(server.link)
                tab.wait("state.shown")
                times.append(time.perf_counter())
                file = tab.value("state.pictures[0].file")
                tab.press("1")
                tab.wait(f"state.shown && !state.busy && state.pictures[0].file !== '{file}'")
                times.append(time.perf_counter())
            link, first, next_picture = np.diff(times)
            print(f"link {link:.2f} s, first picture {first:.2f} s later, answer to next picture {next_picture:.2f} s")


if __name__ == "__main__":
    main()
