"""Lazy imports, and the settings with which a run may be resumed or repeated."""

import json
import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from setting_values import TYPES, config_with, other_value, refusal

import ssgan
from ssgan.errors import UserError
from ssgan.settings.config import FIELDS, Config
from ssgan.settings.presets import PRESETS, describe, resolve

# Imports


def test_help_does_not_import_torch(tmp_path: Path) -> None:
    code = """
import sys
import ssgan, ssgan.settings.config, ssgan.cli
assert dir(ssgan)
try:
    ssgan.cli.main(["--help"])
except SystemExit as left:
    assert left.code == 0
print("imported", sorted({"torch", "sklearn", "torchvision"} & set(sys.modules)))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(ssgan.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "imported []"
    assert [word for word in ("train", "evaluate", "data") if any(line.split()[:1] == [word] for line in lines)] == [
        "train",
        "evaluate",
        "data",
    ]


def test_package_attributes_are_loaded_lazily() -> None:
    assert ssgan.Config is Config
    assert {"Config", "Data", "load", "train"} <= set(dir(ssgan))
    assert callable(ssgan.load)
    assert callable(ssgan.train)
    with pytest.raises(AttributeError, match="module 'ssgan' has no attribute 'nothing'"):
        _ = ssgan.nothing


# Resuming a run


FREE = {
    "preset",
    "device",
    "cuda_graph",
    "report_every_images",
    "evaluate_every_images",
    "frames_every_images",
    "checkpoint_every_seconds",
    "tensorboard",
}


@pytest.mark.parametrize("name", [name for name in FIELDS if len(typing.get_args(TYPES[name])) != 1])
def test_resume_allows_changes_of_free_settings_only(name: str) -> None:
    """Each field either may change, or is a conflict that is named with both values, in both directions."""
    begun = config_with(name, decay_last_fraction=0.25)
    requested = begun.replace(**{name: other_value(name)})
    assert requested != begun
    for first, second in ((begun, requested), (requested, begun)):
        conflicts = first.resume_conflicts(second)
        if name in FREE:
            assert conflicts == []
        else:
            # Another network also changes the settings of the network.
            sentence, *others = conflicts
            assert not others or name == "network"
            shown = [{n: v for n, v, _ in describe(config)}[name] for config in (first, second)]
            assert sentence.startswith(f"{name} {shown[0]}, now {shown[1]}")
    assert begun.resume_conflicts(begun) == []


def test_resume_conflicts_show_values_as_typed() -> None:
    begun = Config(labels=50, learning_rate_d=0.003)
    requested = begun.replace(
        labels=None, learning_rate_d=1e-4, discriminator_widths=(30, 20), adam_epsilon_inside_root=False
    )
    assert begun.resume_conflicts(requested) == [
        "labels 50, now none",
        "discriminator_widths 1000,500,250,250,250, now 30,20",
        "learning_rate_d 0.003, now 0.0001",
        "adam_epsilon_inside_root true, now false",
    ]


def test_resume_conflicts_show_enough_digits_to_distinguish_values() -> None:
    """The digits preset has 1/3; shown with six digits and typed again, it would be another number."""
    begun = resolve("digits", {})
    assert begun.resume_conflicts(begun.replace(decay_last_fraction=0.333333)) == [
        "decay_last_fraction 0.3333333333333333, now 0.333333"
    ]


def test_resume_refuses_another_length_with_decay_of_g() -> None:
    begun = Config(total_images=1000, decay_last_fraction_g=0.5)
    assert begun.resume_conflicts(begun.replace(total_images=1001)) == [
        "total_images 1000, now 1001 (with decay_last_fraction_g above 0, every step size depends on the length)"
    ]


@pytest.mark.parametrize(
    ("decay", "length", "words"),
    [
        (0.0, 1001, []),
        (0.0, 1000, []),
        (0.0, 999, ["total_images 1000, now 999"]),
        (0.25, 1000, []),
        (0.25, 999, ["total_images 1000, now 999"]),
        (
            0.25,
            1001,
            ["total_images 1000, now 1001 (with decay_last_fraction above 0, every step size depends on the length)"],
        ),
    ],
)
def test_resume_allows_longer_training_with_constant_learning_rate(decay: float, length: int, words: list[str]) -> None:
    begun = Config(total_images=1000, decay_last_fraction=decay)
    assert begun.resume_conflicts(begun.replace(total_images=length)) == words
    # A longer training with a new decay would change the remaining steps.
    if not decay and length > 1000:
        requested = begun.replace(total_images=length, decay_last_fraction=0.5)
        assert begun.resume_conflicts(requested) == ["decay_last_fraction 0, now 0.5"]


# Settings of an earlier run


def test_earlier_settings_override_the_preset_and_user_settings_override_both() -> None:
    config = resolve("digits", {"labels": 30}, {"labels": 20, "batch_size": 7, "preset": "other"})
    assert (config.labels, config.batch_size, config.preset) == (30, 7, "digits")
    assert config.total_images == PRESETS["digits"]["total_images"]


@pytest.mark.parametrize("preset", PRESETS)
def test_all_settings_of_an_earlier_run_give_an_equal_config(preset: str) -> None:
    given = ({"method": "supervised", "labels": 20}, {"weight_fake": 0.0}, {"labels": "all"}, {})
    without_classes: tuple[dict[str, Any], ...] = ({"weight_fake": 0.7}, {"learning_rate_g": 0.5}, {})
    for changes in without_classes if PRESETS[preset].get("labels") == 0 else given:
        config = resolve(preset, changes)
        assert resolve(preset, {}, json.loads(json.dumps(config.to_dict()))) == config


def test_earlier_settings_without_effect_are_allowed_but_user_settings_are_refused() -> None:
    earlier = Config(method="supervised", weight_fake=0.7, latent_size=9).to_dict()
    assert resolve("mnist-paper", {}, earlier).weight_fake == 0.7
    with pytest.raises(UserError, match=r"^weight_fake=0\.8 has no effect: it needs method=gan, or another "):
        resolve("mnist-paper", {"weight_fake": 0.8}, earlier)


def test_epsilon_inside_the_root_needs_a_second_moment() -> None:
    assert refusal(adam_beta2=0.0) == "adam_beta2 is 0, with which epsilon cannot be inside the root: raise it."
    assert Config(adam_beta2=0.0, adam_epsilon_inside_root=False).adam_beta2 == 0.0
