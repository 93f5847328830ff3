"""The compared methods: each has its own loss terms, shares all other settings, and each term works as documented."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from small_configs import tiny
from small_trainings import QUIET, gradients_of_d, labeled_splits, rows_through_d, same_bits, trainer, weights
from torch import Tensor

from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.errors import UserError
from ssgan.settings.catalog import METHOD_DEFAULTS, METHOD_NAMES, METHOD_SETTINGS
from ssgan.settings.config import Config
from ssgan.settings.presets import PRESETS, resolve
from ssgan.training import methods
from ssgan.training.step import Part
from ssgan.training.trainer import train

VIEWS = {"augmentation": "digits"}
OWN_TERM = {
    "pseudo-label": "self_label",
    "pi": "consistency",
    "mean-teacher": "mean_teacher",
    "vat": "vat",
    "fixmatch": "pseudo_label",
}


def settings_of(method: str) -> dict[str, Any]:
    return {"method": method, **(VIEWS if method == "fixmatch" else {})}


every_method = pytest.mark.parametrize("method", METHOD_NAMES)
every_other_method = pytest.mark.parametrize("method", OWN_TERM)


def logged(data: Data, config: Config) -> set[str]:
    ours = trainer(data, config)
    ours.step(list(ours.batches.from_batch(0, config.discriminator_steps)))
    return set(ours.pop_logs(1))


# One comparison


@every_method
@pytest.mark.parametrize("preset", [preset for preset in PRESETS if PRESETS[preset].get("labels") != 0])
def test_methods_of_a_preset_differ_only_in_their_own_terms(preset: str, method: str) -> None:
    chosen = resolve(preset, {})
    views = VIEWS if chosen.augmentation == "none" else {}
    views = {"augmentation": "crops"} if chosen.backbone else views
    ours, baseline = (resolve(preset, {**views, "method": name}) for name in (method, "supervised"))
    assert baseline.diff(ours).keys() <= {"method", *METHOD_SETTINGS}
    if method in OWN_TERM:
        assert {name: getattr(ours, name) for name in METHOD_SETTINGS} == METHOD_DEFAULTS[method]
    if method == "gan":
        assert ours == resolve(preset, views)
    for name in ("weight_labeled", "learning_rate_d", "batch_size", "ema_half_life_images", "augmentation"):
        assert getattr(ours, name) == getattr(resolve(preset, views), name)


@every_other_method
def test_method_replaces_the_terms_of_the_preset(few_digits: Data, method: str) -> None:
    """The preset has other terms for its own method."""
    other = {**VIEWS, "weight_entropy": 1.0, "weight_pseudo_label": 1.0, "pseudo_label_threshold": 0.8}
    term = OWN_TERM[method]
    seen = logged(few_digits, tiny(**other).replace(method=method))
    assert seen - {"p_real_unlabeled", "sure"} == {"L", term}
    assert ("sure" in seen) == (term in ("self_label", "pseudo_label"))
    assert logged(few_digits, tiny(**other).replace(method="supervised")) == {"L"}


@every_other_method
def test_method_with_term_weight_0_equals_the_baseline_bit_for_bit(few_digits: Data, method: str) -> None:
    own = settings_of(method)
    zero = {f"weight_{OWN_TERM[method]}": 0.0}
    baseline = weights(train(few_digits, tiny(**{**own, "method": "supervised"}, seeds=2)))
    assert same_bits(weights(train(few_digits, tiny(**own, **zero, seeds=2))), baseline)
    assert not same_bits(weights(train(few_digits, tiny(**own, seeds=2, ramp_up_fraction=0.0))), baseline)


@every_other_method
def test_term_of_a_method_can_be_added_to_the_gan(few_digits: Data, method: str) -> None:
    """Also without the generator, and then equal to the method alone."""
    term = OWN_TERM[method]
    config = tiny(**{**settings_of(method), "method": "gan"}, **{f"weight_{term}": 1.0})
    assert {"L", "U", "V", "feature_matching", term} <= logged(few_digits, config)
    alone = config.replace(weight_unlabeled=0.0, weight_fake=0.0)
    assert logged(few_digits, alone) - {"p_real_unlabeled", "sure"} == {"L", term}
    same = tiny(**settings_of(method), ramp_up_fraction=0.0).replace(**{f"weight_{term}": 1.0})
    assert same_bits(weights(train(few_digits, alone)), weights(train(few_digits, same)))


ROWS = {
    "pseudo-label": [40],
    "pi": [60],
    "mean-teacher": [40, 20],  # D's pass and the teacher's
    "vat": [20, 20, 20, 20],  # labelled; clean, gradient of the direction, worst change
    "fixmatch": [40, 20],
}


@every_other_method
def test_discriminator_passes_have_the_expected_sizes_per_method(
    few_digits: Data, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    ours = trainer(few_digits, tiny(**settings_of(method)))
    assert sorted(rows_through_d(ours, monkeypatch)) == sorted(ROWS[method])


@every_other_method
def test_minibatch_discrimination_gets_a_separate_pass_per_kind_of_image(
    few_digits: Data, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    ours = trainer(few_digits, tiny(**settings_of(method), minibatch_kernels=2))
    assert set(rows_through_d(ours, monkeypatch)) == {20}
    assert not train(few_digits, tiny(**settings_of(method), minibatch_kernels=2)).diverged


@pytest.mark.parametrize("method", OWN_TERM)
def test_permuting_every_hidden_label_changes_no_weight(few_digits: Data, method: str) -> None:
    config = tiny(**settings_of(method), ramp_up_fraction=0.0)
    drawn = [splits.draw(few_digits.y_train, 20, 0)]
    hidden = np.setdiff1d(np.arange(len(few_digits.y_train)), drawn[0])
    y = few_digits.y_train.copy()
    y[hidden] = np.random.default_rng(0).permutation(y[hidden])
    assert (y != few_digits.y_train).sum() > 100
    permuted = dataclasses.replace(few_digits, y_train=y)
    plain, other = (train(data, config, labeled_splits(data, config, drawn)) for data in (few_digits, permuted))
    assert same_bits(weights(plain), weights(other))
    y[drawn[0][0]] = (y[drawn[0][0]] + 1) % 10
    changed = dataclasses.replace(few_digits, y_train=y)
    assert not same_bits(weights(plain), weights(train(changed, config, labeled_splits(changed, config, drawn))))


@every_other_method
def test_every_method_learns_digits_with_100_labels(digits: Data, method: str) -> None:
    config = resolve("digits", {**settings_of(method), "labels": 100, "total_images": 10_000, "device": "cpu"})
    (error,) = train(digits, config).errors
    assert error is not None
    assert error < 15.0  # measured: 5 to 8; chance is 90


# Requirements of methods


@pytest.mark.parametrize("preset", ["digits", "mnist-paper", "vectors"])
def test_fixmatch_requires_an_augmentation(preset: str) -> None:
    with pytest.raises(UserError) as refused:
        resolve(preset, {"method": "fixmatch"})
    assert str(refused.value) == (
        "method=fixmatch would learn nothing from unlabelled images: it needs augmentation=digits or "
        "drawings, augmentation=natural for photographs, or augmentation=crops with a backbone."
    )
    for made in (lambda: Config(method="fixmatch"), lambda: Config().replace(method="fixmatch")):
        with pytest.raises(UserError) as directly:
            made()
        assert str(directly.value) == str(refused.value)
    assert resolve(preset, {"method": "fixmatch", **VIEWS}).weight_pseudo_label == 1.0
    assert resolve("mnist-fast", {"method": "fixmatch"}).augmentation == "digits"


def test_pi_requires_noise_or_augmentation() -> None:
    still = {"noise_input_std": 0.0, "noise_hidden_std": 0.0}
    with pytest.raises(UserError, match=r"^method=pi would learn nothing from unlabelled images: it needs passes that"):
        resolve("digits", {"method": "pi", **still})
    with pytest.raises(UserError, match=r"^weight_consistency=2 has no effect: .* passes that differ"):
        resolve("digits", {"weight_consistency": 2.0, **still})
    for enough in (VIEWS, {"noise_input_std": 0.1}, {"network": "paper-conv"}):
        assert resolve("digits", {"method": "pi", **still, **enough}).passes_differ
    resolve("digits", {"method": "mean-teacher", **still})  # the teacher differs by its weights


# Settings after a change of the method


@every_other_method
def test_changing_the_method_drops_the_settings_of_the_earlier_method(method: str) -> None:
    term = f"weight_{OWN_TERM[method]}"
    chosen = resolve("mnist-fast", {"method": method, term: 7.0, "batch_size": 40})
    assert getattr(chosen, term) == 7.0
    back = resolve("mnist-fast", {"method": "gan"}, chosen.to_dict())
    assert back == resolve("mnist-fast", {"batch_size": 40})
    assert resolve("mnist-fast", {"method": "supervised"}, chosen.to_dict()) == resolve(
        "mnist-fast", {"method": "supervised", "batch_size": 40}
    )
    other = "vat" if method == "pi" else "pi"
    assert resolve("mnist-fast", {"method": other}, chosen.to_dict()) == resolve(
        "mnist-fast", {"method": other, "batch_size": 40}
    )
    assert resolve("mnist-fast", {}, chosen.to_dict()) == chosen
    assert resolve("mnist-fast", {"method": method}, {term: 7.0, "batch_size": 40}) == chosen
    assert chosen.replace(method="gan").replace(method=method) == resolve(
        "mnist-fast", {"method": method, "batch_size": 40}
    )


def test_baseline_keeps_the_gan_weights_in_its_settings() -> None:
    """So that published rows keep their hash, and the method can be changed back to the GAN."""
    config = resolve("digits", {"method": "supervised"})
    assert (config.weight_unlabeled, config.weight_fake) == (1.0, 1.0)
    assert resolve("digits", {"method": "gan"}, config.to_dict()) == resolve("digits", {})
    assert config.sha256 == "489196d8c8e5" + config.sha256[12:]


@every_other_method
def test_explicit_default_does_not_change_the_hash(method: str) -> None:
    more = VIEWS if method == "fixmatch" else {}
    config = Config(method=method, **more)
    assert Config(method=method, **more, **METHOD_DEFAULTS[method]).sha256 == config.sha256
    assert config.sha256 != Config(method=method, **more, **{f"weight_{OWN_TERM[method]}": 0.123}).sha256


# Mean teacher


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The targets of the consistency loss."""
    seen: list[Tensor] = []
    whole = methods.losses.consistency

    def recording(logits: Tensor, other: Tensor) -> Tensor:
        seen.append(other)
        return whole(logits, other)

    monkeypatch.setattr(methods.losses, "consistency", recording)
    return seen


@pytest.mark.parametrize("half_life", [30.0, 1e-3])
def test_teacher_is_the_averaged_model_and_gets_no_gradient(
    few_digits: Data, targets: list[Tensor], half_life: float
) -> None:
    """At the first step, before there is an average, it is D itself; also for an average of the last step only."""
    ours = trainer(
        few_digits, tiny(method="mean-teacher", dtype="float64", ema_half_life_images=half_life, **QUIET, **VIEWS)
    )
    D = ours.stacks["D"]
    for step, batch in enumerate(ours.batches.from_batch(0, 5)):
        assert not torch.equal(batch.x_again, batch.x_unl)
        itself = D.evaluate(batch.x_again[0])[0][0]
        expected = D.evaluate(batch.x_again[0], ours.averaged())[0][0] if step else itself
        ours.step([batch])
        assert not targets[-1].requires_grad
        torch.testing.assert_close(targets[-1], expected, rtol=1e-10, atol=1e-12)
        assert torch.allclose(expected, itself, atol=1e-6) == (step < 2 or half_life < 1)  # average of one step
    assert len(targets) == 5


def test_teacher_uses_its_own_noise(few_digits: Data, targets: list[Tensor]) -> None:
    ours = trainer(few_digits, tiny(method="mean-teacher"))
    (batch,) = ours.batches.from_batch(0, 1)
    still = ours.stacks["D"].evaluate(batch.x_again[0])[0][0]
    ours.step([batch])
    assert (targets[0] - still).abs().max() > 0.1


def test_no_teacher_is_built_without_a_mean_teacher_term(few_digits: Data) -> None:
    for settings in ({}, {"method": "pi"}, {"method": "supervised", "weight_mean_teacher": 1.0}):
        (part,) = trainer(few_digits, tiny(**settings)).parts
        assert part._teacher(1.0) == {}


# Pseudo-labels


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize("method", ["pseudo-label", "fixmatch"])
def test_threshold_above_all_confidences_gives_the_supervised_gradients(few_digits: Data, method: str) -> None:
    own = {**settings_of(method), "dtype": "float64", "ramp_up_fraction": 0.0}
    alone = gradients_of_d(few_digits, tiny(**{**own, "method": "supervised", "ramp_up_fraction": 0.0}))
    for threshold, same in ((1.0, True), (2.0, True), (0.0, False)):
        found = gradients_of_d(few_digits, tiny(**own).replace(pseudo_label_threshold=threshold))
        agree = [torch.allclose(a, b, rtol=1e-12, atol=1e-15) for a, b in zip(found, alone, strict=True)]
        assert all(agree) if same else not any(agree)


# Views


def test_consistency_passes_use_two_weak_views(few_digits: Data) -> None:
    """If the network has no noise, only the views make the passes differ."""
    for method in ("pi", "mean-teacher"):
        ours = trainer(few_digits, tiny(method=method, **VIEWS, seeds=2))
        (batch,) = ours.batches.from_batch(3, 4)
        assert batch.x_again.shape == batch.x_unl.shape
        closeness = torch.corrcoef(torch.cat([batch.x_unl[0], batch.x_again[0]]).flatten(1))[:20, 20:]
        assert (closeness.argmax(dim=1) == torch.arange(20)).float().mean() > 0.5  # by chance 0.05
        (still,) = trainer(few_digits, tiny(method=method, seeds=2)).batches.from_batch(3, 4)
        assert torch.equal(still.x_again, still.x_unl)
    ours = trainer(few_digits, tiny(method="pi", **VIEWS, **QUIET))
    ours.step(list(ours.batches.from_batch(0, 1)))
    assert ours.pop_logs(1)["consistency"][0] > 1e-5


@every_method
def test_only_views_that_a_method_uses_are_computed(few_digits: Data, method: str) -> None:
    config = tiny(**VIEWS, weight_pseudo_label=1.0).replace(method=method)
    (batch,) = trainer(few_digits, config).batches.from_batch(0, 1)
    rows = {name: getattr(batch, name).shape[1] for name in ("x_strong", "x_again")}
    assert rows == {
        "x_strong": 20 if method in ("gan", "fixmatch") else 0,
        "x_again": 20 if method in ("pi", "mean-teacher") else 0,
    }


# Ramp-up of the weights


def test_the_ramp_follows_its_formula(few_digits: Data) -> None:
    ours = trainer(few_digits, tiny(total_images=2000, method="pi", ramp_up_fraction=0.4))
    for step, ramp in ((0, math.exp(-5.0)), (10, math.exp(-5 * 0.75**2)), (20, math.exp(-1.25)), (40, 1.0), (99, 1.0)):
        ours.steps_done = step
        assert ours.ramp == pytest.approx(ramp, rel=1e-12)
    assert trainer(few_digits, tiny()).ramp == 1.0


def test_ramp_scales_only_the_terms_of_unlabelled_images(few_digits: Data) -> None:
    """L, U and V have their full weight from the first step."""
    terms = dict.fromkeys(["weight_consistency", "weight_mean_teacher", "weight_self_label", "weight_entropy"], 2.0)
    config = tiny(**terms, weight_vat=2.0, weight_pseudo_label=2.0, **VIEWS, ramp_up_fraction=0.5)
    (part,) = (ours := trainer(few_digits, config)).parts
    (batch,) = ours.batches.from_batch(0, 1)
    own = type(batch)(*(tensor[0] for tensor in batch))
    states = {**part.frozen, **part._teacher(0.0)}
    for ramp in (1.0, 0.25, torch.tensor(0.25)):
        value, logs = part.losses[0](states, own, ramp)
        weighed = sum(logs[n] for n in ("consistency", "mean_teacher", "self_label", "entropy", "vat", "pseudo_label"))
        expected = logs["L"] + logs["U"] + logs["V"] + 2.0 * float(ramp) * weighed
        torch.testing.assert_close(value.detach(), expected)


def test_length_cannot_change_on_resume_with_a_ramp() -> None:
    begun = Config(method="mean-teacher", total_images=1000)
    assert begun.resume_conflicts(begun.replace(total_images=2000)) == [
        "total_images 1000, now 2000 (with ramp_up_fraction above 0, every weight depends on the length)"
    ]
    assert (
        begun.replace(ramp_up_fraction=0).resume_conflicts(begun.replace(ramp_up_fraction=0, total_images=2000)) == []
    )
    # Without a ramped term the length may change.
    idle = Config(ramp_up_fraction=0.3, total_images=1000)
    assert idle.resume_conflicts(idle.replace(total_images=2000)) == []


def test_length_cannot_change_on_resume_with_label_spreading() -> None:
    begun = Config(label_spreading_fraction=0.1, total_images=1000)
    assert begun.resume_conflicts(begun.replace(total_images=2000)) == [
        "total_images 1000, now 2000 (with label_spreading_fraction above 0, the labels of a batch depend on the "
        "length)"
    ]
    # The baseline learns only from the given labels, with any preset.
    idle = begun.replace(method="supervised")
    assert idle.label_spreading_fraction == 0
    assert resolve("digits-fast", {"method": "supervised"}).label_spreading_fraction == 0
    assert idle.resume_conflicts(idle.replace(total_images=2000)) == []


def test_every_part_gets_the_same_numbers_in_a_step(few_digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(Part, "step", lambda self, batches, numbers: seen.append(dict(numbers)))
    ours = trainer(few_digits, tiny(seeds=2, seed_strategy="loop", method="mean-teacher"))
    for batch in ours.batches.from_batch(0, 2):
        ours.step([batch])
    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert (seen[0]["average_mass"], seen[2]["average_mass"]) == (0.0, pytest.approx(1 - ours.config.ema_decay))


def test_generated_images_are_used_only_in_adversarial_steps_of_d(few_digits: Data) -> None:
    settings = {"discriminator_steps": 3, "adversarial_steps": 1, "weight_entropy": 0.1, "total_images": 300}
    config = tiny(**settings)
    ours = trainer(few_digits, config)
    batches = list(ours.batches.from_batch(0, 3))
    assert [len(batch.z[0]) for batch in batches] == [20, 0, 0]
    assert [len(batch.z2[0]) for batch in batches] == [len(batch.x_unl2[0]) for batch in batches] == [20, 0, 0]
    seen = []
    part = ours.parts[0]
    for number, (phase, loss) in enumerate(zip(part.phases, part.losses, strict=True)):

        def spy(states: Any, batch: Any, ramp: Any, net: str = phase.net, loss: Any = loss) -> Any:
            value, logs = loss(states, batch, ramp)
            place = next(i for i, other in enumerate(batches) if torch.equal(other.y_lab[0], batch.y_lab))
            seen.append((net, place, {name: float(logs[name]) for name in ("L", "U", "V", "entropy") if name in logs}))
            return value, logs

        part.losses[number] = spy
    ours.step(batches)
    assert [(net, place, sorted(logs)) for net, place, logs in seen] == [
        ("D", 0, ["L", "U", "V", "entropy"]),
        ("D", 1, ["L", "entropy"]),
        ("D", 2, ["L", "entropy"]),
        ("G", 0, []),
    ]
    means = ours.pop_logs(1)  # each over the steps of D that have the term
    assert means["L"][0] == pytest.approx(np.mean([logs["L"] for _, _, logs in seen[:3]]), rel=1e-6)
    assert means["V"][0] == pytest.approx(seen[0][2]["V"], rel=1e-6)


def test_all_steps_of_d_are_adversarial_by_default(few_digits: Data) -> None:
    errors = [train(few_digits, tiny(discriminator_steps=2, adversarial_steps=n)).models for n in (0, 2)]
    for name, value in errors[0].D.parameters.items():
        assert torch.equal(value, errors[1].D.parameters[name])
    with pytest.raises(UserError, match="adversarial_steps is 3, but is counted among discriminator_steps, which is 2"):
        tiny(discriminator_steps=2, adversarial_steps=3)
