"""A training that is interrupted and goes on ends with the same bits as one that is not."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from resumed_runs import differences, follow, without_clock
from small_configs import tiny

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.training.monitor import FailureDetector, Run, TrainingProgress
from ssgan.training.optimizers import Adam
from ssgan.training.state import STATE_KEYS
from ssgan.training.trainer import Trainer, train


def ended(run: Run) -> dict[str, Any]:
    """All that a training comes to, but for the time it took."""
    scores = {name: getattr(run, name) for name in ("errors", "errors_raw", "ece", "nll")}
    seen = {name: getattr(run, name) for name in ("diverged", "collapsed", "warnings")}
    return {"state": without_clock(run.state()), "averaged": run.models.averaged, **scores, **seen}


def told(reports: list[TrainingProgress]) -> list[dict[str, Any]]:
    names = ("step", "steps", "images", "means", "errors", "warnings")
    return [{name: getattr(report, name) for name in names} for report in reports]


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
    "spread labels": {"label_spreading_fraction": 0.6, "seeds": 2, "discriminator_steps": 2},
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
    whole = FailureDetector([3, 4])
    said = [whole.check_losses(step, means) for step, means in enumerate(seen, 1)]
    assert [len(sentences) for sentences in said] == [0, 0, 0, 1, 1, 0]
    assert (whole.collapsed, whole.diverged) == ({3: 4}, {4: 5})
    for cut in range(len(seen) + 1):
        first, second = FailureDetector([3, 4]), FailureDetector([3, 4])
        sentences = [first.check_losses(step, means) for step, means in enumerate(seen[:cut], 1)]
        second.restore(copy.deepcopy(first.state()))
        sentences += [second.check_losses(step, means) for step, means in enumerate(seen[cut:], cut + 1)]
        assert sentences == said
        assert differences(second.state(), whole.state()) == []


def test_a_checkpoint_holds_what_it_must(few_digits: Data) -> None:
    assert train(few_digits, tiny()).state().keys() == STATE_KEYS
