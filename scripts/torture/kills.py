"""Kill trainings at random and at every exact moment of their writing; each must go on to the same bits."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from moments import Moments
from pictures_on_disk import write
from processes import Case, Outcome, run
from resumed_runs import CLOCK, differences
from small_backbones import FEATURE_OPTIONS, SIDE, coloured, use_small_backbone

from ssgan import runs
from ssgan.training.model_card import CARD_NAME

SEED = 0
UNSTABLE = CLOCK | {"commit"}  # the program may be changed while it is attacked
TRIES = 4  # commands after a kill, until one is done
KILLS_OF_A_TRAINING = 3
OFTEN = [
    *("--device", "cpu", "--out", "run", "--json", "--set", "checkpoint_every_seconds=0"),
    *("--set", "report_every_images=100"),
]
SHORT = ["--set", "total_images=200", "--set", "batch_size=20"]
FIRST = ["--set", "init_images=50"]
AGAIN = ["train", "--out", "run", "--resume", "--json"]
ALONE = ["--set", "discriminator_widths=16,8"]
NARROW = [*ALONE, "--set", "generator_widths=16"]
CONVOLUTIONS = ["--set", "discriminator_widths=4,4,4", "--set", "generator_widths=4,4"]


class Training(NamedTuple):
    """A command whose process is killed.

    Attributes
    ----------
    command : list of str
    again : list of str
        What continues it.
    prepare : callable, optional
        Makes its input in the folder where it runs.
    before : callable, optional
        Called in its process.
    """

    command: list[str]
    again: list[str]
    prepare: Callable[[Path], object] = lambda folder: None
    before: Callable[[], object] = lambda: None


def _digits(*options: str) -> Training:
    return Training(["train", "digits", "--labels", "20", *OFTEN, *SHORT, *FIRST, *options], [*AGAIN, "digits"])


def _photos(*options: str, side: int = SIDE, before: Callable[[], object] = lambda: None) -> Training:
    command = ["train", "photos", "--labels", "9", *OFTEN, *options]
    return Training(command, [*AGAIN, "photos"], partial(_coloured_pictures, side=side), before)


def _small_backbone() -> None:
    use_small_backbone(pytest.MonkeyPatch())


def _coloured_pictures(folder: Path, side: int = SIDE) -> None:
    x, y = coloured(60, 0, side)
    write(folder / "photos", {f"{'train' if i < 45 else 'test'}/{y[i]}/{i}.png": x[i] for i in range(60)})


COMPARE = [
    *("compare", "digits", "--labels", "20", "--methods", "gan,supervised,knn", "--seeds", "2", "--device", "cpu"),
    *("--out", "run/rows.jsonl", *SHORT, "--set", "checkpoint_every_seconds=0", *NARROW),
]
TRAININGS = {
    "gan": _digits("--preset", "digits", "--seeds", "2", "--set", "weight_historical_averaging=0.01", *NARROW),
    "supervised": _digits("--preset", "digits", "--method", "supervised", *ALONE),
    "fixmatch with views": _digits("--preset", "digits-fast", "--method", "fixmatch", *ALONE),
    "mean teacher in float64": _digits("--method", "mean-teacher", "--set", "dtype=float64", *ALONE),
    "convolutions, model by model": _photos(
        *("--preset", "images", "--set", "network=compact-conv", "--seeds", "2", "--set", "seed_strategy=loop"),
        *SHORT,
        *FIRST,
        *CONVOLUTIONS,
        side=20,
    ),
    "frames": _digits("--preset", "digits", "--set", "frames_every_images=100", *NARROW),
    "folds": _digits("--preset", "digits", "--folds", "2", *NARROW),
    "densities": Training(
        ["train", "gaussian", *OFTEN, *SHORT, "--set", "discriminator_widths=8", "--set", "generator_widths=8"],
        [*AGAIN, "gaussian"],
    ),
    "folder of pictures": _photos("--preset", "digits", *SHORT, *FIRST, *NARROW),
    "features of a backbone": _photos(*FEATURE_OPTIONS, before=_small_backbone),
    "comparison": Training(COMPARE, COMPARE, lambda folder: (folder / "run").mkdir()),
}


class Victim:
    """A training, the bits that it leaves when nobody kills it, and the moments that it passes.

    Parameters
    ----------
    training : Training
    folder : Path
        Recreated for each case; always the same, since a run names its data by their path.
    """

    def __init__(self, training: Training, folder: Path) -> None:
        self.training, self.folder = training, folder
        self.renew()
        moments = Moments()
        outcome = self.start(training.command, moments)
        self.seconds, self.moments = outcome.seconds, moments.count
        if outcome.status:
            raise RuntimeError(f"the training ends with {outcome.status} without a kill: {outcome.err}")
        self.bits = read_tree(folder / "run")
        if not self.bits:
            raise RuntimeError("the training leaves nothing")

    def renew(self) -> None:
        """Recreate the folder, with the input."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.training.prepare(self.folder)

    def start(self, command: list[str], moments: Moments | None = None, kill_after: float | None = None) -> Outcome:
        """Start a command there, and wait until it ends."""

        def before() -> None:
            self.training.before()
            if moments is not None:
                moments.install()

        cache = {"SSGAN_DATA": str(self.folder / "cache"), "TMPDIR": str(self.folder)}
        return run(command, self.folder, before=before, environment=cache, kill_after=kill_after, cpu_seconds=120)

    def kill_at(self, moment: int) -> list[str]:
        """Kill it at a moment, continue, and list the faults."""
        self.renew()
        outcome = self.start(self.training.command, Moments(moment))
        if outcome.status != -9:
            return [f"moment {moment} was not reached: exit status {outcome.status}"]
        return self.go_on()

    def kill_after(self, seconds: list[float]) -> list[str]:
        """Kill it, and what continues it, after these seconds; continue, and list the faults."""
        self.renew()
        command = self.training.command
        for limit in seconds:
            outcome = self.start(command, kill_after=limit)
            if outcome.status not in (-9, 0, 2):
                return [f"exit status {outcome.status}", *outcome.faults()]
            if outcome.status != 2:
                command = self.training.again
        return self.go_on()

    def go_on(self) -> list[str]:
        """Continue as its messages say: by --resume, or by the first command where there is nothing to continue."""
        said = []
        for attempt in range(TRIES):
            outcome = self.start(self.training.command if attempt % 2 else self.training.again)
            if faults := outcome.faults():
                return faults
            if outcome.status == 0:
                return differences(read_tree(self.folder / "run"), self.bits)
            said.append(outcome.err.strip())
        return [f"a dead folder: {said}"]


def read_tree(folder: Path) -> dict[str, Any]:
    """Read what a training leaves, without the times in it."""
    return {
        path.relative_to(folder).as_posix(): _content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return _without_clock(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".jsonl":
        return [_without_clock(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.name == CARD_NAME:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if not line.startswith(("| time |", "| commit |"))]
    return _without_clock(runs.load_checkpoint(path)) if path.name == "checkpoint" else path.read_bytes()


def _without_clock(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_clock(value) for key, value in content.items() if key not in UNSTABLE}
    return [_without_clock(value) for value in content] if isinstance(content, list) else content


def every_moment(name: str, scratch: Path, share: float = 1.0) -> Iterator[Case]:
    """Kill a training at each of its moments, or at so large a share of them, evenly spread."""
    victim = Victim(TRAININGS[name], scratch / "case")
    step = max(1, round(1 / share))
    for moment in range(1 + SEED % step, victim.moments + 1, step):
        yield Case(f"{name}, moment {moment} of {victim.moments}", victim.kill_at(moment), victim.folder)


def random_moments(name: str, scratch: Path, count: int) -> Iterator[Case]:
    """Kill a training, and often what continues it, after random times; yield a case for each kill."""
    victim = Victim(TRAININGS[name], scratch / "case")
    choose = random.Random(f"{SEED} {name}")
    while count > 0:
        kills = min(count, choose.randint(1, KILLS_OF_A_TRAINING))
        seconds = [choose.uniform(0, victim.seconds) for _ in range(kills)]
        faults = victim.kill_after(seconds)
        for limit in seconds:
            yield Case(f"{name}, killed after {limit:.3f} s", faults, victim.folder)
            faults = []
        count -= kills
