"""A batch depends only on its number: its images, noise and augmentation."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from small_configs import tiny

from ssgan.data.dataset import Data
from ssgan.data.splits import make_splits
from ssgan.errors import UserError
from ssgan.settings.config import Config
from ssgan.training.batches import CHUNK_BATCHES, Batches
from ssgan.training.label_spreading import spread_labels
from ssgan.training.methods import Batch

AUGMENTED: dict[str, Any] = {"augmentation": "digits", "weight_pseudo_label": 1.0}


def batches(data: Data, config: Config) -> Batches:
    splits = make_splits(data.y_train, config.labels, config.draw_seeds)
    return Batches(data.x_train, data.scale, splits, config.all_seeds, config, torch.device("cpu"))


def equal(left: Batch, right: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("settings", [{}, AUGMENTED, {"label_spreading_fraction": 0.7, "total_images": 1000}])
def test_batches_do_not_depend_on_the_first_batch_number(few_digits: Data, settings: dict[str, Any]) -> None:
    ours = batches(few_digits, tiny(seeds=2, **settings))
    whole = list(ours.from_batch(0, CHUNK_BATCHES + 3))
    for first in (1, CHUNK_BATCHES - 1, CHUNK_BATCHES + 1):
        later = list(ours.from_batch(first, CHUNK_BATCHES + 3))
        assert all(equal(a, b) for a, b in zip(whole[first:], later, strict=True))


def test_batches_of_a_seed_are_equal_alone_and_in_a_stack(few_digits: Data) -> None:
    (together,) = batches(few_digits, tiny(seeds=3, **AUGMENTED)).from_batch(5, 6)
    for i in range(3):
        (alone,) = batches(few_digits, tiny(seed=i, **AUGMENTED)).from_batch(5, 6)
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[i], theirs[0], rtol=0, atol=1e-6)


def test_views_of_a_seed_are_bit_identical_alone_and_in_a_stack(few_digits: Data) -> None:
    """Powers and cosines of many rows are rounded differently from those of few: 1 batch in 4 differed."""
    settings = {**AUGMENTED, "batch_size": 50}
    together = batches(few_digits, tiny(seeds=2, **settings)).from_batch(0, 40)
    each = [batches(few_digits, tiny(seed=i, **settings)).from_batch(0, 40) for i in range(2)]
    for stack, *alone in zip(together, *each, strict=True):
        for name in ("x_lab", "x_unl", "x_strong"):
            for i, batch in enumerate(alone):
                assert torch.equal(getattr(stack, name)[i], getattr(batch, name)[0])


def test_spread_labels_are_used_only_in_the_first_batches(few_digits: Data) -> None:
    """Each model uses the labels spread from its own draw; the rest of a batch does not change."""
    common: dict[str, Any] = {"seeds": 2, "labels": 20, "total_images": 200, "discriminator_steps": 2}
    config = tiny(label_spreading_fraction=0.5, **common)
    ours = batches(few_digits, config)
    splits = make_splits(few_digits.y_train, 20, config.draw_seeds)
    first = config.steps // 2 * 2
    assert config.batches_with_spread_labels == first > 0
    plain = list(batches(few_digits, tiny(**common)).from_batch(0, 2 * config.steps))
    found = list(ours.from_batch(0, 2 * config.steps))
    for i, split in enumerate(splits):
        rows, y = spread_labels(few_digits.x_train, few_digits.scale, split)
        label_of = {few_digits.x_train[row].tobytes(): label for row, label in zip(rows, y.tolist(), strict=True)}
        seen = set()
        for batch in found[:first]:
            images = [(16 * x).round().to(torch.uint8).numpy().tobytes() for x in batch.x_lab[i]]
            assert [label_of[x] for x in images] == batch.y_lab[i].tolist()
            seen |= set(images)
        assert len(seen) > 20
    for k, (batch, before) in enumerate(zip(found, plain, strict=True)):
        assert equal(batch, before) is (k >= first)
        assert equal(batch._replace(x_lab=before.x_lab, y_lab=before.y_lab), before)


def test_no_global_random_number_is_drawn(few_digits: Data) -> None:
    ours = batches(few_digits, tiny(**AUGMENTED))
    before = torch.get_rng_state()
    list(ours.from_batch(0, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_augmentation_images_are_unchanged_and_no_strong_view_exists(few_digits: Data) -> None:
    (batch,) = batches(few_digits, tiny()).from_batch(0, 1)
    pool = {row.tobytes() for row in few_digits.x_train}
    for x in (batch.x_lab, batch.x_unl, batch.x_unl2):
        assert {(16 * row).round().to(torch.uint8).numpy().tobytes() for row in x[0]} <= pool
    assert batch.x_strong.shape == (1, 0, 8, 8)


def test_augmentation_gives_different_views_of_the_same_images(few_digits: Data) -> None:
    (plain,) = batches(few_digits, tiny()).from_batch(3, 4)
    (augmented,) = batches(few_digits, tiny(**AUGMENTED)).from_batch(3, 4)
    assert torch.equal(plain.y_lab, augmented.y_lab)
    assert torch.equal(plain.z, augmented.z)
    for name in ("x_lab", "x_unl", "x_unl2"):
        one, other = getattr(plain, name)[0], getattr(augmented, name)[0]
        assert one.shape == other.shape
        assert not torch.equal(one, other)
        # Nearly every view is nearer to its own image than to the other images of the batch.
        nearest = torch.cdist(other.flatten(1), one.flatten(1)).argmin(dim=1)
        same = torch.cdist(one.flatten(1), one.flatten(1))[torch.arange(len(one)), nearest] == 0
        assert same.float().mean() > 0.7
    assert augmented.x_strong.shape == augmented.x_unl.shape
    assert (augmented.x_strong - augmented.x_unl).abs().mean() > 0.02


def test_labelled_unlabelled_and_generator_phase_views_are_independent(few_digits: Data) -> None:
    """The same image gets different views as labelled image, as unlabelled image and in G's phase."""
    one = dataclasses.replace(few_digits, x_train=few_digits.x_train[:1].repeat(30, axis=0), y_train=np.arange(30) % 2)
    config = tiny(labels=None, **{"augmentation": "digits"})
    (batch,) = batches(one, config).from_batch(0, 1)
    assert not torch.equal(batch.x_lab, batch.x_unl)
    assert not torch.equal(batch.x_unl, batch.x_unl2)
    assert len(torch.unique(batch.x_unl[0].flatten(1), dim=0)) > 10


def test_colour_images_keep_their_layout(few_digits: Data) -> None:
    """Three equal channels stay equal in a view, and stay on the last axis."""
    colour = dataclasses.replace(
        few_digits,
        x_train=np.repeat(few_digits.x_train[..., None], 3, axis=3),
        x_test=np.repeat(few_digits.x_test[..., None], 3, axis=3),
    )
    config = tiny(augmentation="digits")
    (batch,), (grey,) = batches(colour, config).from_batch(0, 1), batches(few_digits, config).from_batch(0, 1)
    assert batch.x_unl.shape == (1, 20, 8, 8, 3)
    torch.testing.assert_close(batch.x_unl, grey.x_unl[..., None].expand(-1, -1, -1, -1, 3), rtol=0, atol=1e-6)


def test_vectors_cannot_be_augmented(few_digits: Data) -> None:
    vectors = dataclasses.replace(
        few_digits,
        x_train=few_digits.x_train.reshape(-1, 64).astype(np.float32) / 16,
        x_test=few_digits.x_test.reshape(-1, 64).astype(np.float32) / 16,
        scale=1.0,
    )
    with pytest.raises(UserError, match=r"'digits', but these data are vectors of 64 numbers, not images"):
        batches(vectors, tiny(augmentation="digits"))


@pytest.mark.parametrize(
    ("settings", "augmented"),
    [
        ({}, {"x_lab", "x_unl", "x_unl2"}),
        ({"weight_fake": 0.0}, {"x_lab", "x_unl"}),
        ({"method": "supervised"}, {"x_lab"}),
    ],
)
def test_only_images_that_a_phase_uses_are_augmented(
    few_digits: Data, settings: dict[str, Any], augmented: set[str]
) -> None:
    (plain,) = batches(few_digits, tiny(**settings)).from_batch(0, 1)
    (views,) = batches(few_digits, tiny(augmentation="digits", **settings)).from_batch(0, 1)
    names = ("x_lab", "x_unl", "x_unl2")
    assert {name for name in names if not torch.equal(getattr(plain, name), getattr(views, name))} == augmented


def test_labels_are_spread_in_prepare_only_if_a_batch_needs_them(few_digits: Data) -> None:
    """So that the time of a step does not include label spreading."""
    config = tiny(label_spreading_fraction=0.5, total_images=200)
    ours = batches(few_digits, config)
    ours.prepare(config.batches_with_spread_labels)
    list(ours.from_batch(config.batches_with_spread_labels, config.steps))
    assert "spread_labeled" not in vars(ours)
    ours.prepare(0)
    assert "spread_labeled" in vars(ours)
