"""Presets, and `field=value` parsed as the type of its field."""

from typing import Any

import pytest

from ssgan.errors import UserError
from ssgan.settings.config import FIELDS, Config
from ssgan.settings.presets import PRESETS, parse, resolve

# Presets


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_contains_only_differences_from_the_defaults(preset: str) -> None:
    config = resolve(preset, {})
    assert PRESETS[preset].keys() <= FIELDS.keys() - {"preset"}
    for name, value in PRESETS[preset].items():
        assert getattr(config, name) == value
        assert name == "network" or getattr(config, name) != config.default(name), f"{name} is the default"
    fixed = {"network": config.network, "backbone": config.backbone}
    changed = {name: ours for name, (_, ours) in Config(**fixed).diff(config).items()}
    assert changed == {k: v for k, v in {**PRESETS[preset], "preset": preset}.items() if k not in fixed}
    assert PRESETS[preset].get("network", "mlp") == config.network


def test_user_settings_override_the_preset() -> None:
    config = resolve("digits", {"labels": 20, "batch_size": 7})
    assert (config.labels, config.batch_size, config.total_images) == (20, 7, PRESETS["digits"]["total_images"])


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UserError) as refused:
        resolve("digit", {})
    assert str(refused.value).startswith(f"Unknown preset 'digit': choose from {', '.join(PRESETS)}")
    assert "Did you mean 'digits'?" in str(refused.value)


def test_an_unknown_field_suggests_a_known_one() -> None:
    with pytest.raises(UserError) as refused:
        resolve("digits", {"bach_size": 3})
    assert str(refused.value) == "Unknown setting 'bach_size'. Did you mean 'batch_size'?"


# Parsing field=value


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("batch_size=32", 32),
        ("seed=0", 0),
        ("learning_rate_d=3e-4", 3e-4),
        ("weight_fake=1", 1.0),
        ("adam_epsilon_inside_root=false", False),
        ("adam_epsilon_inside_root=No", False),
        ("adam_epsilon_inside_root=0", False),
        ("adam_epsilon_inside_root=yes", True),
        ("adam_epsilon_inside_root=TRUE", True),
        ("adam_epsilon_inside_root=1", True),
        ("discriminator_widths=300,150", (300, 150)),
        ("discriminator_widths=300", (300,)),
        ("generator_widths= 20, 10 ", (20, 10)),
        ("labels=50", 50),
        ("labels=all", "all"),
        ("labels=none", None),
        ("draw_seed=7", 7),
        ("draw_seed=None", None),
        ("image_size=28", 28),
        ("image_size=none", None),
        ("image_mode=grey", "grey"),
        ("test_share=0", 0.0),
        ("method=supervised", "supervised"),
        ("device=cuda:1", "cuda:1"),
        (" dtype = float64 ", "float64"),
    ],
)
def test_a_setting_is_read_as_the_type_of_its_field(assignment: str, value: Any) -> None:
    name, read = parse(assignment)
    assert name == assignment.partition("=")[0].strip()
    assert type(read) is type(value)
    assert read == value
    assert Config(**{name: read}) == Config().replace(**{name: value})


UNREADABLE = {
    "batch_size": "'batch_size' is not a setting: write field=value, such as batch_size=100.",
    "batch_size=abc": "batch_size is 'abc', but must be an integer at least 2.",
    "batch_size=": "batch_size is '', but must be an integer at least 2.",
    "batch_size=1.5": "batch_size is '1.5', but must be an integer at least 2.",
    "learning_rate_d=fast": "learning_rate_d is 'fast', but must be a finite number at least 0.",
    "real_target=x": "real_target is 'x', but must be a finite number at least 0 and at most 1.",
    "adam_epsilon=x": "adam_epsilon is 'x', but must be a finite number above 0 and at most 1.",
    "adam_epsilon_inside_root=maybe": "adam_epsilon_inside_root is 'maybe', but must be true or false.",
    "discriminator_widths=30,x": (
        "discriminator_widths is '30,x', but must be integers separated by commas, each at least 1."
    ),
    "labels=few": "labels is 'few', but must be an integer at least 0, or 'all', or none.",
    "draw_seed=all": "draw_seed is 'all', but must be an integer at least 0 and at most 2147483648, or none.",
    "lerning_rate_d=1": "Unknown setting 'lerning_rate_d'. Did you mean 'learning_rate_d'?",
    "zzzz=1": "Unknown setting 'zzzz'. `ssgan train DATA --dry-run` lists them all.",
}


@pytest.mark.parametrize(("assignment", "sentence"), UNREADABLE.items(), ids=UNREADABLE)
def test_refuses_assignments_that_cannot_be_parsed(assignment: str, sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        parse(assignment)
    assert str(refused.value) == sentence
