"""A run that goes on ends with the same bits as one that was never interrupted, or it is refused and left as it was."""

import copy
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import contents, last_object, status_of, tiny

import ssgan
from ssgan import runs
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.data.datasets import load
from ssgan.errors import UserError
from ssgan.settings.config import Config
from ssgan.training import experiment
from ssgan.training.experiment import Paused, run_experiment
from ssgan.training.monitor import STATE_KEYS, Run, TrainingProgress, Watch
from ssgan.training.step import Adam
from ssgan.training.trainer import Trainer, train

CLOCK = {"seconds", "images_per_second"}
BEGUN_ON = {"config.json", "split.json", "labeled.png", "log.jsonl", "checkpoint"}


def differences(left: Any, right: Any, place: str = "") -> list[str]:
    """Where two nestings of tensors, arrays and plain types differ in a single bit."""
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        left, right = left.detach().numpy(), right.detach().numpy()
    if type(left) is not type(right):
        return [f"{place}: {type(left).__name__}, {type(right).__name__}"]
    if isinstance(left, np.ndarray):
        same = (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())
        return [] if same else [place]
    if isinstance(left, dict):
        odd = [f"{place}/{key}" for key in left.keys() ^ right.keys()]
        return odd + [
            d for key in left.keys() & right.keys() for d in differences(left[key], right[key], f"{place}/{key}")
        ]
    if isinstance(left, list | tuple):
        odd = [f"{place}: of {len(left)} and {len(right)}"] if len(left) != len(right) else []
        return odd + [
            d for i, (a, b) in enumerate(zip(left, right, strict=False)) for d in differences(a, b, f"{place}/{i}")
        ]
    return [] if repr(left) == repr(right) else [f"{place}: {left!r}, {right!r}"]


def without_clock(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in plain.items() if key not in CLOCK}


def ended(run: Run) -> dict[str, Any]:
    """All that a training comes to, but for the time it took."""
    scores = {name: getattr(run, name) for name in ("errors", "errors_raw", "ece", "nll")}
    seen = {name: getattr(run, name) for name in ("diverged", "collapsed", "warnings")}
    return {"state": without_clock(run.state()), "averaged": run.models.averaged, **scores, **seen}


def told(reports: list[TrainingProgress]) -> list[dict[str, Any]]:
    names = ("step", "steps", "images", "means", "errors", "warnings")
    return [{name: getattr(report, name) for name in names} for report in reports]


def follow(
    data: Data, config: Config, state: dict[str, Any] | None = None, into: Path | None = None
) -> tuple[Run, list[TrainingProgress]]:
    """Train, and keep every report, and a checkpoint of each by its step."""
    reports = []

    def on_report(report: TrainingProgress) -> None:
        reports.append(report)
        if into is not None:
            runs.save_checkpoint(into / str(report.step), report.state())

    return train(data, config, on_report=on_report, state=state), reports


# The same bits, interrupted at any report

WAYS: dict[str, dict[str, Any]] = {
    "gan": {},
    "vmap": {"seeds": 3, "seed_strategy": "vmap"},
    "loop": {"seeds": 3, "seed_strategy": "loop"},
    "float64": {"dtype": "float64"},
    "historical averaging": {"weight_historical_averaging": 0.01},
    "everything that keeps something": {
        "generator_norm": "virtual",
        "reference_rows": 12,
        "minibatch_kernels": 4,
        "discriminator_steps": 2,
        "weight_historical_averaging": 0.01,
    },
    "running statistics": {"network": "gan-mlp", "noise_hidden_std": 0.1, "seeds": 2, "seed_strategy": "vmap"},
    "constant step size": {"decay_last_fraction": 0.0},
    "falling from the beginning": {"decay_last_fraction": 1.0},
    "supervised": {"method": "supervised"},
    "no generator": {"weight_fake": 0.0},
    "consistency": {"weight_consistency": 1.0, "weight_entropy": 0.1},
    "a teacher": {"method": "mean-teacher", "ramp_up_fraction": 0.5},
    "teachers side by side": {"method": "mean-teacher", "seeds": 2, "seed_strategy": "vmap", "discriminator_steps": 2},
    "virtual adversaries": {"weight_vat": 1.0},
    "labels of its own": {"method": "pseudo-label", "pseudo_label_threshold": 0.3},
    "two views": {"method": "pi", "augmentation": "digits"},
    "another chunk of noise": {"total_images": 1440, "report_every_images": 280},
    "a short average": {"ema_half_life_images": 10.0},
    "an average of the last step": {"ema_half_life_images": 1e-3},
    "diverging": {"learning_rate_d": 1e39, "seeds": 2},
    "without labels in the loss": {"weight_labeled": 0.0},
}


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_a_run_interrupted_at_any_report_ends_with_the_same_bits(
    few_digits: Data, tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = tiny(evaluate_every_images=200, **settings)
    assert config.noise_hidden_std > 0
    whole, reports = follow(few_digits, config, into=tmp_path)
    assert len(reports) >= 4
    for i, report in enumerate(reports):
        torch.manual_seed(report.step)  # another process has drawn other numbers
        run, later = follow(few_digits, config, runs.load_checkpoint(tmp_path / str(report.step)))
        assert differences(ended(run), ended(whole)) == []
        assert differences(told(later), told(reports[i + 1 :])) == []
        assert run.seconds > runs.load_checkpoint(tmp_path / str(report.step))["seconds"]


def test_the_ways_hold_what_their_names_say(few_digits: Data) -> None:
    """So that the test above has something to lose: a step size that falls, noise that crosses a chunk, a seed lost."""
    assert tiny().decay_last_fraction > 0
    assert tiny(**WAYS["another chunk of noise"]).steps == 72  # 64 batches are a chunk
    lost = train(few_digits, tiny(**WAYS["diverging"]))
    assert len(lost.diverged) == len(lost.warnings) == 2
    state = train(few_digits, tiny(**WAYS["everything that keeps something"])).state()
    assert state["networks"]["G"]["buffers"].keys() == {"reference"}
    assert "minibatch.theta" in state["history"]["D"]


def test_a_run_interrupted_twice_and_seldom_looked_at_ends_with_the_same_bits(few_digits: Data, tmp_path: Path) -> None:
    """Where and how often to report is the user's to change on the way."""
    config = tiny(seeds=2, weight_historical_averaging=0.01)
    whole, reports = follow(few_digits, config, into=tmp_path)
    first = runs.load_checkpoint(tmp_path / str(reports[0].step))
    second = tmp_path / "second"
    second.mkdir()
    often = config.replace(report_every_images=60, evaluate_every_images=40, checkpoint_every_seconds=5.0)
    _, later = follow(few_digits, often, first, into=second)
    assert [report.step for report in later] == [6, 8, 9, 10, 12, 14, 15, 16, 18, 20]
    run, _ = follow(few_digits, config, runs.load_checkpoint(second / "14"))
    # What has been seen of the losses is another matter: it follows the reports.
    for name in ("networks", "optimizers", "average", "history", "noise", "steps_done", "warnings"):
        assert differences(run.state()[name], whole.state()[name]) == [], name
    assert (run.errors, run.ece, run.nll) == (whole.errors, whole.ece, whole.nll)


FORGOTTEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "the noise": lambda s: s.update(noise=torch.Generator().manual_seed(1).get_state()[None]),
    "the first moment of D": lambda s: [m.zero_() for m in s["optimizers"]["D"]["first"]],
    "the second moment of G": lambda s: [m.zero_() for m in s["optimizers"]["G"]["second"]],
    "the steps of Adam": lambda s: s["optimizers"]["G"].update(steps=0),
    "the average": lambda s: [v.zero_() for v in s["average"]["sums"].values()],
    "the history": lambda s: [v.zero_() for v in s["history"]["D"].values()],
    "the parameters": lambda s: [v.mul_(0.5) for v in s["networks"]["D"]["parameters"].values()],
    "the buffers": lambda s: [v.mul_(0.5) for v in s["networks"]["D"]["buffers"].values()],
    "the step": lambda s: s.update(steps_done=s["steps_done"] - 1),
    "what was seen": lambda s: s["watch"].update(matching=[]),
    "what was said": lambda s: s.update(warnings=["earlier"]),
}


@pytest.mark.parametrize("forget", FORGOTTEN.values(), ids=FORGOTTEN)
def test_no_part_of_a_checkpoint_is_idle(few_digits: Data, tmp_path: Path, forget: Callable[..., Any]) -> None:
    """The control of the tests above: whatever is lost on the way is missed at the end."""
    config = tiny(weight_historical_averaging=0.01)
    whole, reports = follow(few_digits, config, into=tmp_path)
    state = runs.load_checkpoint(tmp_path / str(reports[1].step))
    assert differences(ended(train(few_digits, config, state=state)), ended(whole)) == []
    forget(state)
    assert differences(ended(train(few_digits, config, state=state)), ended(whole)) != []


@pytest.mark.parametrize("where", ["noise", "moments"])
def test_a_restore_that_forgets_is_seen(few_digits: Data, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    halfway: list[dict[str, Any]] = []
    config = tiny()
    whole = train(few_digits, config, on_report=lambda report: halfway.append(copy.deepcopy(report.state())))
    if where == "noise":
        monkeypatch.setattr(Trainer, "_restore_noise", lambda self, state: None)
    else:
        monkeypatch.setattr(Adam, "restore", lambda self, state: None)
    odd = differences(train(few_digits, config, state=halfway[1]).state()["networks"], whole.state()["networks"])
    assert len(odd) > 5


def test_a_state_in_memory_is_left_as_it_was(few_digits: Data) -> None:
    """Two runs may go on from one: the first does not take the second along."""
    constant = {"decay_last_fraction": 0.0}
    first = train(few_digits, tiny(total_images=200, **constant))
    state, before = first.state(), copy.deepcopy(ended(first))
    one, other = (train(few_digits, tiny(**constant), state=state) for _ in range(2))
    assert differences(ended(one), ended(other)) == []
    assert differences(ended(first), before) == []
    assert one.trainer.steps_done == 2 * first.trainer.steps_done


def test_the_state_of_a_finished_run_stays_what_it_was_at_the_end(few_digits: Data) -> None:
    """Its noise and its time are those of the training, whatever the process does afterwards."""
    run = train(few_digits, tiny())
    before = copy.deepcopy(run.state())
    torch.rand(3)
    assert differences(run.state(), before) == []
    assert run.state()["seconds"] == run.seconds


def test_a_longer_run_goes_on_from_a_shorter_one(few_digits: Data) -> None:
    constant = {"decay_last_fraction": 0.0, "weight_historical_averaging": 0.01, "seeds": 2}
    state = train(few_digits, tiny(total_images=200, **constant)).state()
    run = train(few_digits, tiny(**constant), state=state)
    assert differences(ended(run), ended(train(few_digits, tiny(**constant)))) == []


def test_what_was_seen_goes_on_being_weighed() -> None:
    """A collapse shows against the median of all reports, and is said once, whenever the run was interrupted."""
    fine = {"U": np.array([0.5, 0.5]), "V": np.array([0.5, 0.5]), "feature_matching": np.array([1.0, 1.1])}
    won = {"U": np.array([1e-3, 0.5]), "V": np.array([1e-3, 0.5]), "feature_matching": np.array([50.0, 1.0])}
    lost = {**fine, "U": np.array([0.5, np.nan])}
    seen = [fine, fine, fine, won, lost, won]
    whole = Watch([3, 4])
    said = [whole.look(step, means) for step, means in enumerate(seen, 1)]
    assert [len(sentences) for sentences in said] == [0, 0, 0, 1, 1, 0]
    assert (whole.collapsed, whole.diverged) == ({3: 4}, {4: 5})
    for cut in range(len(seen) + 1):
        first, second = Watch([3, 4]), Watch([3, 4])
        sentences = [first.look(step, means) for step, means in enumerate(seen[:cut], 1)]
        second.restore(copy.deepcopy(first.state()))
        sentences += [second.look(step, means) for step, means in enumerate(seen[cut:], cut + 1)]
        assert sentences == said
        assert differences(second.state(), whole.state()) == []


def test_a_checkpoint_holds_what_it_must(few_digits: Data) -> None:
    assert train(few_digits, tiny()).state().keys() == STATE_KEYS


# Another state is refused, and nothing of it taken


def refused(data: Data, config: Config, state: Any) -> str:
    with pytest.raises(UserError) as caught:
        train(data, config, state=state, on_report=lambda report: pytest.fail("it trained"))
    return str(caught.value)


@pytest.fixture(scope="module")
def saved(few_digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run of two models at its first report."""
    folder = tmp_path_factory.mktemp("saved")
    follow(few_digits, tiny(seeds=2, weight_historical_averaging=0.01), into=folder)
    return folder / "5"


def test_a_state_of_other_settings_data_labels_or_device_is_refused(few_digits: Data, saved: Path) -> None:
    state, config = runs.load_checkpoint(saved), Config(**runs.load_checkpoint(saved)["config"])
    assert refused(few_digits, config.replace(batch_size=25, dtype="float64"), state) == (
        "The run was begun with other settings, so it cannot go on: batch_size 20, now 25, dtype float32, now float64."
    )
    pixel = few_digits.x_train.copy()
    pixel[0, 0, 0] ^= 1
    swapped = ("1", "0", *few_digits.classes[2:])
    for change in ({"x_train": pixel}, {"y_test": few_digits.y_test * 0}, {"scale": 17.0}, {"classes": swapped}):
        other = dataclasses.replace(few_digits, name="mine", **change)
        assert refused(other, config, state) == "mine does not hold what digits held when the run began."
    with pytest.raises(UserError) as caught:
        train(few_digits, config, indices=splits.draw(few_digits.y_train, 20, 9), state=state)
    assert str(caught.value) == "The run was begun with other labelled images, so it cannot go on with these."
    assert refused(few_digits, config, {**state, "device_type": "cuda"}) == (
        "The run was begun on cuda, and on cpu it would see other noise: go on with --device cuda."
    )


@pytest.mark.parametrize("key", sorted(STATE_KEYS - {"version"}))
def test_a_state_that_lacks_something_is_refused(few_digits: Data, saved: Path, key: str) -> None:
    state, config = runs.load_checkpoint(saved), Config(**runs.load_checkpoint(saved)["config"])
    del state[key]
    expected = f"The checkpoint cannot be gone on from (KeyError: {key!r})."
    assert refused(few_digits, config, state) == expected.replace(key, repr(key)[1:-1])


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "moment of another shape": (
        lambda s: s["optimizers"]["D"]["first"].__setitem__(0, torch.zeros(2, 1)),
        "(ValueError: a moment has shape [1], but its parameter ",
    ),
    "moment too few": (lambda s: s["optimizers"]["G"]["first"].pop(), "(ValueError: zip() argument 2 is shorter"),
    "moment without seeds": (
        lambda s: s["optimizers"]["D"]["first"].__setitem__(0, torch.zeros(())),
        "(IndexError: ",
    ),
    "optimizer too few": (lambda s: s["optimizers"].pop("G"), "(KeyError: 'G')"),
    "steps of Adam": (lambda s: s["optimizers"]["G"].pop("steps"), "(KeyError: 'steps')"),
    "average of another shape": (
        lambda s: s["average"]["sums"].update({"output.b": torch.zeros(2, 1)}),
        "(ValueError: an average of output.b has shape [2, 1])",
    ),
    "average too few": (lambda s: s["average"]["sums"].pop("output.b"), "(KeyError: 'output.b')"),
    "history of another shape": (
        lambda s: s["history"]["G"].update({"output.b": torch.zeros(())}),
        "(ValueError: an average of output.b has shape [])",
    ),
    "history too few": (lambda s: s["history"].pop("G"), "(KeyError: 'G')"),
    "noise of other seeds": (
        lambda s: s.update(noise=torch.zeros(7, 5056, dtype=torch.uint8)),
        "(ValueError: the noise is of 7 seeds)",
    ),
    "noise of another length": (lambda s: s.update(noise=torch.zeros(2, 7, dtype=torch.uint8)), "(RuntimeError: "),
    "noise of another type": (lambda s: s.update(noise=torch.zeros(2, 5056)), "(TypeError: "),
    "no settings": (lambda s: s.update(config=None), "(TypeError: "),
    "no data set": (lambda s: s.update(dataset="digits"), "(TypeError: "),
    "nothing seen": (lambda s: s.update(watch={}), "(KeyError: 'diverged')"),
    "a network too few": (lambda s: s["networks"].pop("G"), "(KeyError: 'G')"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_state_that_does_not_fit_is_refused(few_digits: Data, saved: Path, damage: Any, words: str) -> None:
    state, config = runs.load_checkpoint(saved), Config(**runs.load_checkpoint(saved)["config"])
    damage(state)
    sentence = refused(few_digits, config, state)
    assert sentence.startswith(f"The checkpoint cannot be gone on from {words}"), sentence


def test_a_state_of_another_version_is_refused(few_digits: Data, saved: Path) -> None:
    state, config = runs.load_checkpoint(saved), Config(**runs.load_checkpoint(saved)["config"])
    for other in (1, None):
        state["version"] = other
        assert refused(few_digits, config, state).startswith("The run was begun by another version of this program: ")


def test_a_network_that_does_not_fit_is_named(few_digits: Data, saved: Path) -> None:
    state, config = runs.load_checkpoint(saved), Config(**runs.load_checkpoint(saved)["config"])
    state["networks"]["D"]["parameters"]["output.v"] = torch.zeros(2, 1, 1)
    assert refused(few_digits, config, state) == "The checkpoint's parameters do not fit its network: output.v."
    assert refused(few_digits, config, [1, 2]).startswith("The checkpoint cannot be gone on from (")


# A run folder, in sessions


def read_log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def left_by(folder: Path) -> dict[str, Any]:
    """All that a run has left in its folder, but for the time it took and where it lies."""
    report = {key: value for key, value in without_clock(runs.read_report(folder)).items() if key != "run"}
    report["rows"] = [without_clock(row) for row in report["rows"]]
    exact = ("config.json", "split.json", "labeled.png", "samples.png", "curves.png")
    return {
        "files": sorted(path.name for path in folder.iterdir()),
        "checkpoint": without_clock(runs.load_checkpoint(folder / "checkpoint")),
        "report": report,
        "log": [without_clock(line) for line in read_log(folder)],
        **{name: (folder / name).read_bytes() for name in exact},
    }


def test_a_run_that_pauses_at_every_report_ends_as_one_that_does_not(few_digits: Data, tmp_path: Path) -> None:
    config = tiny(seeds=2, evaluate_every_images=200)
    whole, paused = (runs.claim(tmp_path / name, "digits", config) for name in ("whole", "paused"))
    given = run_experiment(few_digits, config, whole)
    sessions = []
    for step in (5, 10, 15):
        with pytest.raises(Paused, match=f"^{paused} has {step} of 20 steps.$"):
            run_experiment(few_digits, config, paused, pause_after_seconds=0)
        assert {path.name for path in paused.iterdir()} == BEGUN_ON
        state = runs.load_checkpoint(paused / "checkpoint")
        assert (state["steps_done"], [line["step"] for line in read_log(paused)][-1]) == (step, step)
        sessions.append(state["seconds"])
    assert 0 < sessions[0] < sessions[1] < sessions[2]
    report = run_experiment(few_digits, config, paused, pause_after_seconds=0)
    assert report == runs.read_report(paused)
    assert report["seconds"] > sessions[2]
    assert report["errors"] == given["errors"]
    assert differences(left_by(paused), left_by(whole)) == []


@pytest.fixture
def ten_seconds_each(monkeypatch: pytest.MonkeyPatch) -> Callable[[TrainingProgress], None]:
    """A callback for reports by which training takes ten seconds from one to the next, and nothing else takes time."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(experiment, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def on_report(report: TrainingProgress) -> None:
        clock.now += 10.0

    return on_report


def test_a_pause_comes_after_so_long_in_each_session(
    few_digits: Data, tmp_path: Path, ten_seconds_each: Callable[[TrainingProgress], None]
) -> None:
    config = tiny(report_every_images=40, checkpoint_every_seconds=0.0)
    folder = runs.claim(tmp_path / "run", "digits", config)
    for step in (6, 12, 18):
        with pytest.raises(Paused):
            run_experiment(few_digits, config, folder, ten_seconds_each, pause_after_seconds=25)
        assert runs.load_checkpoint(folder / "checkpoint")["steps_done"] == step
    run_experiment(few_digits, config, folder, ten_seconds_each, pause_after_seconds=25)
    assert runs.load_checkpoint(folder / "checkpoint")["steps_done"] == 20


@pytest.mark.parametrize(
    ("every", "steps"),
    [(0.0, list(range(2, 21, 2))), (1000.0, [20]), (25.0, [6, 12, 18, 20]), (30.0, [6, 12, 18, 20])],
    ids=["at every report", "at the end alone", "now and then", "to the second"],
)
def test_checkpoints_are_as_far_apart_as_asked(
    few_digits: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ten_seconds_each: Callable[[TrainingProgress], None],
    every: float,
    steps: list[int],
) -> None:
    written, save = [], runs.save_checkpoint

    def saving(path: Path, state: dict[str, Any]) -> None:
        # Killed here, a run may have a line too many, which is cut off, but never one too few.
        assert read_log(path.parent)[-1]["step"] == state["steps_done"]
        written.append(state["steps_done"])
        save(path, state)

    monkeypatch.setattr(runs, "save_checkpoint", saving)
    config = tiny(report_every_images=40, checkpoint_every_seconds=every)
    run_experiment(few_digits, config, runs.claim(tmp_path / "run", "digits", config), ten_seconds_each)
    assert written == steps


def test_labels_are_drawn_once(few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(seeds=2)
    folder = runs.claim(tmp_path / "run", "digits", config)
    with pytest.raises(Paused):
        run_experiment(few_digits, config, folder, pause_after_seconds=0)
    before = (folder / "split.json").read_bytes()

    def draw(*_: Any) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(splits, "draw", draw)
    report = run_experiment(few_digits, config, folder)
    assert (folder / "split.json").read_bytes() == before
    assert [row["split_sha256"] for row in report["rows"]] == [s.sha256 for s in splits.load(folder / "split.json")]
    with pytest.raises(AssertionError, match="drawn again"):
        run_experiment(few_digits, config, runs.claim(tmp_path / "new", "digits", config))


def test_the_saved_labels_are_the_ones_learned_from(few_digits: Data, tmp_path: Path) -> None:
    """Killed before its first checkpoint, a run begins again on the labelled images that its folder names."""
    config = tiny()
    folder = runs.claim(tmp_path / "run", "digits", config)
    rows = splits.draw(few_digits.y_train, 20, 99)
    splits.save(folder / "split.json", [splits.Split(rows, few_digits.y_train[rows])], [0])
    run_experiment(few_digits, config, folder)
    theirs = train(few_digits, config, indices=rows).state()
    assert (
        differences(
            without_clock(runs.load_checkpoint(folder / "checkpoint")), {"format_version": 2, **without_clock(theirs)}
        )
        == []
    )


# A process that is killed

PROCESS = [
    *["train", "digits", "--labels", "20", "--seeds", "2", "--device", "cpu", "--out", "run", "--json"],
    *["--set", "total_images=8000", "--set", "report_every_images=500", "--set", "evaluate_every_images=2500"],
    *[
        "--set",
        "discriminator_widths=16,8",
        "--set",
        "generator_widths=16",
        "--set",
        "weight_historical_averaging=0.01",
    ],
]
OFTEN, NEVER = ["--set", "checkpoint_every_seconds=0"], ["--set", "checkpoint_every_seconds=100000"]
AGAIN = ["train", "digits", "--out", "run", "--resume", "--json"]


@pytest.fixture
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def killed(folder: Path, arguments: list[str], ready: Callable[[Path], bool]) -> Path:
    """A real process, killed without a chance to say good-bye as soon as its run folder is ready for it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(ssgan.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command, run = [sys.executable, "-m", "ssgan.cli", *arguments], folder / "run"
    for _ in range(3):  # on a busy machine it may be over before this process has its turn again
        shutil.rmtree(run, ignore_errors=True)
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            while not ready(run) and process.poll() is None:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            said = process.communicate(timeout=60)[1]
        if not (run / "report.json").exists():
            break
    assert process.returncode == -signal.SIGKILL, said
    assert not (run / "report.json").exists(), "it was over too soon to be killed"
    return run


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What the process leaves that nobody kills, and the errors in its log."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert status_of(*PROCESS, *OFTEN) == 0
    left = left_by(folder / "run")
    assert [line["step"] for line in left["log"]] == list(range(5, 81, 5))
    assert sum(line["errors"] is not None for line in left["log"]) == 3
    return folder / "run", left


@pytest.fixture(scope="module")
def killed_in_the_middle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = killed(tmp_path_factory.mktemp("killed"), [*PROCESS, *OFTEN], lambda run: (run / "checkpoint").exists())
    assert 0 < runs.load_checkpoint(run / "checkpoint")["steps_done"] < 80
    return run


@pytest.mark.usefixtures("_in_the_folder")
@pytest.mark.parametrize("more", ["as it is", "ahead and torn", "garbage", "no log"])
def test_a_killed_process_goes_on_to_the_same_bits(
    killed_in_the_middle: Path, uninterrupted: tuple[Path, dict[str, Any]], tmp_path: Path, more: str
) -> None:
    """Whatever the last moment did to the log: each step has its line, once and in order."""
    run = Path(shutil.copytree(killed_in_the_middle, tmp_path / "run"))
    log, done = run / "log.jsonl", runs.load_checkpoint(run / "checkpoint")["steps_done"]
    kept = [line for line in log.read_text().splitlines() if '"step"' in line and line.endswith("}")][: done // 5]
    whole = "\n".join(kept) + "\n"
    if more == "ahead and torn":
        log.write_bytes((uninterrupted[0] / "log.jsonl").read_bytes()[:-40])
    elif more == "garbage":
        log.write_bytes(whole.encode() + b'{"step": 10\xff\xc3\n[]\n7\n{"step": null}\n{"step": "5"}\n{}')
    elif more == "no log":
        log.unlink()
    assert status_of(*AGAIN) == 0
    left, expected = left_by(run), uninterrupted[1]
    if more == "no log":  # what is gone is gone, but nothing else is harmed
        expected = {**expected, "log": expected["log"][done // 5 :], "curves.png": left["curves.png"]}
    assert differences(left, expected) == []


@pytest.mark.usefixtures("_in_the_folder")
def test_a_process_killed_before_its_first_checkpoint_begins_again(
    uninterrupted: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run = killed(tmp_path, [*PROCESS, *NEVER], lambda run: (run / "log.jsonl").exists())
    assert not (run / "checkpoint").exists()
    # Where and how often to write may change, and config.json then says so.
    assert status_of(*AGAIN, *OFTEN) == 0
    assert runs.read_config(run).checkpoint_every_seconds == 0.0
    assert differences(left_by(run), uninterrupted[1]) == []


@pytest.mark.usefixtures("_in_the_folder")
def test_a_report_that_was_not_written_is_made_from_the_last_checkpoint(
    uninterrupted: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(uninterrupted[0], tmp_path / "run"))
    for name in ("report.json", "samples.png", "curves.png"):
        (run / name).unlink()
    before = contents(run)
    monkeypatch.setattr("ssgan.training.trainer.Trainer.step", lambda *_: pytest.fail("it trained"))
    assert status_of(*AGAIN) == 0
    assert differences(left_by(run), uninterrupted[1]) == []
    assert {name: content for name, content in contents(run).items() if name in before} == before


# At the command line: `ssgan train DATA --out RUN --resume`


@pytest.fixture(scope="module")
def begun(few_digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set of one's own, a run of it that paused on its way, one whose step size is constant, and
    one that is finished."""
    folder = tmp_path_factory.mktemp("begun")
    write_npz(folder / "few.npz", few_digits)
    data = load(folder / "few.npz")
    falling = tiny(preset="digits", seeds=2)
    constant = falling.replace(decay_last_fraction=0.0)
    for name, config in (("run", falling), ("constant", constant)):
        with pytest.raises(Paused):
            run_experiment(data, config, runs.claim(folder / name, "few", config), pause_after_seconds=0)
    for name, config in (("done", constant), ("long", constant.replace(total_images=600))):
        run_experiment(data, config, runs.claim(folder / name, "few", config))
    return folder


@pytest.fixture
def here(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in."""
    monkeypatch.chdir(shutil.copytree(begun, tmp_path / "here"))
    return tmp_path / "here"


@pytest.fixture
def refusal(here: Path, mistake: Callable[..., str]) -> Callable[..., str]:
    """What `train few.npz --out RUN --resume` answers; nothing in the folder may change."""
    return lambda *more, run="run", data="few.npz": mistake("train", data, "--out", run, "--resume", "--json", *more)


def test_resume_needs_a_run(here: Path, refusal: Callable[..., str], mistake: Callable[..., str]) -> None:
    words = "--resume needs --out, the folder of the run to go on with."
    assert mistake("train", "few.npz", "--resume", "--dry-run") == words
    assert refusal("--config", "done", "--dry-run") == (
        "--config done does not go with --resume, which has the settings of run: choose one."
    )
    for name in ("nowhere", "few.npz"):
        expected = f"There is no run folder {name}: give the folder that `ssgan train` printed."
        assert refusal(run=name) == expected
    (here / "empty").mkdir()
    assert refusal(run="empty") == "empty is no run folder: there is no config.json in it."
    (here / "empty" / "config.json").write_text('{"labels": 20, "weight_of_tomorrow": 1}')
    assert refusal(run="empty") == (
        "empty/config.json: The configuration holds settings that this version does not know: weight_of_tomorrow."
    )


def test_other_settings_are_refused(refusal: Callable[..., str]) -> None:
    def words(*changes: str, run: str = "run") -> str:
        return (
            f"{run} was begun with other settings, so it cannot go on: {', '.join(changes)}; leave them as they were, "
            f"or begin another run with --config {run}."
        )

    assert refusal("--set", "learning_rate_d=0.1") == words("learning_rate_d 0.002, now 0.1")
    several = refusal("--seed", "5", "--labels", "30", "--method", "supervised", "--seeds", "3")
    assert several == words("method gan, now supervised", "labels 20, now 30", "seed 0, now 5", "seeds 2, now 3")
    assert refusal("--preset", "mnist-paper") == words("preset digits, now mnist-paper")
    for more in ([], ["--preset", "digits"]):
        assert refusal("--set", "preset=mine", *more) == "preset=mine cannot be set: choose it with --preset."
    assert refusal("--draw-seed", "0") == words("draw_seed none, now 0")
    assert refusal("--set", "decay_last_fraction=0.333333") == words(f"decay_last_fraction {1 / 3!r}, now 0.333333")
    falls = " (with decay_last_fraction above 0, every step size depends on the length)"
    for run, why in (("run", falls), ("constant", "")):
        assert refusal("--set", "total_images=300", run=run) == words("total_images 400, now 300", run=run)
        longer = ["--set", "total_images=600", "--set", "dtype=float64"]
        changes = [f"total_images 400, now 600{why}"] * bool(why)
        assert refusal(*longer, run=run) == words(*changes, "dtype float32, now float64", run=run)
    assert refusal("--epochs", "1", run="done") == words("total_images 400, now 300", run="done")


def test_a_setting_out_of_its_range_is_refused(refusal: Callable[..., str]) -> None:
    assert (
        refusal("--set", "report_every_images=0") == "report_every_images is 0, but must be a whole number at least 1."
    )
    assert refusal("--device", "tpu").startswith("There is no device 'tpu' here: choose from auto, ")


def write_npz(path: Path, data: Data, **change: np.ndarray) -> None:
    names = ("x_train", "y_train", "x_test", "y_test", "classes", "scale")
    np.savez(path, **{**{name: np.asarray(getattr(data, name)) for name in names}, **change})


@pytest.mark.parametrize("run", ["run", "done"])
@pytest.mark.parametrize("longer", [[], ["--set", "total_images=800"]], ids=["", "longer"])
def test_other_data_are_refused(
    here: Path, refusal: Callable[..., str], few_digits: Data, run: str, longer: list[str]
) -> None:
    """Also for a run that is finished: its report is no report of these data, and is neither shown nor lost."""
    pixel = few_digits.x_train.copy()
    pixel[0, 0, 0] ^= 1
    write_npz(here / "few.npz", few_digits, x_train=pixel)
    when = {"run": "the run began", "done": "done was trained"}[run]
    more = longer if run == "done" else []
    assert refusal(*more, run=run) == f"few does not hold what few held when {when}."
    assert refusal(*more, run=run, data="digits") == f"digits does not hold what few held when {when}."


def test_data_of_other_labels_or_fewer_images_are_refused(
    here: Path, refusal: Callable[..., str], few_digits: Data
) -> None:
    words = "run/split.json holds other labels than few: was the run begun on other data?"
    for checkpointed in (True, False):
        if not checkpointed:
            (here / "run" / "checkpoint").unlink()
        write_npz(here / "few.npz", few_digits, y_train=(few_digits.y_train + 1) % 10)
        assert refusal() == words
        write_npz(here / "few.npz", few_digits, x_train=few_digits.x_train[:120], y_train=few_digits.y_train[:120])
        assert refusal() == words


def test_other_labelled_images_are_refused(here: Path, refusal: Callable[..., str], few_digits: Data) -> None:
    path = here / "run" / "split.json"
    content = json.loads(path.read_text())
    rows = splits.draw(few_digits.y_train, 20, 77)
    content["splits"][1]["indices"], content["splits"][1]["y"] = rows.tolist(), few_digits.y_train[rows].tolist()
    path.write_text(json.dumps(content))
    assert refusal() == "run/split.json does not match its own SHA-256: it was changed after it was written."
    content["splits"][1]["sha256"] = splits.Split(rows, few_digits.y_train[rows]).sha256
    path.write_text(json.dumps(content))
    assert refusal() == "The run was begun with other labelled images, so it cannot go on with these."
    path.write_text(json.dumps({**content, "splits": content["splits"][:1] * 3}))
    assert refusal() == "run/split.json holds other labels than few: was the run begun on other data?"


def edited(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """The checkpoint of a run, changed and whole again."""
    state = torch.load(run / "checkpoint", weights_only=True)
    change(state)
    torch.save(state, run / "checkpoint")


def test_another_device_is_refused(here: Path, refusal: Callable[..., str]) -> None:
    edited(here / "run", lambda state: state.update(device_type="cuda"))
    assert refusal() == "The run was begun on cuda, and on cpu it would see other noise: go on with --device cuda."


def test_a_checkpoint_of_other_settings_than_its_config_is_refused(here: Path, refusal: Callable[..., str]) -> None:
    edited(here / "run", lambda state: state["config"].update(batch_size=25))
    assert refusal() == ("The run was begun with other settings, so it cannot go on: batch_size 25, now 20.")


@pytest.mark.parametrize("run", ["run", "done"])
def test_a_damaged_checkpoint_is_refused(here: Path, refusal: Callable[..., str], run: str) -> None:
    """Also where a finished run is to go on for longer: its report stays."""
    path, more = here / run / "checkpoint", ["--set", "total_images=800"] * (run == "done")
    edited(here / run, lambda state: state["optimizers"]["D"]["first"].pop())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    words = f"{run}/checkpoint cannot be read as a checkpoint: it is damaged or something else."
    assert refusal(*more, run=run) == words
    path.write_bytes(whole)
    edited(here / run, lambda state: state.update(format_version=1))
    assert refusal(*more, run=run) == f"{run}/checkpoint has format version 1, but this version of ssgan reads 2."


@pytest.mark.parametrize("run", ["run", "done"])
def test_a_checkpoint_that_lacks_something_is_refused(here: Path, refusal: Callable[..., str], run: str) -> None:
    whole, more = (here / run / "checkpoint").read_bytes(), ["--set", "total_images=800"] * (run == "done")
    for key in STATE_KEYS - {"version"}:
        (here / run / "checkpoint").write_bytes(whole)
        edited(here / run, lambda state, key=key: state.pop(key))
        assert refusal(*more, run=run) == f"The checkpoint cannot be gone on from (KeyError: {key!r})."


def test_a_damaged_moment_is_refused(here: Path, refusal: Callable[..., str]) -> None:
    edited(here / "run", lambda state: state["optimizers"]["D"]["second"].reverse())
    assert refusal().startswith("The checkpoint cannot be gone on from (ValueError: a moment has shape ")


def test_the_same_settings_may_be_said_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that began a run, with --resume behind it."""
    said = ["--labels", "20", "--method", "gan", "--preset", "digits", "--seeds", "2", "--set", "total_images=400"]
    assert status_of("train", "few.npz", "--out", "run", "--resume", *said) == 0
    words = capsys.readouterr().out
    assert "few: 20 labelled of 300 images, method gan, 2 models, 400 images" in words
    source = runs.read_report(here / "run")["source"]
    assert source == {"data": str(here / "few.npz"), "data_dir": None, "labels_csv": None}


def test_a_dry_run_shows_the_settings_of_the_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(here)
    more = ["--set", "report_every_images=40", "--dry-run", "--json"]
    assert status_of("train", "few.npz", "--out", "run", "--resume", *more) == 0
    expected = runs.read_config(here / "run").replace(report_every_images=40)
    assert Config(**last_object(capsys.readouterr().out)) == expected
    assert contents(here) == before


@pytest.mark.parametrize("run", ["constant", "done"])
def test_a_run_of_constant_step_size_may_get_longer(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: str
) -> None:
    """To the same bits as a run begun with that length; meanwhile no report and no samples speak of the shorter one."""
    folder, began = here / run, []

    def training(*arguments: Any) -> Run:
        began.append((runs.read_config(folder).total_images, {path.name for path in folder.iterdir()}))
        return train(*arguments)

    monkeypatch.setattr(experiment, "train", training)
    assert status_of("train", "few.npz", "--out", run, "--resume", "--set", "total_images=600") == 0
    assert began == [(600, BEGUN_ON | ({"curves.png"} if run == "done" else set()))]
    ours, theirs = left_by(folder), left_by(here / "long")
    for left in (ours, theirs):
        left["report"].pop("source")
    assert differences(ours, theirs) == []
    capsys.readouterr()
    assert status_of("evaluate", run, "--json") == 0
    assert last_object(capsys.readouterr().out)["errors"] == theirs["report"]["errors"]


def test_a_finished_run_is_shown_and_not_trained(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiment, "run_experiment", lambda *_: pytest.fail("it trained"))
    before, report = contents(here), runs.read_report(here / "done")
    for more in ([], ["--set", "total_images=400", "--set", "report_every_images=40"]):
        assert status_of("train", "few.npz", "--out", "done", "--resume", "--json", *more) == 0
        assert last_object(capsys.readouterr().out) == report
        assert status_of("train", "few.npz", "--out", "done", "--resume", *more) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "This run is finished: nothing was left to train." in lines
        assert any(line.startswith(f"accuracy {100 - report['error_mean']:.2f} +- ") for line in lines)
    assert contents(here) == before


HOLD = """
import sys, time
from ssgan import runs
with runs.held(runs.Path(sys.argv[1])):
    print(flush=True)
    time.sleep(60)
"""


def test_two_at_once_do_not_meet(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While a process trains in a folder, another is told so and changes nothing; when that ends, it may go on."""
    before = contents(here)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, here / "run"], stdout=subprocess.PIPE, cwd=Path(ssgan.__file__).parents[1]
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()
        assert status_of("train", "few.npz", "--out", "run", "--resume") == 2
        said = "Another `ssgan` is training in run: wait until it is done, or choose another folder with --out."
        assert capsys.readouterr() == ("", f"ssgan: {said}\n")
        assert contents(here) == before
    finally:
        other.kill()
        other.wait()
    assert status_of("train", "few.npz", "--out", "run", "--resume") == 0
    assert status_of("train", "few.npz", "--out", "run", "--resume") == 0  # nor does it hold it any longer


def test_an_interruption_says_how_to_go_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With every word that the next command needs."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "train", interrupt)
    (here / "few.npz").rename(here / "my few.npz")
    given = ["train", "my few.npz", "--labels", "20", "--out", "my run", "--data-dir", "my cache"]
    assert status_of(*given) == 130
    again, _ = capsys.readouterr().err.splitlines()
    words = "ssgan train 'my few.npz' --data-dir 'my cache' --out 'my run' --resume"
    assert again == f"ssgan: my run is unfinished; go on with it by: {words}"
