"""Small pictures in folders, zips and tables, for the tests of their readers."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ssgan.settings.options import Options

Content = np.ndarray | bytes
ALL = Options(test_share=0)


def grey(seed: int, size: int = 8) -> np.ndarray:
    """A random grey picture, different for each seed."""
    return np.random.RandomState(seed).randint(0, 256, (size, size), np.uint8)


def encoded(content: Content) -> bytes:
    """The bytes of a PNG."""
    if isinstance(content, bytes):
        return content
    stream = io.BytesIO()
    Image.fromarray(content).save(stream, "PNG")
    return stream.getvalue()


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """An 8-bit grey PNG whose header has this size, with any chunks."""
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (head, *chunks, (b"IEND", b""))
    )


def write(folder: Path, files: Mapping[str, Content]) -> Path:
    """Write files of these names, arrays as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(content))
    return folder


def packed(path: Path, files: Mapping[str, Content]) -> Path:
    """Write these files into a zip; a name that ends with a slash is a folder."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, b"" if name.endswith("/") else encoded(content))
    return path


def table(path: Path, *lines: str, header: str = "file,label") -> Path:
    """Write a CSV of file names and labels."""
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def classes(
    above: str = "", each: int = 5, names: tuple[str, ...] = ("cat", "dog"), first: int = 0
) -> dict[str, Content]:
    """This number of pictures in each of these class folders."""
    return {f"{above}{name}/{i}.png": grey(first + 100 * k + i) for k, name in enumerate(names) for i in range(each)}


def photographs(count: int) -> tuple[dict[str, Content], list[str]]:
    """Pictures of many sizes, modes, formats and orientations, in all three shares, and the names of the broken ones.

    Every fiftieth is broken: cut short, empty, text, or zeros.
    """
    random = np.random.RandomState(0)
    files: dict[str, Content] = {}
    broken = []
    for i in range(count):
        pixels = random.randint(0, 256, (*random.randint(8, 30, 2), 3), np.uint8)
        mode = ("L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16")[i % 8]
        deep = pixels[..., 0].astype(np.uint16) * 257
        image = Image.fromarray(deep) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
        form = ("PNG", "WEBP", "TIFF")[i % 3]
        if i // 8 % 2 and mode in ("L", "RGB", "CMYK"):
            form = "JPEG"
        elif mode == "CMYK" or (form == "WEBP" and mode not in ("RGB", "RGBA")):
            form = "TIFF"
        exif = Image.Exif()
        exif[0x0112] = i % 9
        stream = io.BytesIO()
        image.save(stream, form, exif=exif)
        content = stream.getvalue()
        place = ("train/cat", "train/dog", "unlabeled", "unlabeled", "test/cat", "test/dog")[i // 5 % 6]
        name = f"{place}/{i:04d}.{form.lower()}"
        if i % 50 == 49:
            content = (content[: len(content) // 3], b"", b"no picture", bytes(50))[i // 50 % 4]
            broken.append(name)
        files[name] = content
    return files, sorted(broken)
