"""Small files instead of MNIST, and a fake download without a network."""

import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np

NO_NETWORK = "<urlopen error no network in a test>"


def idx(array: np.ndarray) -> bytes:
    """An idx file: the type (8 stands for bytes) and the number of dimensions, the sizes, the values."""
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


class Downloads:
    """Stands in for torchvision's download of one archive: no test reaches the network."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.contents: dict[str, bytes] = {}
        self.failures: list[BaseException] = []

    def __call__(self, url: str, download_root: str, filename: str, md5: str) -> None:
        assert url.endswith(f"/{filename}")
        self.asked.append(filename)
        file = filename.removesuffix(".gz")
        if file not in self.contents:
            raise self.failures.pop(0) if self.failures else URLError("no network in a test")
        with Path(download_root, file).open("xb") as new:
            new.write(self.contents[file])


def state(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """What changes if a file is written again: content, inode and time."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def not_whole(folder: Path, reason: str, *absent: str) -> str:
    return (
        f"mnist is incomplete in {folder} and could not be downloaded into it ({reason}): put "
        f"{', '.join(absent)} there, or set --data-dir or SSGAN_DATA to the folder that holds MNIST/raw."
    )
