"""Small pictures in folders, zips and tables, for the tests of what reads them."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

Content = np.ndarray | bytes


def grey(seed: int, size: int = 8) -> np.ndarray:
    """A picture that no other seed gives."""
    return np.random.RandomState(seed).randint(0, 256, (size, size), np.uint8)


def encoded(content: Content) -> bytes:
    """The bytes of a PNG."""
    if isinstance(content, bytes):
        return content
    stream = io.BytesIO()
    Image.fromarray(content).save(stream, "PNG")
    return stream.getvalue()


def write(folder: Path, files: Mapping[str, Content]) -> Path:
    """Write files of these names, arrays as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(content))
    return folder


def packed(path: Path, files: Mapping[str, Content]) -> Path:
    """The same in a zip; a name that ends with a slash is a folder."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, b"" if name.endswith("/") else encoded(content))
    return path


def classes(
    above: str = "", each: int = 5, names: tuple[str, ...] = ("cat", "dog"), first: int = 0
) -> dict[str, Content]:
    """So many pictures in each of these class folders."""
    return {f"{above}{name}/{i}.png": grey(first + 100 * k + i) for k, name in enumerate(names) for i in range(each)}
