"""Label draws: balanced, nested, frozen, and dependent only on the labels, their number and the seed."""

import dataclasses
import itertools
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.data.splits import Split
from ssgan.errors import UserError

# Results refer to the draw by its seed: these rows must never change, with any version of any library.
GOLDEN_ROWS = [
    *[86, 195, 226, 231, 393, 560, 696, 788, 793, 837],
    *[858, 893, 950, 985, 999, 1039, 1081, 1193, 1203, 1222],
]
GOLDEN_LABELS = [4, 1, 0, 6, 9, 7, 2, 3, 3, 8, 7, 5, 6, 5, 2, 9, 4, 0, 1, 8]
GOLDEN_SHA256 = "c08d43338506bcfcc2146f9349bdeda444d39e29e7bca7b5d152216ee2f49532"


def counts(y: np.ndarray, rows: np.ndarray) -> list[int]:
    """The number of drawn rows of each class of the pool."""
    return [int((y[rows] == label).sum()) for label in np.unique(y[y >= 0])]


def golden() -> Split:
    return Split(np.array(GOLDEN_ROWS), np.array(GOLDEN_LABELS))


# Content of a draw


def test_the_draw_of_20_digits_is_frozen(digits: Data) -> None:
    rows = splits.draw(digits.y_train, 20, seed=0)
    assert rows.tolist() == GOLDEN_ROWS
    assert rows.dtype == np.int64
    assert digits.y_train[rows].tolist() == GOLDEN_LABELS


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_draw_is_balanced_for_a_multiple_of_the_number_of_classes(digits: Data, seed: int) -> None:
    for labels in (10, 50, 100):
        assert counts(digits.y_train, splits.draw(digits.y_train, labels, seed)) == [labels // 10] * 10


def test_a_remainder_goes_to_classes_that_the_seed_chooses(digits: Data) -> None:
    chosen = set()
    for seed in range(10):
        drawn = counts(digits.y_train, splits.draw(digits.y_train, 53, seed))
        assert sorted(drawn) == [5] * 7 + [6] * 3
        chosen |= {label for label, count in enumerate(drawn) if count == 6}
    assert len(chosen) > 3


@given(
    pool=st.lists(st.integers(-1, 4), min_size=1, max_size=60).filter(lambda pool: max(pool) >= 0),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_every_draw_is_as_balanced_as_the_pool_allows(pool: list[int], share: float, seed: int) -> None:
    y = np.array(pool)
    known, present = int((y >= 0).sum()), len(np.unique(y[y >= 0]))
    labels = present + round(share * (known - present))
    rows = splits.draw(y, labels, seed)
    assert len(rows) == labels
    assert (np.diff(rows) > 0).all()
    assert (y[rows] >= 0).all()
    drawn = counts(y, rows)
    available = counts(y, np.arange(len(y)))
    for count, there in zip(drawn, available, strict=True):
        assert count == there or max(drawn) - count <= 1


def test_labels_of_an_exhausted_class_go_to_the_others() -> None:
    y = np.repeat([0, 1, 2], [2, 10, 10])
    for seed in range(5):
        assert counts(y, splits.draw(y, 12, seed)) == [2, 5, 5]


def test_classes_without_images_are_not_drawn() -> None:
    y = np.repeat([1, 4], [5, 5])
    rows = splits.draw(y, 4, seed=0)
    assert y[rows].tolist() == [1, 1, 4, 4]


def test_unlabelled_rows_are_never_drawn(digits: Data) -> None:
    y = digits.y_train.copy()
    y[::2] = -1
    for labels in (20, 500, "all"):
        assert (splits.draw(y, labels, seed=3) % 2 == 1).all()


def test_drawing_all_labels_gives_every_labelled_row(digits: Data) -> None:
    y = digits.y_train.copy()
    y[[3, 700]] = -1
    rows = splits.draw(y, "all", seed=5)
    assert rows.tolist() == [row for row in range(len(y)) if row not in (3, 700)]
    assert np.array_equal(splits.draw(y, len(rows), seed=5), rows)


# What a draw depends on


@pytest.mark.parametrize("seed", [0, 4])
def test_draws_of_one_seed_are_nested(digits: Data, seed: int) -> None:
    draws = [set(splits.draw(digits.y_train, labels, seed).tolist()) for labels in (10, 20, 23, 50, 300, 1257)]
    for small, large in itertools.pairwise(draws):
        assert small < large


def test_different_seeds_draw_different_images(digits: Data) -> None:
    draws = {tuple(splits.draw(digits.y_train, 20, seed).tolist()) for seed in range(20)}
    assert len(draws) == 20


def test_draw_neither_uses_nor_changes_global_random_states(digits: Data) -> None:
    for state in (1, 2):
        np.random.seed(state)  # noqa: NPY002
        random.seed(state)
        before = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
        assert splits.draw(digits.y_train, 20, seed=0).tolist() == GOLDEN_ROWS
        after = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
        assert np.array_equal(before[0]["state"]["key"], after[0]["state"]["key"])
        assert before[0]["state"]["pos"] == after[0]["state"]["pos"]
        assert before[1] == after[1]


# Numbers of labels that are refused


@pytest.mark.parametrize("labels", [0, 9, -5, 1258])
def test_a_count_that_cannot_be_drawn_is_refused(digits: Data, labels: int) -> None:
    with pytest.raises(UserError) as refused:
        splits.draw(digits.y_train, labels, seed=0)
    assert str(refused.value) == (
        f"The number of labels is {labels}, but must lie between 10 (one for each class) and 1257 "
        f"(every labelled image of the pool): set labels to such a number, or to 'all'."
    )


@pytest.mark.parametrize("labels", [True, 3.5, 20.0, "20", None])
def test_refuses_a_number_of_labels_that_is_not_an_integer(digits: Data, labels: object) -> None:
    with pytest.raises(UserError) as refused:
        splits.draw(digits.y_train, labels, seed=0)  # type: ignore[arg-type]
    assert str(refused.value) == f"The number of labels is {labels!r}, but must be an integer or 'all'."


def test_smallest_and_largest_number_of_labels_can_be_drawn(digits: Data) -> None:
    assert [len(splits.draw(digits.y_train, labels, seed=0)) for labels in (10, 1257)] == [10, 1257]


# Hidden labels


def test_hide_removes_all_other_labels_and_keeps_its_input() -> None:
    y = np.array([3, 1, 4, 1, 5])
    visible = splits.hide(y, np.array([1, 4]))
    assert visible.tolist() == [-1, 1, -1, -1, 5]
    assert y.tolist() == [3, 1, 4, 1, 5]


# Uneven labels


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([[0, 0, 0, 1]], "3 of cat, 1 of dog. Label more of dog, or draw fewer with --labels"),
        ([[0, 1, 1, 1, 1]], "4 of dog, 1 of cat. Label more of cat"),
        ([[0, 0, 1]], None),
        ([[0, 1], [1, 0]], None),
    ],
)
def test_imbalance_warnings_for_uneven_labels(labels: list[list[int]], words: str | None) -> None:
    messages = splits.imbalance_warnings([np.array(y) for y in labels], ["cat", "dog"])
    assert [words in sentence for sentence in messages] == [True] * (words is not None)
    assert all(sentence.startswith("The labelled images are uneven: ") for sentence in messages)


def test_imbalance_warnings_name_classes_without_labels() -> None:
    numbers = list(map(str, range(11)))
    assert splits.imbalance_warnings([np.array([0, 5, 10])], numbers) == [
        "No labelled image is of 1, 2, 3, 4, 6, 7, 8, 9: label some, or number the classes without gaps. The model "
        "cannot learn what has no label."
    ]
    assert splits.imbalance_warnings([np.array([0, 1]), np.array([1, 1])], ["cat", "dog"]) == [
        "No labelled image is of cat: label some. The model cannot learn what has no label."
    ]


def test_labels_of_one_class_are_refused() -> None:
    with pytest.raises(UserError, match="Every label is of one class, but a classifier needs labels of at least 2"):
        splits.make_splits(np.array([1, 1, -1]), "all", [0])
    assert len(splits.make_splits(np.array([1, 1, -1]), 0, [0])) == 1  # an unconditional GAN


# The splits of several models


def test_each_model_has_the_draw_of_its_seed(digits: Data) -> None:
    found = splits.make_splits(digits.y_train, 20, [3, 0, 3])
    for split, seed in zip(found, [3, 0, 3], strict=True):
        assert np.array_equal(split.indices, splits.draw(digits.y_train, 20, seed))
        assert np.array_equal(split.y, digits.y_train[split.indices])
    assert [split.sha256 == GOLDEN_SHA256 for split in found] == [False, True, False]


def test_labels_all_or_none_use_every_label() -> None:
    y = np.array([0, -1, 1, -1, 0])
    for labels in ("all", None):
        (split,) = splits.make_splits(y, labels, [0])
        assert (split.indices.tolist(), split.y.tolist()) == ([0, 2, 4], [0, 1, 0])


def test_indices_are_used_as_given_for_all_models_or_for_each() -> None:
    y = np.arange(10)
    assert [s.indices.tolist() for s in splits.make_splits(y, 5, [0, 1], indices=[4, 2])] == [[2, 4], [2, 4]]
    assert [s.y.tolist() for s in splits.make_splits(y, 5, [0, 1], indices=[[4, 2], [7]])] == [[2, 4], [7]]


@pytest.mark.parametrize(
    ("y", "indices", "sentence"),
    [
        ([0, 1], [[0], [1], [0]], "indices holds 3 draws, but should hold one for each of 2 seeds."),
        ([0, 1], [0, 2], "indices names rows outside the pool, which has rows 0 to 1."),
        ([0, 1], [-1], "indices names rows outside the pool, which has rows 0 to 1."),
        ([0, -1], [0, 1], "indices names an image that has no label."),
        ([0, 1], [], "There is no labelled image to learn from: label some, or give indices."),
        ([-1, -1], None, "There is no labelled image to learn from: label some, or give indices."),
    ],
)
def test_indices_that_do_not_fit_are_refused(y: list[int], indices: list[int] | None, sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        splits.make_splits(np.array(y), None, [0, 1], indices)
    assert str(refused.value) == sentence


# The hash


def test_the_hash_is_frozen_and_ignores_the_type_of_integer() -> None:
    assert golden().sha256 == GOLDEN_SHA256
    assert Split(np.array(GOLDEN_ROWS, np.int32), np.array(GOLDEN_LABELS, np.int16)).sha256 == GOLDEN_SHA256


def test_the_hash_changes_with_an_index_or_a_label() -> None:
    for part in ("indices", "y"):
        changed = getattr(golden(), part).copy()
        changed[7] += 1
        assert dataclasses.replace(golden(), **{part: changed}).sha256 != GOLDEN_SHA256


def test_the_hash_does_not_change_with_hidden_labels(digits: Data) -> None:
    hidden = np.setdiff1d(np.arange(len(digits.y_train)), GOLDEN_ROWS)
    y = digits.y_train.copy()
    y[hidden] = (y[hidden] + 1) % 10
    (split,) = splits.make_splits(y, 20, [0], indices=GOLDEN_ROWS)
    assert split.sha256 == GOLDEN_SHA256
    y[GOLDEN_ROWS[0]] = (y[GOLDEN_ROWS[0]] + 1) % 10
    (split,) = splits.make_splits(y, 20, [0], indices=GOLDEN_ROWS)
    assert split.sha256 != GOLDEN_SHA256


# Files


def test_saved_splits_are_loaded_unchanged(tmp_path: Path, digits: Data) -> None:
    rows = splits.draw(digits.y_train, 50, seed=1)
    saved = [golden(), Split(rows, digits.y_train[rows])]
    splits.save(tmp_path / "split.json", saved, [0, None])
    loaded = splits.load(tmp_path / "split.json")
    assert [(s.indices.tolist(), s.y.tolist()) for s in loaded] == [(s.indices.tolist(), s.y.tolist()) for s in saved]
    assert all(s.indices.dtype == s.y.dtype == np.int64 for s in loaded)


def test_split_file_holds_seed_hash_and_version(tmp_path: Path) -> None:
    splits.save(tmp_path / "split.json", [golden()], [0])
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["format_version"] == 1
    (entry,) = content["splits"]
    assert (entry["draw_seed"], entry["sha256"], entry["indices"]) == (0, GOLDEN_SHA256, GOLDEN_ROWS)


@pytest.mark.parametrize(("part", "before", "after"), [("indices", "195", "196"), ("y", "8\n", "7\n")])
def test_a_changed_file_is_refused(tmp_path: Path, part: str, before: str, after: str) -> None:
    path = tmp_path / "split.json"
    splits.save(path, [golden(), golden()], [0, 0])
    head, key, tail = path.read_text().rpartition(f'"{part}"')
    assert before in tail
    path.write_text(head + key + tail.replace(before, after, 1))
    with pytest.raises(UserError) as refused:
        splits.load(path)
    assert str(refused.value) == f"{path} does not match its own SHA-256: it was changed after it was written."


FOREIGN_JSON = [
    "",
    "null",
    "[]",
    "7",
    '"splits"',
    '{"cells": []}',
    '{"splits": 5}',
    '{"splits": [1]}',
    '{"splits": [{"indices": [1], "sha256": "x"}]}',
    '{"splits": [{"indices": ["a"], "y": [1], "sha256": "x"}]}',
    '{"splits": [{"indices": [1000000000000000000000], "y": [1], "sha256": "x"}]}',
    '{"splits": {}}',
]


@pytest.mark.parametrize("content", FOREIGN_JSON)
def test_refuses_files_that_are_not_split_files(tmp_path: Path, content: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))} is not a split file that can be read"):
        splits.load(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    splits.save(path, [golden()], [0])
    whole = path.read_text().rstrip()
    for length in (len(whole) // 2, len(whole) - 1):
        path.write_text(whole[:length])
        with pytest.raises(UserError, match="is not a split file that can be read"):
            splits.load(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.json cannot be read \(No such file or directory\)\.$"):
        splits.load(tmp_path / "nothing.json")
