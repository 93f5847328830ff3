"""Every valid combination of preset, method, network and augmentation trains to its report."""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_backbones import SIDE, coloured_data, use_small_backbone

from ssgan import runs
from ssgan.cli import output
from ssgan.data.dataset import Data
from ssgan.data.datasets import load
from ssgan.errors import UserError
from ssgan.settings.catalog import METHOD_NAMES, NETWORK_NAMES, NETWORKS
from ssgan.settings.config import FIELDS, Config
from ssgan.settings.presets import PRESETS, resolve
from ssgan.training.experiment import run_experiment, settings_beyond_preset

AUGMENTATIONS = ("none", "digits", "drawings", "natural", "crops")


def valid_configurations() -> Iterator[Config]:
    """Each valid combination of a preset and settings of the command line."""
    for preset, method, augmentation, network in itertools.product(PRESETS, METHOD_NAMES, AUGMENTATIONS, NETWORK_NAMES):
        settings = {"method": method, "augmentation": augmentation, "network": network}
        try:
            yield resolve(preset, settings)
        except UserError:
            continue


def test_report_settings_can_be_computed_for_every_valid_configuration() -> None:
    """They are computed after the training, when a refusal would be too late."""
    count = 0
    for config in valid_configurations():
        beyond = settings_beyond_preset(config)
        assert json.loads(json.dumps(beyond)) == beyond
        assert beyond.keys() <= FIELDS.keys()
        assert config.steps > 0
        assert len(config.sha256) == 64
        assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        count += 1
    assert count > 1000


# Short trainings

SMALL = {
    **{"total_images": 16, "batch_size": 4, "init_images": 8, "minibatch_kernels": 0, "report_every_images": 8},
    **{"device": "cpu", "grid_side": 2, "discriminator_steps": 1, "frames_every_images": 8},
}
WIDTHS: dict[str, dict[str, Any]] = {
    "mlp": {"discriminator_widths": (6, 5), "generator_widths": (6,)},
    "paper-conv": {"discriminator_widths": (4, 4), "generator_widths": (4, 4)},
    "compact-conv": {"discriminator_widths": (4, 4, 4), "generator_widths": (4, 4)},
    "whitened-conv": {"discriminator_widths": (4, 4, 4), "generator_widths": (4, 4)},
    "wide-resnet": {"discriminator_widths": (4, 4, 4), "generator_widths": (4, 4)},
    "dcgan": {"discriminator_widths": (4,), "generator_widths": (4,)},
    "gan-mlp": {"discriminator_widths": (6, 5), "generator_widths": (6,)},
    "toy": {"discriminator_widths": (6, 5), "generator_widths": (6,)},
    "features": {"discriminator_widths": (6, 5), "generator_widths": (6,), "feature_components": 4},
}


def small_cases() -> dict[str, Config]:
    """Each preset, method and augmentation that is valid, with narrow networks and a few steps."""
    cases = {}
    for preset, method, augmentation in itertools.product(PRESETS, METHOD_NAMES, AUGMENTATIONS):
        network = PRESETS[preset].get("network", "mlp")
        has_views = not NETWORKS[network].vectors or (network == "features" and preset != "tables")
        if augmentation != "none" and not has_views:
            continue  # vectors have no views, which is refused when the data are loaded
        small = {**SMALL, **WIDTHS[network]}
        if network == "features" and preset != "tables":
            small["image_size"] = SIDE
        try:
            whole = resolve(preset, {"method": method, "augmentation": augmentation})
            config = whole.replace(**small)
        except UserError:
            continue
        cases[f"{preset}-{method}-{augmentation}"] = config if config.unconditional else config.replace(labels=6)
    return cases


CASES = small_cases()


def data_for(config: Config) -> Data:
    """A few images that the network takes."""
    if config.network == "toy":
        whole = load("gaussian")
        return dataclasses.replace(whole, x_train=whole.x_train[:40], y_train=whole.y_train[:40])
    data = coloured_data()
    if config.backbone is None and config.network == "features":  # rows of a table
        rows = {name: getattr(data, name).reshape(-1, SIDE * SIDE * 3)[:, :5] for name in ("x_train", "x_test")}
        data = dataclasses.replace(data, **{name: x.astype(np.float32) / 255 for name, x in rows.items()}, scale=1.0)
    if config.backbone is None and not NETWORKS[config.network].vectors:
        grown = {name: getattr(data, name).repeat(2, axis=1).repeat(2, axis=2) for name in ("x_train", "x_test")}
        data = dataclasses.replace(data, **grown)
    return dataclasses.replace(data, x_train=data.x_train[:30], y_train=data.y_train[:30])


def check_case(config: Config, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_for(config)
    runs.create_run_folder(folder, data.name, config)
    report = run_experiment(data, config, folder)
    assert runs.read_report(folder) == report
    assert runs.read_finished_report(folder, config, data.name, data.sha256) == report
    assert "failed_parts" not in report
    assert report["settings"] == settings_beyond_preset(config)
    assert (folder / "checkpoint").exists()
    output.show_report(report)
    assert f"Run folder: {folder}" in capsys.readouterr().out


def few() -> list[str]:
    """One case of each preset, with varying methods and augmentations."""
    names = []
    for i, preset in enumerate(PRESETS):
        own = [name for name in CASES if CASES[name].preset == preset]
        names.append(own[5 * i % len(own)])
    return names


@pytest.mark.parametrize("name", [*few(), *(pytest.param(name, marks=pytest.mark.exhaustive) for name in CASES)])
def test_every_valid_configuration_trains_to_its_report(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_small_backbone(monkeypatch)
    monkeypatch.setenv("SSGAN_CACHE", "off")
    check_case(CASES[name], tmp_path / "run", capsys)
