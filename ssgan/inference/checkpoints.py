"""Check the models of a checkpoint before they are used: plain values, tensors, and that they belong together."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, strided

from ssgan.data.feature_map import FeatureMap
from ssgan.errors import UserError, counted
from ssgan.nn.registry import build_empty_stacks
from ssgan.nn.stack import Stack
from ssgan.run_files import MODELS
from ssgan.schemas import Schema, find_fault
from ssgan.settings.config import Config

__all__ = ["SavedModels", "check_fields", "check_models", "check_tensors", "damaged", "models_part"]

NAMED_TENSORS = 4
LARGEST_IMAGE = 2**31  # values


class SavedModels(NamedTuple):
    """What the plain values of a checkpoint say about its models.

    Attributes
    ----------
    config : Config
    stacks : dict of str to Stack
        The networks with the shapes and types of their values, but without values.
    feature_map : FeatureMap or None
    """

    config: Config
    stacks: dict[str, Stack]
    feature_map: FeatureMap | None


def damaged(fault: str) -> UserError:
    """Return the error about a damaged checkpoint; ``fault`` is the predicate of its sentence."""
    return UserError(f"The checkpoint {fault}: it is damaged or in another format.")


def check_fields(state: Any, schema: Schema) -> None:
    """Check the plain values of a checkpoint.

    Raises
    ------
    UserError
        If one is missing, or of another type or range.
    """
    if (fault := find_fault(state, schema)) is not None:
        raise damaged(fault)


def check_models(state: Any) -> SavedModels:
    """Check the part of a checkpoint that its models are made from.

    Raises
    ------
    UserError
        If something is missing, of another type, range, shape or layout, or inconsistent with the rest.
    """
    check_fields(state, MODELS)
    config, image_shape = Config.from_dict(state["config"]), tuple(state["image_shape"])
    if not config.seeds == len(state["seeds"]) == len(set(state["seeds"])) == len(state["split_sha256"]):
        raise damaged(f"is of {counted(config.seeds, 'model')}, but not of as many different seeds and splits")
    if state["steps_done"] > config.steps:
        raise damaged(f"has steps_done = {state['steps_done']}, but its training has {counted(config.steps, 'step')}")
    if not (state["classes"] or config.unconditional):
        raise damaged("has no classes")
    if math.prod(image_shape) > LARGEST_IMAGE:
        raise damaged(f"has images of shape {list(image_shape)}")
    feature_map = _check_feature_map(state, config)
    try:
        stacks = build_empty_stacks(config, image_shape, len(state["classes"]), config.seeds)
    except (RuntimeError, OverflowError) as cause:  # sizes that no tensor can have
        raise damaged(f"has networks that cannot be built ({str(cause).splitlines()[0]})") from cause
    if stacks.keys() != state["networks"].keys():
        raise damaged(f"has the networks {', '.join(state['networks'])}, which should be {', '.join(stacks)}")
    for name, stack in stacks.items():
        saved = state["networks"][name]
        check_tensors(saved["parameters"], stack.parameters, "parameters")
        check_tensors(saved["buffers"], stack.buffers, "buffers")
    check_tensors(state["average"]["sums"], stacks["D"].parameters, "averaged parameters")
    return SavedModels(config, stacks, feature_map)


def models_part(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a training's state that models are made from, with copies of its tensors on the CPU."""

    def on_cpu(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: on_cpu(part) for name, part in value.items()}
        return value.detach().cpu().clone() if isinstance(value, Tensor) else value

    return {name: on_cpu(state[name]) for name in MODELS if name in state}


def _check_feature_map(state: Mapping[str, Any], config: Config) -> FeatureMap | None:
    """Return the map of features of a checkpoint, which it has if and only if it has a backbone."""
    if (config.backbone is None) != ("feature_map" not in state):
        raise damaged("has a backbone or a map of features without the other")
    if config.backbone is None:
        return None
    feature_map = FeatureMap.from_state(state["feature_map"])
    same = (feature_map.backbone, feature_map.image_size) == (config.backbone, config.image_size)
    if not same or [feature_map.weight.shape[1]] != state["image_shape"]:
        raise damaged("has a map of other features than those of its settings")
    return feature_map


def check_tensors(saved: Any, expected: Mapping[str, Tensor], what: str) -> None:
    """Check that saved tensors have the names, shapes and types of those of the networks, and are dense.

    Raises
    ------
    UserError
        If some do not; the message names them.
    """
    saved = saved if isinstance(saved, dict) else {}
    names = [name for name in {**expected, **saved} if not _fits(saved.get(name), expected.get(name))]
    if names:
        words = ", ".join(names[:NAMED_TENSORS]) + ", ..." * (len(names) > NAMED_TENSORS)
        raise UserError(f"The checkpoint's {what} do not fit its network: {words}.")


def _fits(saved: Any, expected: Tensor | None) -> bool:
    """Return whether a saved value is a dense tensor of the shape and the type of the expected one."""
    if not isinstance(saved, Tensor) or expected is None or saved.is_nested or saved.is_meta:
        return False
    return saved.layout == strided and saved.dtype == expected.dtype and saved.shape == expected.shape
