"""Pictures of many formats, the examples of docs/export.md, and programs without torch and this package."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from running import ROOT

MODES = ("L", "RGB", "RGBA", "LA", "P", "1", "CMYK", "YCbCr", "I;16")
FORMATS = {
    "L": ("png", "jpg", "bmp", "tiff"),
    "RGB": ("jpg", "png", "webp", "bmp", "tiff"),
    "RGBA": ("png", "webp"),
    "LA": ("png",),
    "P": ("gif", "png"),
    "1": ("png", "tiff"),
    "CMYK": ("jpg",),
    "YCbCr": ("jpg",),
    "I;16": ("png", "tiff"),
}
# Width and height; the largest JPEG pictures are decoded at a reduced size.
SIZES = ((28, 28), (1, 1), (3, 50), (64, 40), (40, 64), (301, 200), (199, 402), (640, 480))
BLOCKED = "import runpy, sys; sys.modules['torch'] = None; sys.modules['ssgan'] = None; "


def odd_pictures(folder: Path, count: int = 50) -> list[Path]:
    """Write pictures of many sizes, modes, formats and EXIF orientations."""
    folder.mkdir()
    random = np.random.RandomState(0)
    paths = []
    for i in range(count):
        mode, (width, height) = MODES[i % len(MODES)], SIZES[(i // 2) % len(SIZES)]
        suffix = FORMATS[mode][(i // len(MODES)) % len(FORMATS[mode])]
        coarse = Image.fromarray(random.randint(0, 256, (4, 3, 4), np.uint8), "RGBA")
        image = coarse.resize((width, height), Image.Resampling.BICUBIC)
        if mode == "I;16":
            grey = np.asarray(image.convert("L")).astype(np.int64)
            image = Image.fromarray((257 * grey + 128 + i).clip(0, 65535).astype(np.uint16))
        elif mode != "RGBA":
            image = image.convert("RGB").convert(mode) if mode != "LA" else image.convert("LA")
        exif = Image.Exif()
        exif[0x0112] = 1 + i % 8
        options = {} if suffix in ("gif", "bmp") else {"exif": exif}
        if mode == "P" and i % 2:
            options["transparency"] = 0
        paths.append(folder / f"{i:02}-{mode.replace(';', '')}.{suffix}")
        image.save(paths[-1], **options)
    return paths


def example(number: int = 0) -> str:
    """A program of docs/export.md: the server, or the one for torch."""
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    return re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[number]


def run_without(code: str, *arguments: str | Path, blocked: str = BLOCKED) -> str:
    """Run code in a process that can import neither torch nor this package; return its output."""
    done = subprocess.run(
        [sys.executable, "-c", blocked + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
