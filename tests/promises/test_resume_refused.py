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
from ssgan.training.monitor import STATE_KEYS
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
        "The run was begun with other settings, so it cannot go on: batch_size 20, now 25, dtype float32, now float64."
    )
    pixel = few_digits.x_train.copy()
    pixel[0, 0, 0] ^= 1
    swapped = ("1", "0", *few_digits.classes[2:])
    for change in ({"x_train": pixel}, {"y_test": few_digits.y_test * 0}, {"scale": 17.0}, {"classes": swapped}):
        other = dataclasses.replace(few_digits, name="mine", **change)
        assert refused(other, config, state) == "mine does not hold what digits held when the run began."
    with pytest.raises(UserError) as caught:
        train(
            few_digits, config, labeled_splits(few_digits, config, splits.draw(few_digits.y_train, 20, 9)), state=state
        )
    assert str(caught.value) == "The run was begun with other labelled images, so it cannot go on with these."
    assert refused(few_digits, config, {**state, "device_type": "cuda"}) == (
        "The run was begun on cuda, and on cpu it would see other noise: go on with --device cuda."
    )


@pytest.mark.parametrize("key", sorted(STATE_KEYS - {"version"}))
def test_a_state_that_lacks_something_is_refused(few_digits: Data, saved: Path, key: str) -> None:
    state, config = runs.load_checkpoint(saved), Config(**runs.load_checkpoint(saved)["config"])
    del state[key]
    expected = f"The checkpoint cannot be resumed from (KeyError: {key!r})."
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
    assert sentence.startswith(f"The checkpoint cannot be resumed from {words}"), sentence


def test_a_state_of_another_version_is_refused(few_digits: Data, saved: Path) -> None:
    state, config = runs.load_checkpoint(saved), Config(**runs.load_checkpoint(saved)["config"])
    for other in (1, None):
        state["version"] = other
        assert refused(few_digits, config, state).startswith("The run was begun by another version of this program: ")


def test_a_network_that_does_not_fit_is_named(few_digits: Data, saved: Path) -> None:
    state, config = runs.load_checkpoint(saved), Config(**runs.load_checkpoint(saved)["config"])
    state["networks"]["D"]["parameters"]["output.v"] = torch.zeros(2, 1, 1)
    assert refused(few_digits, config, state) == "The checkpoint's parameters do not fit its network: output.v."
    assert refused(few_digits, config, [1, 2]).startswith("The checkpoint cannot be resumed from (")
