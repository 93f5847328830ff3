"""Suggestions for a pool: copies, hidden labels, strategies, and runs."""

import dataclasses

import numpy as np
import pytest
from small_configs import tiny

from ssgan.data.dataset import Data
from ssgan.data.splits import hide
from ssgan.errors import UserError
from ssgan.inference.confidence import Confidence
from ssgan.inference.metrics import softmax
from ssgan.inference.models import Models
from ssgan.labeling import suggest as module
from ssgan.labeling.suggest import suggest
from ssgan.training.trainer import train


@pytest.fixture(scope="module")
def models(few_digits: Data) -> Models:
    return train(few_digits, tiny(seeds=2, draw_seed=0)).models


@pytest.mark.parametrize("strategy", ["typical", "uncertain", "random"])
def test_suggestions_ignore_hidden_labels_and_follow_the_seed(few_digits: Data, models: Models, strategy: str) -> None:
    labeled = np.arange(20)
    other = dataclasses.replace(few_digits, y_train=np.random.RandomState(0).permutation(few_digits.y_train))
    expected = suggest(few_digits, 12, labeled, strategy, 3, models)
    assert suggest(other, 12, labeled, strategy, 3, models) == expected
    rows = [one.row for one in expected]
    assert len(set(rows)) == 12
    assert not set(rows) & set(labeled.tolist())
    assert [one.place for one in expected] == list(range(1, 13))
    assert {one.strategy for one in expected} == {strategy}
    assert all(one.path == str(one.row) for one in expected)
    assert all(one.predicted in few_digits.classes and 0.1 <= (one.probability or 0) <= 1 for one in expected)


def test_suggestions_without_models_ignore_hidden_labels(few_digits: Data) -> None:
    other = dataclasses.replace(few_digits, y_train=9 - few_digits.y_train)
    assert suggest(few_digits, 10, []) == suggest(other, 10, [])
    assert suggest(few_digits, 10, [])[0].predicted is None


def test_images_with_a_label_are_excluded_by_default(few_digits: Data) -> None:
    data = dataclasses.replace(few_digits, y_train=hide(few_digits.y_train, np.arange(250)))
    assert sorted(one.row for one in suggest(data, 50)) == list(range(250, 300))


@pytest.mark.parametrize("strategy", ["typical", "uncertain", "random"])
def test_copies_are_suggested_once_and_copies_of_labelled_images_never(
    few_digits: Data, models: Models, strategy: str
) -> None:
    x = few_digits.x_train.copy()
    x[100:200] = x[:100]
    data = dataclasses.replace(few_digits, x_train=x)
    rows = [one.row for one in suggest(data, 190, np.arange(10), strategy, 0, models)]
    assert sorted(rows) == sorted([*range(10, 100), *range(200, 300)])
    with pytest.raises(UserError, match="n is 191, but digits holds 190 different images without a label"):
        suggest(data, 191, np.arange(10), strategy, 0, models)


def test_auto_changes_with_the_labels_per_class(few_digits: Data, models: Models) -> None:
    few = module.FEW_LABELS * 10
    assert suggest(few_digits, 5, np.arange(few - 1), models=models)[0].strategy == "typical"
    assert suggest(few_digits, 5, np.arange(few), models=models)[0].strategy == "uncertain"
    assert suggest(few_digits, 5, np.arange(few))[0].strategy == "typical"


def test_uncertain_images_have_small_margins(few_digits: Data, models: Models) -> None:
    p_NK = models.probabilities(few_digits.x_train).mean(axis=0)
    margin, disagreement = module.selection.uncertainty(models.probabilities(few_digits.x_train))
    score = np.where(np.arange(300) < 20, -1, 1 - margin + disagreement)
    chosen = suggest(few_digits, 10, np.arange(20), "uncertain", 0, models)
    assert {one.row for one in chosen} <= set(np.argsort(-score)[:100])
    assert chosen[0].score == pytest.approx(score[chosen[0].row], rel=1e-5)
    assert [one.score for one in chosen] == sorted((one.score for one in chosen), reverse=True)
    names, p_K = few_digits.classes, p_NK[chosen[0].row]
    order = np.argsort(-p_K)
    assert chosen[0].reason.startswith(f"{names[order[0]]} ({p_K[order[0]]:.2f}) or {names[order[1]]} (")


def test_suggestions_use_calibrated_probabilities_and_flagged_outliers(
    few_digits: Data, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scaled by the temperature of the folds; images that look generated come last only if predictions flag them."""
    picked: list[np.ndarray | None] = []
    select = module.selection.select_uncertain
    monkeypatch.setattr(module.selection, "select_uncertain", lambda *given: picked.append(given[4]) or select(*given))
    hot = dataclasses.replace(models, confidence=Confidence(temperature=4.0))
    first = suggest(few_digits, 5, np.arange(20), "uncertain", 0, hot)[0]
    p_K = softmax(models.logits(few_digits.x_train[[first.row]]) / 4.0).mean(axis=(0, 1))
    assert first.probability == pytest.approx(p_K.max(), rel=1e-5)
    doubtful = dataclasses.replace(models, confidence=Confidence(unflagged_reasons=("it flags its own",) * 2))
    suggest(few_digits, 5, np.arange(20), "uncertain", 0, doubtful)
    assert picked[0] is not None
    assert picked[1] is None


def test_a_large_pool_is_sampled_with_its_labelled_images(few_digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.selection, "EMBEDDED_IMAGES", 120)
    labeled = np.arange(5)
    drawn = module._draw_rows(labeled, 300, 10, seed=0)
    assert len(drawn) == 120
    assert set(labeled) <= set(drawn)
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert len(module._draw_rows(labeled, 300, 200, seed=0)) == 205
    assert len({one.row for one in suggest(few_digits, 200, labeled)}) == 200


def test_gan_without_classes_suggests_typical_and_refuses_uncertain_images(few_digits: Data) -> None:
    gan = train(few_digits, tiny(labels=0)).models
    chosen = suggest(few_digits, 5, [], models=gan)
    assert {(one.strategy, one.predicted) for one in chosen} == {("typical", None)}
    with pytest.raises(UserError, match="this run is a GAN without classes"):
        suggest(few_digits, 5, [], "uncertain", models=gan)


def test_mistakes_are_one_sentence(few_digits: Data) -> None:
    for arguments, words in (
        ((0, []), "n is 0, but must be at least 1."),
        ((301, []), "n is 301, but digits holds 300 different images without a label: ask for fewer."),
        ((1, None), "Every image of digits has a label already"),
        ((1, [], "typcal"), "Unknown strategy 'typcal': choose from auto, typical, uncertain, random. Did you mean"),
        ((1, [], "uncertain"), "needs the class probabilities of a run: give a run"),
    ):
        with pytest.raises(UserError) as caught:
            suggest(few_digits, *arguments)  # type: ignore[arg-type]
        assert words in str(caught.value)
