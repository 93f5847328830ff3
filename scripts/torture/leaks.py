"""Permute every label that a method must not use; its weights and probabilities must not change."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import Case
from resumed_runs import differences
from small_backbones import coloured_data, feature_config, use_small_backbone
from small_configs import tiny
from small_trainings import labeled_splits, weights

from ssgan.compare.baselines import BASELINES, fit_baseline
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.data.datasets import load
from ssgan.inference.features import apply_backbone
from ssgan.settings.catalog import METHOD_NAMES
from ssgan.settings.config import Config
from ssgan.training.trainer import train

SEED = 0


class Space:
    """Data, the draws of visible labels, and the settings of a short training.

    Parameters
    ----------
    data : Data
    config : Config
    draw_seed : int
    """

    def __init__(self, data: Data, config: Config, draw_seed: int) -> None:
        self.data, self.config = data, config
        assert config.labels is not None
        self.labeled = splits.draw(data.y_train, config.labels, draw_seed)
        self.hidden = np.setdiff1d(np.arange(len(data.y_train)), self.labeled)

    def permute(self) -> Data:
        """Permute the hidden labels and the test labels."""
        random = np.random.default_rng(SEED)
        y_train, y_test = self.data.y_train.copy(), random.permutation(self.data.y_test)
        y_train[self.hidden] = random.permutation(y_train[self.hidden])
        return dataclasses.replace(self.data, y_train=y_train, y_test=y_test)

    def relabel(self) -> Data:
        """Change every visible label, as a control that must change the result."""
        y_train = self.data.y_train.copy()
        y_train[self.labeled] = (y_train[self.labeled] + 1) % len(self.data.classes)
        return dataclasses.replace(self.data, y_train=y_train)


def _digits(method: str, draw_seed: int) -> Space:
    digits = load("digits")
    arrays = {"x_train": digits.x_train[:300], "y_train": digits.y_train[:300]}
    subset = dataclasses.replace(digits, **arrays, x_test=digits.x_test[:100], y_test=digits.y_test[:100])
    return Space(subset, tiny(**_options(method)), draw_seed)


def _features(method: str, draw_seed: int) -> Space:
    config = feature_config(**_options(method, views="crops"))
    return Space(coloured_data(), config, draw_seed)


def _options(method: str, views: str = "digits") -> dict[str, Any]:
    network_method = method if method in METHOD_NAMES else "supervised"
    return {"method": network_method, **({"augmentation": views} if network_method == "fixmatch" else {})}


SPACES: dict[str, Callable[[str, int], Space]] = {"pixels": _digits, "features": _features}
METHODS = (*METHOD_NAMES, *BASELINES)


def _result(method: str, space: Space, data: Data) -> Any:
    """Train or fit on the visible labels of data; return the weights, or the predictions on the test images."""
    (split,) = labeled_splits(data, space.config, [space.labeled])
    if method in BASELINES:
        data = apply_backbone(data, space.config)
        of_backbone = space.config.backbone is not None
        rows = (data.x_train, data.scale, split, data.x_test, len(data.classes))
        fitted = fit_baseline(method, *rows, of_backbone=of_backbone)
        return [fitted.predicted, fitted.probabilities]
    return weights(train(data, space.config, [split]))


def permutations(method: str, space_name: str, count: int, scratch: Path) -> Iterator[Case]:
    """Permute the hidden labels for a number of draws of visible labels; yield a case for each draw."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        use_small_backbone(patch)
        patch.setenv("SSGAN_CACHE", "off")
        for draw_seed in range(count):
            space = SPACES[space_name](method, draw_seed)
            result, permuted, relabeled = (
                _result(method, space, d) for d in (space.data, space.permute(), space.relabel())
            )
            faults = [f"changed by labels that are hidden: {place}" for place in differences(result, permuted)]
            if not differences(result, relabeled):
                faults.append("not changed by the labels that are visible: the test shows nothing")
            yield Case(f"{method} on {space_name}, draw {draw_seed}", faults, scratch)
