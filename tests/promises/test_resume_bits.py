"""A resumed training ends with the same bits as an uninterrupted one."""

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


def results_of(run: Run) -> dict[str, Any]:
    """All results of a training, without timings."""
    scores = {name: getattr(run, name) for name in ("errors", "errors_raw", "ece", "nll")}
    seen = {name: getattr(run, name) for name in ("diverged", "collapsed", "warnings")}
    return {"state": without_clock(run.state()), "averaged": run.models.averaged, **scores, **seen}


def report_values(reports: list[TrainingProgress]) -> list[dict[str, Any]]:
    names = ("step", "steps", "images", "means", "errors", "warnings")
    return [{name: getattr(report, name) for name in names} for report in reports]


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "gan": {},
    "vmap": {"seeds": 3, "seed_strategy": "vmap"},
    "loop": {"seeds": 3, "seed_strategy": "loop"},
    "float64": {"dtype": "float64"},
    "historical averaging": {"weight_historical_averaging": 0.01},
    "all stateful settings": {
        "generator_norm": "virtual",
        "reference_rows": 12,
        "minibatch_kernels": 4,
        "discriminator_steps": 2,
        "weight_historical_averaging": 0.01,
    },
    "running statistics": {"network": "gan-mlp", "noise_hidden_std": 0.1, "seeds": 2, "seed_strategy": "vmap"},
    "constant step size": {"decay_last_fraction": 0.0},
    "decay from the first step": {"decay_last_fraction": 1.0},
    "supervised": {"method": "supervised"},
    "no generator": {"weight_fake": 0.0},
    "consistency": {"weight_consistency": 1.0, "weight_entropy": 0.1},
    "mean teacher": {"method": "mean-teacher", "ramp_up_fraction": 0.5},
    "stacked mean teachers": {"method": "mean-teacher", "seeds": 2, "seed_strategy": "vmap", "discriminator_steps": 2},
    "vat": {"weight_vat": 1.0},
    "pseudo-labels": {"method": "pseudo-label", "pseudo_label_threshold": 0.3},
    "two views": {"method": "pi", "augmentation": "digits"},
    "second chunk of noise": {"total_images": 1440, "report_every_images": 280},
    "spread labels": {"label_spreading_fraction": 0.6, "seeds": 2, "discriminator_steps": 2},
    "short average": {"ema_half_life_images": 10.0},
    "average of the last step": {"ema_half_life_images": 1e-3},
    "diverging": {"learning_rate_d": 1e39, "seeds": 2},
    "without labels in the loss": {"weight_labeled": 0.0},
}


@pytest.mark.parametrize("settings", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_run_interrupted_at_any_report_ends_with_the_same_bits(
    few_digits: Data, tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = tiny(evaluate_every_images=200, **settings)
    assert config.noise_hidden_std > 0
    whole, reports = follow(few_digits, config, into=tmp_path)
    assert len(reports) >= 4
    for i, report in enumerate(reports):
        torch.manual_seed(report.step)  # another process has another random state
        run, later = follow(few_digits, config, runs.load_checkpoint(tmp_path / str(report.step)))
        assert differences(results_of(run), results_of(whole)) == []
        assert differences(report_values(later), report_values(reports[i + 1 :])) == []
        assert run.seconds > runs.load_checkpoint(tmp_path / str(report.step))["seconds"]


def test_configurations_have_the_stated_properties(few_digits: Data) -> None:
    """So that the test above is not trivial: a decaying step size, noise that crosses a chunk, a diverged seed."""
    assert tiny().decay_last_fraction > 0
    assert tiny(**CONFIGURATIONS["second chunk of noise"]).steps == 72  # 64 batches are a chunk
    lost = train(few_digits, tiny(**CONFIGURATIONS["diverging"]))
    assert len(lost.diverged) == len(lost.warnings) == 2
    state = train(few_digits, tiny(**CONFIGURATIONS["all stateful settings"])).state()
    assert state["networks"]["G"]["buffers"].keys() == {"reference"}
    assert "minibatch.theta" in state["history"]["D"]


def test_run_interrupted_twice_with_other_intervals_ends_with_the_same_bits(few_digits: Data, tmp_path: Path) -> None:
    """The user may change the report intervals on resume."""
    config = tiny(seeds=2, weight_historical_averaging=0.01)
    whole, reports = follow(few_digits, config, into=tmp_path)
    first = runs.load_checkpoint(tmp_path / str(reports[0].step))
    second = tmp_path / "second"
    second.mkdir()
    often = config.replace(report_every_images=60, evaluate_every_images=40, checkpoint_every_seconds=5.0)
    _, later = follow(few_digits, often, first, into=second)
    assert [report.step for report in later] == [6, 8, 9, 10, 12, 14, 15, 16, 18, 20]
    run, _ = follow(few_digits, config, runs.load_checkpoint(second / "14"))
    # The history of the losses is not compared: it depends on the reports.
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
    "the loss history": lambda s: s["watch"].update(matching=[]),
    "the warnings": lambda s: s.update(warnings=["earlier"]),
}


@pytest.mark.parametrize("forget", FORGOTTEN.values(), ids=FORGOTTEN)
def test_every_part_of_a_checkpoint_is_needed(few_digits: Data, tmp_path: Path, forget: Callable[..., Any]) -> None:
    """Control of the tests above: losing any part changes the results."""
    config = tiny(weight_historical_averaging=0.01)
    whole, reports = follow(few_digits, config, into=tmp_path)
    state = runs.load_checkpoint(tmp_path / str(reports[1].step))
    assert differences(results_of(train(few_digits, config, state=state)), results_of(whole)) == []
    forget(state)
    assert differences(results_of(train(few_digits, config, state=state)), results_of(whole)) != []


@pytest.mark.parametrize("where", ["noise", "moments"])
def test_incomplete_restore_is_detected(few_digits: Data, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    halfway: list[dict[str, Any]] = []
    config = tiny()
    whole = train(few_digits, config, on_report=lambda report: halfway.append(copy.deepcopy(report.state())))
    if where == "noise":
        monkeypatch.setattr(Trainer, "_restore_noise", lambda self, state: None)
    else:
        monkeypatch.setattr(Adam, "restore", lambda self, state: None)
    odd = differences(train(few_digits, config, state=halfway[1]).state()["networks"], whole.state()["networks"])
    assert len(odd) > 5


def test_training_does_not_modify_the_given_state(few_digits: Data) -> None:
    """Two runs may resume from one state: the first does not change it for the second."""
    constant = {"decay_last_fraction": 0.0}
    first = train(few_digits, tiny(total_images=200, **constant))
    state, before = first.state(), copy.deepcopy(results_of(first))
    one, other = (train(few_digits, tiny(**constant), state=state) for _ in range(2))
    assert differences(results_of(one), results_of(other)) == []
    assert differences(results_of(first), before) == []
    assert one.trainer.steps_done == 2 * first.trainer.steps_done


def test_state_of_a_finished_run_does_not_change(few_digits: Data) -> None:
    """Its noise and time are those of the training; later draws of the process have no effect."""
    run = train(few_digits, tiny())
    before = copy.deepcopy(run.state())
    torch.rand(3)
    assert differences(run.state(), before) == []
    assert run.state()["seconds"] == run.seconds


def test_longer_run_resumes_from_a_shorter_one(few_digits: Data) -> None:
    constant = {"decay_last_fraction": 0.0, "weight_historical_averaging": 0.01, "seeds": 2}
    state = train(few_digits, tiny(total_images=200, **constant)).state()
    run = train(few_digits, tiny(**constant), state=state)
    assert differences(results_of(run), results_of(train(few_digits, tiny(**constant)))) == []


def test_failure_detector_state_survives_interruptions() -> None:
    """A collapse is measured against the median of all reports and reported once, wherever the run is interrupted."""
    fine = {"U": np.array([0.5, 0.5]), "V": np.array([0.5, 0.5]), "feature_matching": np.array([1.0, 1.1])}
    collapse = {"U": np.array([1e-3, 0.5]), "V": np.array([1e-3, 0.5]), "feature_matching": np.array([50.0, 1.0])}
    divergence = {**fine, "U": np.array([0.5, np.nan])}
    seen = [fine, fine, fine, collapse, divergence, collapse]
    whole = FailureDetector([3, 4])
    expected = [whole.check_losses(step, means) for step, means in enumerate(seen, 1)]
    assert [len(sentences) for sentences in expected] == [0, 0, 0, 1, 1, 0]
    assert (whole.collapsed, whole.diverged) == ({3: 4}, {4: 5})
    for cut in range(len(seen) + 1):
        first, second = FailureDetector([3, 4]), FailureDetector([3, 4])
        sentences = [first.check_losses(step, means) for step, means in enumerate(seen[:cut], 1)]
        second.restore(copy.deepcopy(first.state()))
        sentences += [second.check_losses(step, means) for step, means in enumerate(seen[cut:], cut + 1)]
        assert sentences == expected
        assert differences(second.state(), whole.state()) == []


def test_checkpoint_has_all_required_keys(few_digits: Data) -> None:
    assert train(few_digits, tiny()).state().keys() == STATE_KEYS
