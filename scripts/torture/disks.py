"""Run trainings on a nearly full disk: each ends with a message, and later resumes to the same results."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from kills import TRAININGS, Victim
from processes import Case

#: Free KiB when the command starts, from none to more than any command needs.
FREE_KIBIBYTES = (0, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 384, 512, 1024)
ENOUGH_KIBIBYTES = 65_536
DISK_TRAININGS = ("gan", "supervised", "folds", "frames", "folder of pictures", "comparison")


class NoDisk(Exception):  # noqa: N818 - a reason to skip the attack
    """Report that this user cannot mount a disk of a chosen size."""


def _mount(*arguments: str) -> None:
    try:
        process = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    except OSError as cause:
        raise NoDisk(str(cause)) from None
    if process.returncode:
        raise NoDisk(process.stderr.strip())


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk in memory for the duration of the block.

    Raises
    ------
    NoDisk
        If this user cannot mount one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={ENOUGH_KIBIBYTES}k", "ssgan-torture", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def leave_room(disk: Path, kibibytes: int) -> None:
    """Resize a mounted disk to have this much free space."""
    state = os.statvfs(disk)
    used = (state.f_blocks - state.f_bfree) * state.f_frsize // 1024
    _mount("-o", f"remount,size={max(used + kibibytes, 4)}k", str(disk))


def full_disk_cases(name: str, scratch: Path, share: float = 1.0) -> Iterator[Case]:
    """Run a training with each size of free space, or a share of the sizes; if it stops, resume it with enough space.

    Raises
    ------
    NoDisk
        If this user cannot mount a disk.
    """
    with small_disk(scratch / "disk") as disk:
        victim = Victim(TRAININGS[name], disk / "case")
        for kibibytes in FREE_KIBIBYTES[:: max(1, round(1 / share))]:
            victim.reset()
            leave_room(disk, kibibytes)
            outcome = victim.start(victim.training.command)
            leave_room(disk, ENOUGH_KIBIBYTES)
            faults = outcome.faults()
            if outcome.status == 2 and "room left on the disk" not in outcome.err:
                faults.append(f"another error message: {outcome.err.strip()}")
            faults = faults or victim.resume()
            messages = outcome.err + " ".join(_failed_parts(victim.folder / "run"))
            faults = [fault for fault in faults if not _is_reported_picture(fault, messages)]
            yield Case(f"{name}, {kibibytes} KiB free", faults, victim.folder)


def _failed_parts(folder: Path) -> Iterator[str]:
    """Yield the missing parts that the reports of a training or comparison list."""
    for path in folder.rglob("report.json"):
        yield from json.loads(path.read_text(encoding="utf-8")).get("failed_parts", {})


def _is_reported_picture(fault: str, messages: str) -> bool:
    """Return whether a difference is a picture that is reported as missing, or this report itself."""
    if fault.endswith((".png", "/samples")):
        return (PurePath(fault).name if "rows-samples" not in fault else "samples") in messages
    return "report.json/failed_parts" in fault or "report.json/warnings" in fault
