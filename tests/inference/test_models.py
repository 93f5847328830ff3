"""Trained models: what predictions depend on, checkpoints, and ensembles."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_configs import tiny
from small_trainings import labeled_splits

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.errors import UserError
from ssgan.inference import models as models_module
from ssgan.inference.models import Models, open_run
from ssgan.inference.sample import _probabilities
from ssgan.inference.scores import METRICS, finite_mask
from ssgan.nn.registry import NETWORK_PAIRS
from ssgan.nn.stack import EVALUATION_ROWS
from ssgan.training.experiment import run_experiment
from ssgan.training.monitor import Run
from ssgan.training.trainer import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(few_digits: Data) -> Run:
    """Two models with every layer that couples rows."""
    return train(few_digits, tiny(seeds=2, minibatch_kernels=4, generator_norm="virtual", reference_rows=12))


def test_prediction_does_not_depend_on_other_images_of_the_batch(few_digits: Data, run: Run) -> None:
    x = few_digits.x_test
    whole = run.models.probabilities(x)
    np.testing.assert_allclose(run.models.probabilities(x[7:8])[:, 0], whole[:, 7], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(run.models.probabilities(x[::-1].copy())[:, ::-1], whole, rtol=1e-5, atol=1e-7)
    many = np.concatenate([x] * (EVALUATION_ROWS // len(x) + 1))
    np.testing.assert_allclose(run.models.probabilities(many)[:, : len(x)], whole, rtol=1e-5, atol=1e-7)


def test_images_are_converted_to_float_in_blocks(few_digits: Data, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, all images at once would take eight times their memory."""
    sizes = []
    convert = type(NETWORK_PAIRS[run.config.network]).to_input

    def counted(self: Any, stored: torch.Tensor, *others: Any) -> torch.Tensor:
        sizes.append(len(stored))
        return convert(self, stored, *others)

    monkeypatch.setattr(type(NETWORK_PAIRS[run.config.network]), "to_input", counted)
    many = np.concatenate([few_digits.x_test] * (2 * EVALUATION_ROWS // len(few_digits.x_test) + 1))
    logits = run.models.logits(many)
    assert sum(sizes) == len(many)
    assert max(sizes) <= EVALUATION_ROWS
    monkeypatch.setattr(models_module, "EVALUATION_ROWS", len(many))
    assert np.array_equal(run.models.logits(many), logits)


def test_probabilities_are_deterministic_and_sum_to_one(few_digits: Data, run: Run) -> None:
    first, second = (run.models.probabilities(few_digits.x_test) for _ in range(2))
    assert np.array_equal(first, second)
    np.testing.assert_allclose(first.sum(axis=2), 1.0, rtol=1e-12)
    assert not np.array_equal(first, run.models.probabilities(few_digits.x_test, averaged=False))


@pytest.mark.parametrize("colour", [False, True])
def test_flips_average_the_logits_of_an_image_and_of_its_mirror_image(few_digits: Data, colour: bool) -> None:
    """Rows of pixels are flipped, with any number of channels. Features of D are not averaged."""
    data = few_digits
    if colour:
        pool, test = (np.stack([x, x // 2, 16 - x], axis=3) for x in (data.x_train, data.x_test))
        data = dataclasses.replace(data, x_train=pool, x_test=test)
    models = train(data, tiny(seeds=2, augmentation="natural")).models
    x, mirrored = data.x_test, data.x_test[:, :, ::-1].copy()
    logits, logits_of_mirrored = models.logits(x), models.logits(mirrored)
    features = models.features(x)
    models.config = models.config.replace(test_time_flip=True)
    np.testing.assert_allclose(models.logits(x), (logits + logits_of_mirrored) / 2, rtol=1e-5, atol=1e-6)
    assert np.array_equal(models.logits(x), models.logits(mirrored))
    assert not np.allclose(models.logits(x), logits, atol=1e-3)
    assert np.array_equal(models.features(x), features)


def test_generated_images_are_classified_with_flips_too(few_digits: Data) -> None:
    models = train(few_digits, tiny(augmentation="natural", test_time_flip=True)).models
    images = models.sample(20)[0]
    np.testing.assert_allclose(_probabilities(models, images), _probabilities(models, images[:, :, ::-1].copy()))


def test_test_time_flip_has_no_effect_with_another_augmentation(few_digits: Data) -> None:
    models = train(few_digits, tiny(augmentation="natural", test_time_flip=True)).models
    logits = models.logits(few_digits.x_test)
    models.config = models.config.replace(augmentation="digits")
    assert not np.allclose(models.logits(few_digits.x_test), logits, atol=1e-3)
    mirrored = few_digits.x_test[:, :, ::-1].copy()
    assert not np.allclose(models.logits(few_digits.x_test), models.logits(mirrored), atol=1e-3)


def test_scores_match_the_errors_of_the_run(few_digits: Data, run: Run) -> None:
    scores = run.models.scores(few_digits.x_test, few_digits.y_test)
    assert scores["error"] == run.errors
    by_hand = [100 * np.mean(p.argmax(1) != few_digits.y_test) for p in run.models.probabilities(few_digits.x_test)]
    assert scores["error"] == by_hand


def test_samples_follow_the_seed_and_lie_in_the_unit_range(run: Run) -> None:
    samples = run.models.sample(9, seed=1)
    assert samples.shape == (2, 9, 8, 8)
    assert samples.min() >= 0.0
    assert samples.max() <= 1.0
    assert np.array_equal(samples, run.models.sample(9, seed=1))
    assert not np.array_equal(samples, run.models.sample(9, seed=2))
    # Virtual batch norm: an image does not depend on the others of its grid.
    np.testing.assert_allclose(run.models.sample(4, seed=1), samples[:, :4], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [{}, {"dtype": "float64"}, {"method": "supervised"}, {"minibatch_kernels": 4, "generator_norm": "virtual"}],
)
def test_checkpoint_round_trip_is_bit_identical(few_digits: Data, tmp_path: Path, settings: dict[str, Any]) -> None:
    run = train(few_digits, tiny(seeds=2, **settings))
    runs.save_checkpoint(tmp_path / "checkpoint", run.state())
    models = Models.from_state(runs.load_checkpoint(tmp_path / "checkpoint"), CPU)
    for averaged in (True, False):
        ours, theirs = (m.probabilities(few_digits.x_test, averaged) for m in (run.models, models))
        assert np.array_equal(ours, theirs)
    assert models.seeds == run.seeds
    assert models.config == run.config
    assert models.classes == few_digits.classes
    if run.models.G is None:
        with pytest.raises(UserError, match="no generator: method 'supervised' trains none"):
            models.sample(1)
    else:
        assert np.array_equal(models.sample(5), run.models.sample(5))


def test_samples_with_batch_norm_depend_on_seed_and_not_on_their_number(few_digits: Data) -> None:
    models = train(few_digits, tiny()).models
    one, other, many = models.sample(1, seed=0), models.sample(1, seed=7), models.sample(150, seed=0)
    assert not np.array_equal(one, other)
    assert np.array_equal(one, many[:, :1])
    assert not np.array_equal(many[:, 0], many[:, 100])


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((3, 8, 8), np.float32),
        np.zeros((3, 8, 9), np.uint8),
        np.zeros((8, 8), np.uint8),
        [[0.5]],
    ],
)
def test_refuses_images_of_another_dtype_or_shape(run: Run, x: Any) -> None:
    with pytest.raises(UserError, match=r"these models accept uint8 of shape \[N, 8, 8\], 0 to 16"):
        run.models.probabilities(x)


def test_minibatch_discrimination_starts_centred_on_a_training_batch(few_digits: Data) -> None:
    config = tiny(minibatch_kernels=20, batch_size=50, init_images=300, noise_input_std=0.0, noise_hidden_std=0.0)
    torch.manual_seed(0)
    D: Any = NETWORK_PAIRS["mlp"].discriminator(config, (8, 8), 10)
    x = torch.from_numpy(few_digits.x_train).float() / 16
    D.initialize(x)
    closeness = D.minibatch(D.trunk(x[:50].flatten(1)))[:, -20:]
    assert closeness.mean(dim=0).abs().max() < 1e-4


def test_a_checkpoint_holds_no_hidden_label_and_no_image_but_the_reference(run: Run) -> None:
    state = run.state()
    described = {
        "config",
        "dataset",
        "image_shape",
        "classes",
        "scale",
        "seeds",
        "split_sha256",
        "device_type",
        "version",
    }
    monitored = {"watch", "warnings", "images_per_second", "seconds"}
    updated = {"steps_done", "networks", "optimizers", "average", "history", "noise"}
    assert set(state) == described | monitored | updated
    assert set(state["networks"]["D"]["buffers"]) == {"reference", *(f"trunk.{i}.g" for i in (1, 4))}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda s: s["networks"]["D"]["parameters"].pop("output.v"), "parameters do not fit its network: output.v"),
        (lambda s: s["networks"]["D"]["parameters"].update(odd=torch.zeros(2)), "do not fit its network: odd"),
        (lambda s: s["networks"]["G"]["buffers"].update(reference=torch.zeros(2, 3, 3)), "buffers do not fit"),
        (lambda s: s["average"]["sums"].pop("output.b"), "averaged parameters"),
        (lambda s: s["config"].update(discriminator_widths=[16, 13]), "do not fit its network"),
        (lambda s: s["config"].update(tomorrow=1), "does not know: tomorrow"),
        (lambda s: s.pop("networks"), "The checkpoint lacks networks: it is damaged or in another format"),
    ],
)
def test_a_checkpoint_that_does_not_fit_its_network_is_refused(run: Run, damage: Any, words: str) -> None:
    state = copy.deepcopy(run.state())
    damage(state)
    with pytest.raises(UserError, match=words):
        Models.from_state(state, CPU)


def test_a_diverged_seed_has_no_score_and_leaves_the_other_alone(few_digits: Data, run: Run) -> None:
    averaged = {k: v.clone() for k, v in run.models.averaged.items()}
    averaged["output.v"][1, 0, 0] = float("nan")
    broken = dataclasses.replace(run.models, averaged=averaged)
    assert broken.scores(few_digits.x_test, few_digits.y_test)["error"] == [run.errors[0], None]


def test_finite_is_false_for_models_with_non_finite_weights(run: Run) -> None:
    averaged = {k: v.clone() for k, v in run.models.averaged.items()}
    averaged["output.b"][0, 3] = float("inf")
    assert run.models.finite == [True, True]
    assert dataclasses.replace(run.models, averaged=averaged).finite == [False, True]


def test_class_and_generated_probabilities_follow_from_the_same_logits(few_digits: Data) -> None:
    """In float64, to the last digits; each takes one pass."""
    models = train(few_digits, tiny(seeds=2, dtype="float64")).models
    x, passes = few_digits.x_test, []
    logits = models.logits(x)
    evaluate = models.D.evaluate
    models.D.evaluate = lambda *a, **b: passes.append(1) or evaluate(*a, **b)  # type: ignore[method-assign, func-returns-value]
    p, generated = models.probabilities(x), models.generated_probability(x)
    assert len(passes) == 2
    Z = np.exp(logits).sum(axis=2)
    assert (p.shape, generated.shape) == ((2, 100, 10), (2, 100))
    np.testing.assert_allclose(p, np.exp(logits) / Z[..., None], rtol=1e-12)
    np.testing.assert_allclose(generated, 1 / (Z + 1), rtol=1e-12)
    lse = torch.from_numpy(logits).logsumexp(dim=2)
    np.testing.assert_allclose(generated, 1 - lse.sigmoid().numpy(), atol=1e-14)


def test_generated_probability_requires_training_on_generated_images(few_digits: Data) -> None:
    for settings, why in (
        ({"method": "supervised"}, "method 'supervised' trains none"),
        ({"weight_fake": 0.0}, "trained with weight_fake=0"),
    ):
        models = train(few_digits, tiny(**settings)).models
        with pytest.raises(UserError, match=f"saw no generated image: .*{why}"):
            models.generated_probability(few_digits.x_test)


@pytest.mark.parametrize("seeds", [[1], [1, 0]])
def test_select_keeps_the_models_of_the_given_seeds(few_digits: Data, run: Run, seeds: list[int]) -> None:
    """Averaged and last parameters, with the buffers of their own references."""
    some, x = run.models.select(seeds), few_digits.x_test
    assert (some.seeds, some.D.seed_count) == (seeds, len(seeds))
    for averaged in (True, False):
        assert np.array_equal(some.probabilities(x, averaged), run.models.probabilities(x, averaged)[seeds])
    assert np.array_equal(some.sample(3), run.models.sample(3)[seeds])
    assert some.split_sha256 == [run.models.split_sha256[seed] for seed in seeds]


def test_the_ensemble_is_the_mean_without_diverged_models(few_digits: Data, run: Run) -> None:
    one_draw = dataclasses.replace(run.models, split_sha256=run.models.split_sha256[:1] * 2)
    p = run.models.probabilities(few_digits.x_test)
    mean = one_draw.ensemble(p)
    assert mean is not None
    np.testing.assert_allclose(mean, (p[0] + p[1]) / 2, rtol=1e-14)
    broken = p.copy()
    broken[0, 0, 0] = np.nan
    alone = one_draw.ensemble(broken)
    assert alone is not None
    assert np.array_equal(alone, p[1])
    assert one_draw.ensemble(np.full_like(p, np.nan)) is None


def test_ensemble_refuses_different_label_draws_and_a_single_model(few_digits: Data, run: Run) -> None:
    p = run.models.probabilities(few_digits.x_test)
    with pytest.raises(UserError, match="2 models learned from 2 different draws of labels"):
        run.models.ensemble(p)
    with pytest.raises(UserError, match="an ensemble needs two"):
        run.models.select([0]).ensemble(p[:1])


def test_scores_without_images_are_none(few_digits: Data, run: Run) -> None:
    assert run.models.scores(few_digits.x_test[:0], few_digits.y_test[:0])["error"] == [None, None]


# Ensembles


def scored(models: Models, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return the metrics of the ensemble and the number of its models."""
    p = models.probabilities(x)
    mean = models.ensemble(p)
    metrics = {name: None if mean is None else metric(mean, y) for name, metric in METRICS.items()}
    return {"models": sum(finite_mask(p)), **metrics}


@pytest.fixture(scope="module")
def together(few_digits: Data) -> Models:
    """Three models trained on the same labelled images, long enough to differ."""
    return train(few_digits, tiny(seeds=3, draw_seed=7, total_images=1200)).models


def test_an_ensemble_is_the_mean_of_the_probabilities(few_digits: Data, together: Models) -> None:
    x, y = few_digits.x_test, few_digits.y_test
    p = together.probabilities(x[:50]).sum(axis=0) / 3
    scores = scored(together, x[:50], y[:50])
    right = p[np.arange(50), y[:50]]
    assert scores.keys() == {"models", "error", "nll", "ece"}
    assert scores["models"] == 3
    assert scores["error"] == 100 * np.mean(np.argmax(p, axis=1) != y[:50])
    assert scores["nll"] == pytest.approx(-np.mean(np.log(right)), rel=1e-12)
    confidence, hit = p.max(axis=1), np.argmax(p, axis=1) == y[:50]
    place = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(hit[place == b].sum() - confidence[place == b].sum()) for b in range(15)]
    assert scores["ece"] == pytest.approx(sum(gaps) / 50, abs=1e-12)
    # The mean of probabilities, not of logits or of scores: -log is convex.
    each = together.scores(x[:50], y[:50])["nll"]
    assert scores["nll"] < np.mean([nll for nll in each if nll is not None]) - 1e-3
    assert scores["nll"] not in each


def test_ensemble_uses_averaged_parameters(few_digits: Data, together: Models) -> None:
    last = dataclasses.replace(together, averaged={k: v.detach() for k, v in together.D.parameters.items()})
    x, y = few_digits.x_test, few_digits.y_test
    assert scored(last, x, y)["nll"] != scored(together, x, y)["nll"]


def test_ensemble_refuses_models_of_different_labelled_images(few_digits: Data) -> None:
    """The number of labels is equal, but one label is of another image."""
    config, rows, other = tiny(seeds=3, total_images=20), np.arange(20), np.append(np.arange(19), 20)
    models = train(few_digits, config, labeled_splits(few_digits, config, [rows, rows, other])).models
    with pytest.raises(UserError) as refused:
        scored(models, few_digits.x_test, few_digits.y_test)
    assert str(refused.value) == (
        "These 3 models learned from 2 different draws of labels, so together they have seen more labels than each: "
        "train them with --draw-seed to make an ensemble."
    )
    # The order of the labelled images does not matter.
    models = train(few_digits, config, labeled_splits(few_digits, config, [rows, rows[::-1], rows])).models
    assert scored(models, few_digits.x_test, few_digits.y_test)["models"] == 3


def test_ensemble_refuses_a_single_model(few_digits: Data) -> None:
    models = train(few_digits, tiny(total_images=20, draw_seed=7)).models
    with pytest.raises(UserError) as refused:
        scored(models, few_digits.x_test, few_digits.y_test)
    assert str(refused.value) == (
        "This is one model, and an ensemble needs two: train with --seeds 2 and one --draw-seed."
    )


def test_ensemble_accepts_models_trained_on_all_labels(few_digits: Data) -> None:
    models = train(few_digits, tiny(total_images=20, labels="all", seeds=2)).models
    assert scored(models, few_digits.x_test, few_digits.y_test)["models"] == 2


def test_a_diverged_model_is_left_out_of_an_ensemble(few_digits: Data, together: Models) -> None:
    x, y = few_digits.x_test, few_digits.y_test
    averaged = {k: v.clone() for k, v in together.averaged.items()}
    averaged["output.v"][1, 0, 0] = float("nan")
    broken = dataclasses.replace(together, averaged=averaged)
    mean = together.probabilities(x)[[0, 2]].mean(axis=0)
    scores = scored(broken, x, y)
    assert scores["models"] == 2
    assert scores["error"] == 100 * np.mean(mean.argmax(axis=1) != y)
    averaged["output.v"][:] = float("inf")
    assert scored(broken, x, y) == {"models": 0, "error": None, "nll": None, "ece": None}


def test_an_ensemble_without_images_has_no_score(few_digits: Data, together: Models) -> None:
    nothing = scored(together, few_digits.x_test[:0], few_digits.y_test[:0])
    assert nothing == {"models": 0, "error": None, "nll": None, "ece": None}


def test_checkpoint_stores_the_split_hashes_of_its_models(few_digits: Data, tmp_path: Path) -> None:
    for draw_seed, distinct in ((7, 1), (None, 2)):
        run = train(few_digits, tiny(total_images=20, seeds=2, draw_seed=draw_seed))
        runs.save_checkpoint(tmp_path / "checkpoint", run.state())
        models = Models.from_state(runs.load_checkpoint(tmp_path / "checkpoint"), CPU)
        assert models.split_sha256 == [split.sha256 for split in run.splits]
        assert len(set(models.split_sha256)) == distinct


# Models of a run folder


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(split_sha256=state["split_sha256"][::-1]),
        lambda state: state.update(seeds=[1, 0]),
        lambda state: state["config"].update(learning_rate_d=0.1),
        lambda state: state["config"].update(total_images=999),
    ],
    ids=["labels", "seeds", "settings", "length"],
)
def test_a_checkpoint_of_another_run_is_refused(few_digits: Data, tmp_path: Path, change: Any) -> None:
    config = tiny(total_images=20, seeds=2)
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    report = run_experiment(few_digits, config, folder)
    models, found = open_run(folder, CPU)
    assert (models.config, found) == (config, report)
    state = runs.load_checkpoint(folder / "checkpoint")
    change(state)
    runs.save_checkpoint(folder / "checkpoint", state)
    with pytest.raises(UserError) as refused:
        open_run(folder, CPU)
    assert str(refused.value) == (f"The checkpoint, config.json and report.json of {folder} are not of the same run.")


def test_open_run_accepts_changed_report_interval_and_device(few_digits: Data, tmp_path: Path) -> None:
    """They may change during training, and config.json has the last values."""
    config = tiny(total_images=20)
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    run_experiment(few_digits, config, folder)
    runs.update_config(folder, config.replace(report_every_images=7, device="auto"))
    assert open_run(folder, CPU)[0].config == config
