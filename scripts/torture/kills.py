"""Kill trainings at random times and around every write; each must resume to the same results."""

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
TRIES = 4  # commands after a kill, until one succeeds
MAX_KILLS = 3
OFTEN = [
    *("--device", "cpu", "--out", "run", "--json", "--set", "checkpoint_every_seconds=0"),
    *("--set", "report_every_images=100"),
]
SHORT = ["--set", "total_images=200", "--set", "batch_size=20"]
INIT = ["--set", "init_images=50"]
RESUME = ["train", "--out", "run", "--resume", "--json"]
NARROW_D = ["--set", "discriminator_widths=16,8"]
NARROW_GAN = [*NARROW_D, "--set", "generator_widths=16"]
CONV_WIDTHS = ["--set", "discriminator_widths=4,4,4", "--set", "generator_widths=4,4"]


class Training(NamedTuple):
    """A command whose process is killed.

    Attributes
    ----------
    command : list of str
    resume_command : list of str
        Command that resumes it.
    prepare : callable, optional
        Makes its input in the folder of the training.
    before : callable, optional
        Called in its process.
    """

    command: list[str]
    resume_command: list[str]
    prepare: Callable[[Path], object] = lambda folder: None
    before: Callable[[], object] = lambda: None


def _digits(*options: str) -> Training:
    return Training(["train", "digits", "--labels", "20", *OFTEN, *SHORT, *INIT, *options], [*RESUME, "digits"])


def _photos(*options: str, side: int = SIDE, before: Callable[[], object] = lambda: None) -> Training:
    command = ["train", "photos", "--labels", "9", *OFTEN, *options]
    return Training(command, [*RESUME, "photos"], partial(_coloured_pictures, side=side), before)


def _small_backbone() -> None:
    use_small_backbone(pytest.MonkeyPatch())


def _coloured_pictures(folder: Path, side: int = SIDE) -> None:
    x, y = coloured(60, 0, side)
    write(folder / "photos", {f"{'train' if i < 45 else 'test'}/{y[i]}/{i}.png": x[i] for i in range(60)})


COMPARE = [
    *("compare", "digits", "--labels", "20", "--methods", "gan,supervised,knn", "--seeds", "2", "--device", "cpu"),
    *("--out", "run/rows.jsonl", *SHORT, "--set", "checkpoint_every_seconds=0", *NARROW_GAN),
]
TRAININGS = {
    "gan": _digits("--preset", "digits", "--seeds", "2", "--set", "weight_historical_averaging=0.01", *NARROW_GAN),
    "supervised": _digits("--preset", "digits", "--method", "supervised", *NARROW_D),
    "fixmatch with views": _digits("--preset", "digits-fast", "--method", "fixmatch", *NARROW_D),
    "mean teacher in float64": _digits("--method", "mean-teacher", "--set", "dtype=float64", *NARROW_D),
    "convolutions, model by model": _photos(
        *("--preset", "images", "--set", "network=compact-conv", "--seeds", "2", "--set", "seed_strategy=loop"),
        *SHORT,
        *INIT,
        *CONV_WIDTHS,
        side=20,
    ),
    "frames": _digits("--preset", "digits", "--set", "frames_every_images=100", *NARROW_GAN),
    "folds": _digits("--preset", "digits", "--folds", "2", *NARROW_GAN),
    "densities": Training(
        ["train", "gaussian", *OFTEN, *SHORT, "--set", "discriminator_widths=8", "--set", "generator_widths=8"],
        [*RESUME, "gaussian"],
    ),
    "folder of pictures": _photos("--preset", "digits", *SHORT, *INIT, *NARROW_GAN),
    "features of a backbone": _photos(*FEATURE_OPTIONS, before=_small_backbone),
    "comparison": Training(COMPARE, COMPARE, lambda folder: (folder / "run").mkdir()),
}


class Victim:
    """A training to kill, the files of a complete training, and the number of its moments.

    Parameters
    ----------
    training : Training
    folder : Path
        Recreated for each case at the same path, since a run stores the path of its data.
    """

    def __init__(self, training: Training, folder: Path) -> None:
        self.training, self.folder = training, folder
        self.reset()
        moments = Moments()
        outcome = self.start(training.command, moments)
        self.seconds, self.moments = outcome.seconds, moments.count
        if outcome.status:
            raise RuntimeError(f"the training ends with {outcome.status} without a kill: {outcome.err}")
        self.reference = read_tree(folder / "run")
        if not self.reference:
            raise RuntimeError("the training writes no files")

    def reset(self) -> None:
        """Recreate the folder with the input."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.training.prepare(self.folder)

    def start(self, command: list[str], moments: Moments | None = None, kill_after: float | None = None) -> Outcome:
        """Run a command in the folder until it ends."""

        def before() -> None:
            self.training.before()
            if moments is not None:
                moments.install()

        cache = {"SSGAN_DATA": str(self.folder / "cache"), "TMPDIR": str(self.folder)}
        return run(command, self.folder, before=before, environment=cache, kill_after=kill_after, cpu_seconds=120)

    def kill_at(self, moment: int) -> list[str]:
        """Kill the training at a moment, resume it, and list the faults."""
        self.reset()
        outcome = self.start(self.training.command, Moments(moment))
        if outcome.status != -9:
            return [f"moment {moment} was not reached: exit status {outcome.status}"]
        return self.resume()

    def kill_after(self, seconds: list[float]) -> list[str]:
        """Kill the training and its resumed processes after these seconds; resume it, and list the faults."""
        self.reset()
        command = self.training.command
        for limit in seconds:
            outcome = self.start(command, kill_after=limit)
            if outcome.status not in (-9, 0, 2):
                return [f"exit status {outcome.status}", *outcome.faults()]
            if outcome.status != 2:
                command = self.training.resume_command
        return self.resume()

    def resume(self) -> list[str]:
        """Resume the training by --resume, or by the first command if there is nothing to resume; list the faults."""
        messages = []
        for attempt in range(TRIES):
            outcome = self.start(self.training.command if attempt % 2 else self.training.resume_command)
            if faults := outcome.faults():
                return faults
            if outcome.status == 0:
                return differences(read_tree(self.folder / "run"), self.reference)
            messages.append(outcome.err.strip())
        return [f"a dead folder: {messages}"]


def read_tree(folder: Path) -> dict[str, Any]:
    """Read the files of a training, without times."""
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
    """Kill a training at each of its moments, or at an evenly spaced share of them."""
    victim = Victim(TRAININGS[name], scratch / "case")
    step = max(1, round(1 / share))
    for moment in range(1 + SEED % step, victim.moments + 1, step):
        yield Case(f"{name}, moment {moment} of {victim.moments}", victim.kill_at(moment), victim.folder)


def random_moments(name: str, scratch: Path, count: int) -> Iterator[Case]:
    """Kill a training, and often its resumed process, after random times; yield a case for each kill."""
    victim = Victim(TRAININGS[name], scratch / "case")
    choose = random.Random(f"{SEED} {name}")
    while count > 0:
        kills = min(count, choose.randint(1, MAX_KILLS))
        seconds = [choose.uniform(0, victim.seconds) for _ in range(kills)]
        faults = victim.kill_after(seconds)
        for limit in seconds:
            yield Case(f"{name}, killed after {limit:.3f} s", faults, victim.folder)
            faults = []
        count -= kills
