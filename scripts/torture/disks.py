"""Let trainings run on a disk with less and less room: each ends in a sentence, and goes on to the same bits later."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from kills import TRAININGS, Victim
from processes import Case

#: KiB that are free when the command starts, from none to more than every command needs.
LADDER = (0, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 384, 512, 1024)
ROOMY = 65_536
NAMES = ("gan", "supervised", "folds", "frames", "folder of pictures", "comparison")


class NoDisk(Exception):  # noqa: N818 - a reason to leave the ladder out
    """This user may not mount a disk of a chosen size here."""


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    except OSError as cause:
        raise NoDisk(str(cause)) from None
    if done.returncode:
        raise NoDisk(done.stderr.strip())


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk in memory while the block runs.

    Raises
    ------
    NoDisk
        Where this user may not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={ROOMY}k", "ssgan-torture", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def leave_room(disk: Path, kibibytes: int) -> None:
    """Resize a mounted disk so that so much of it is free."""
    state = os.statvfs(disk)
    used = (state.f_blocks - state.f_bfree) * state.f_frsize // 1024
    _mount("-o", f"remount,size={max(used + kibibytes, 4)}k", str(disk))


def ladder(name: str, scratch: Path, share: float = 1.0) -> Iterator[Case]:
    """Start a training at each rung of the ladder, or a share of them; where it stopped, continue it with room.

    Raises
    ------
    NoDisk
        Where nobody may mount one.
    """
    with small_disk(scratch / "disk") as disk:
        victim = Victim(TRAININGS[name], disk / "case")
        for kibibytes in LADDER[:: max(1, round(1 / share))]:
            victim.renew()
            leave_room(disk, kibibytes)
            outcome = victim.start(victim.training.command)
            leave_room(disk, ROOMY)
            faults = outcome.faults()
            if outcome.status == 2 and "room left on the disk" not in outcome.err:
                faults.append(f"another reason: {outcome.err.strip()}")
            faults = faults or victim.go_on()
            named = outcome.err + " ".join(_failed_parts(victim.folder / "run"))
            faults = [fault for fault in faults if not _is_named_picture(fault, named)]
            yield Case(f"{name}, {kibibytes} KiB free", faults, victim.folder)


def _failed_parts(folder: Path) -> Iterator[str]:
    """Yield the parts that the reports of a training, or of a comparison, say are missing."""
    for path in folder.rglob("report.json"):
        yield from json.loads(path.read_text(encoding="utf-8")).get("failed_parts", {})


def _is_named_picture(fault: str, named: str) -> bool:
    """Whether a difference is a picture that had no room and is named as missing, or the naming itself."""
    if fault.endswith((".png", "/samples")):
        return (PurePath(fault).name if "rows-samples" not in fault else "samples") in named
    return "report.json/failed_parts" in fault or "report.json/warnings" in fault
