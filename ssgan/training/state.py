"""Check that a checkpoint is complete and belongs to a run before its training is resumed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ssgan.data.dataset import Data
from ssgan.data.splits import Split
from ssgan.devices import rng_state, select
from ssgan.errors import CannotResume, UserError, counted
from ssgan.inference.checkpoints import check_fields, check_models, check_tensors, damaged
from ssgan.nn.stack import Stack, choose_strategy
from ssgan.run_files import MODELS, TRAINING
from ssgan.schemas import shorten, whole
from ssgan.settings.config import Config
from ssgan.training.optimizers import Adam, build_optimizer

__all__ = ["STATE_KEYS", "STATE_VERSION", "check_state", "invalid_state_as_user_error"]

# Changes with the layout of optimiser and random generator states, which could otherwise be misread.
STATE_VERSION = 2
# The keys of a checkpoint: the run, what was seen so far, and all that the next step depends on.
STATE_KEYS = {"version", *(name for name, field in {**MODELS, **TRAINING}.items() if field.required)}


def check_state(state: Any, data: Data, config: Config, splits: Sequence[Split]) -> None:
    """Check that a checkpoint belongs to this run and is intact, so that training can be resumed from it.

    Raises
    ------
    UserError
        With the differences, or with what is damaged, if it does not.
    """
    check_fields(state, MODELS)
    if not whole(STATE_VERSION, STATE_VERSION)(state.get("version")):
        raise CannotResume(
            "The run was started by another version of this program: its models can be used, but its training cannot "
            "be resumed."
        )
    check_fields(state, TRAINING)
    _check_run(state, data, config, splits)
    models = check_models(state)
    if models.feature_map is not None and not (
        data.feature_map is not None and models.feature_map.is_close(data.feature_map)
    ):
        raise CannotResume(
            f"The features of {data.name} are not those with which the run began: was it another backbone?"
        )
    _check_watch(state["watch"], config.all_seeds)
    _check_optimizers(state["optimizers"], models.config, models.stacks)
    history = models.stacks if models.config.weight_historical_averaging else {}
    if state["history"].keys() != history.keys():
        raise damaged("has a history of other networks than its settings ask for")
    for name, stack in history.items():
        check_tensors(state["history"][name], stack.parameters, f"averages of past parameters of {name}")
    _check_noise(state["noise"], config, select(config.device))


def _check_run(state: Mapping[str, Any], data: Data, config: Config, splits: Sequence[Split]) -> None:
    """Check that the plain values of a checkpoint are those of this run."""
    changed = Config.from_dict(state["config"]).resume_conflicts(config)
    if changed:
        raise CannotResume(f"The run was started with other settings, so it cannot be resumed: {', '.join(changed)}.")
    # The hash covers only the arrays.
    dataset = (state["dataset"]["sha256"], state["scale"], state["classes"])
    if dataset != (data.sha256, data.scale, list(data.classes)):
        raise CannotResume(f"{data.name} does not match {state['dataset']['name']} as it was when the run began.")
    if state["split_sha256"] != [split.sha256 for split in splits]:
        raise CannotResume("The run was started with other labelled images, so it cannot be resumed with these.")
    if state["seeds"] != config.all_seeds:
        raise damaged(f"has the seeds {shorten(state['seeds'])}, but its settings {shorten(config.all_seeds)}")
    if state["image_shape"] != list(data.image_shape):
        raise damaged(f"has images of shape {state['image_shape']}, but the data have {list(data.image_shape)}")
    device = select(config.device).type
    if state["device_type"] != device:
        raise CannotResume(
            f"The run was started on {state['device_type']}, and on {device} it would see other noise: "
            f"resume with --device {state['device_type']}."
        )


def _check_watch(watch: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """Check that the records of divergence and collapse are of these seeds."""
    if not {*watch["diverged"], *watch["collapsed"]} <= set(seeds):
        raise damaged("names seeds that diverged or collapsed, which are not its own")
    if any(len(losses) != len(seeds) for losses in watch["matching"]):
        raise damaged(f"has {counted(len(seeds), 'seed')}, but not as many losses in each report")


def _check_optimizers(saved: Mapping[str, Any], config: Config, stacks: Mapping[str, Stack]) -> None:
    """Check that the states of the optimisers fit these networks."""
    if saved.keys() != stacks.keys():
        raise damaged(f"has optimizers of {', '.join(map(str, saved)) or 'nothing'}, not of {', '.join(stacks)}")
    for net, stack in stacks.items():
        optimizer = build_optimizer(config, net, stack.parameters, stacked=True)
        tensors = optimizer.tensors
        expected = {*tensors} | ({"steps"} if isinstance(optimizer, Adam) else set())
        state = saved[net] if isinstance(saved[net], dict) else {}
        if state.keys() != expected:
            raise damaged(f"has other entries than {', '.join(sorted(expected))} for the optimizer of {net}")
        if "steps" in state and not whole(0)(state["steps"]):
            raise damaged(f"has a non-integer number of steps of the optimizer of {net}")
        for key, values in tensors.items():
            if not isinstance(state[key], list) or len(state[key]) != len(values):
                raise damaged(f"does not have one tensor for each parameter in {key} of the optimizer of {net}")
            names = stack.parameters if values else ()  # there is no velocity without momentum
            moments, others = (dict(zip(names, each, strict=True)) for each in (state[key], values))
            check_tensors(moments, others, f"values of {key} of the optimizer of {net}")


def _check_noise(saved: Any, config: Config, device: torch.device) -> None:
    """Check that the noise state is that of a random number generator, or of one for each model if it has its own."""
    expected, strategy = rng_state(device), str(config.seed_strategy)
    if strategy == "auto":
        strategy = choose_strategy(config.seeds, device.type)
    own = device.type == "cpu" and strategy != "vmap"
    shape = (config.seeds, *expected.shape) if own else expected.shape
    if not isinstance(saved, torch.Tensor) or saved.is_nested or saved.is_meta or saved.layout != torch.strided:
        raise damaged("has noise that is not a dense tensor")
    if saved.dtype != expected.dtype or saved.shape != shape:
        raise damaged(f"has noise of {list(saved.shape)} {saved.dtype}, which should be {list(shape)} {expected.dtype}")
    try:
        for row in saved if own else [saved] if device.type == "cpu" else []:
            torch.Generator().set_state(row.clone())
    except RuntimeError as cause:
        raise damaged("has noise that is not a state of a generator") from cause


@contextmanager
def invalid_state_as_user_error() -> Iterator[None]:
    """Turn the errors of a device that cannot load a state into a UserError."""
    try:
        yield
    except RuntimeError as cause:
        raise UserError(f"The checkpoint cannot be resumed from ({type(cause).__name__}: {cause}).") from cause
