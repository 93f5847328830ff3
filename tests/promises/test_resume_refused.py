"""The state of another training, or a damaged one, is refused."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_runs import follow
from small_configs import tiny
from small_trainings import labeled_splits

from ssgan import runs
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.errors import UserError
from ssgan.settings.config import Config
from ssgan.training.state import STATE_KEYS
from ssgan.training.trainer import train


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
        "The run was started with other settings, so it cannot be resumed: batch_size 20, now 25, dtype float32, now "
        "float64."
    )
    pixel = few_digits.x_train.copy()
    pixel[0, 0, 0] ^= 1
    swapped = ("1", "0", *few_digits.classes[2:])
    for change in ({"x_train": pixel}, {"y_test": few_digits.y_test * 0}, {"scale": 17.0}, {"classes": swapped}):
        other = dataclasses.replace(few_digits, name="mine", **change)
        assert refused(other, config, state) == "mine does not match digits as it was when the run began."
    with pytest.raises(UserError) as caught:
        train(
            few_digits, config, labeled_splits(few_digits, config, splits.draw(few_digits.y_train, 20, 9)), state=state
        )
    assert str(caught.value) == "The run was started with other labelled images, so it cannot be resumed with these."
    assert refused(few_digits, config, {**state, "device_type": "cuda"}) == (
        "The run was started on cuda, and on cpu it would see other noise: resume with --device cuda."
    )


@pytest.mark.parametrize("key", sorted(STATE_KEYS - {"version"}))
def test_state_with_a_missing_key_is_refused(few_digits: Data, saved: Path, key: str) -> None:
    state, config = runs.load_checkpoint(saved), Config(**runs.load_checkpoint(saved)["config"])
    del state[key]
    assert refused(few_digits, config, state) == f"The checkpoint lacks {key}: it is damaged or in another format."


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "moment of another shape": (
        lambda s: s["optimizers"]["D"]["first"].__setitem__(0, torch.zeros(2, 1)),
        "'s values of first of the optimizer of D do not fit its network: trunk.",
    ),
    "missing moment": (
        lambda s: s["optimizers"]["G"]["first"].pop(),
        " does not have one tensor for each parameter in first of the optimizer of G:",
    ),
    "moment without seeds": (
        lambda s: s["optimizers"]["D"]["first"].__setitem__(0, torch.zeros(())),
        "'s values of first of the optimizer of D do not fit its network: trunk.",
    ),
    "missing optimizer": (lambda s: s["optimizers"].pop("G"), " has optimizers of D, not of D, G:"),
    "steps of Adam": (
        lambda s: s["optimizers"]["G"].pop("steps"),
        " has other entries than first, second, steps for the optimizer of G:",
    ),
    "average of another shape": (
        lambda s: s["average"]["sums"].update({"output.b": torch.zeros(2, 1)}),
        "'s averaged parameters do not fit its network: output.b.",
    ),
    "missing average": (
        lambda s: s["average"]["sums"].pop("output.b"),
        "'s averaged parameters do not fit its network: output.b.",
    ),
    "history of another shape": (
        lambda s: s["history"]["G"].update({"output.b": torch.zeros(())}),
        "'s averages of past parameters of G do not fit its network: output.b.",
    ),
    "missing history": (lambda s: s["history"].pop("G"), " has a history of other networks than its settings ask for:"),
    "noise of other seeds": (
        lambda s: s.update(noise=torch.zeros(7, 5056, dtype=torch.uint8)),
        " has noise of [7, 5056] torch.uint8, which should be [2, 5056] torch.uint8:",
    ),
    "noise of another length": (
        lambda s: s.update(noise=torch.zeros(2, 7, dtype=torch.uint8)),
        " has noise of [2, 7] torch.uint8, which should be [2, 5056] torch.uint8:",
    ),
    "noise of another type": (
        lambda s: s.update(noise=torch.zeros(2, 5056)),
        " has noise of [2, 5056] torch.float32, which should be",
    ),
    "no settings": (lambda s: s.update(config=None), " has config = null, which should be an object of settings:"),
    "no data set": (lambda s: s.update(dataset="digits"), ' has dataset = "digits", which should be an object:'),
    "empty watch": (lambda s: s.update(watch={}), " lacks watch.diverged:"),
    "missing network": (lambda s: s["networks"].pop("G"), " has the networks D, which should be D, G:"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_state_is_refused(few_digits: Data, saved: Path, damage: Any, words: str) -> None:
    state, config = runs.load_checkpoint(saved), Config(**runs.load_checkpoint(saved)["config"])
    damage(state)
    sentence = refused(few_digits, config, state)
    assert sentence.startswith(f"The checkpoint{words}"), sentence


def test_a_state_of_another_version_is_refused(few_digits: Data, saved: Path) -> None:
    state, config = runs.load_checkpoint(saved), Config(**runs.load_checkpoint(saved)["config"])
    for other in (1, None):
        state["version"] = other
        assert refused(few_digits, config, state).startswith("The run was started by another version of this program: ")


def test_network_parameters_of_wrong_shape_are_reported(few_digits: Data, saved: Path) -> None:
    state, config = runs.load_checkpoint(saved), Config(**runs.load_checkpoint(saved)["config"])
    state["networks"]["D"]["parameters"]["output.v"] = torch.zeros(2, 1, 1)
    assert refused(few_digits, config, state) == "The checkpoint's parameters do not fit its network: output.v."
    assert refused(few_digits, config, [1, 2]) == "The checkpoint is not an object: it is damaged or in another format."
