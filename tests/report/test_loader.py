"""Rows from files: bad lines are skipped and reported by line number; contradictory rows are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from rows_of_results import ROOT, failed, row, write

from ssgan.errors import UserError
from ssgan.report.loader import load_rows

GOOD = row(seed=7)


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in row().items() if key not in keys}


LACKS = "it is not a result row, or is of another version"
BAD = {
    "truncated": (json.dumps(row())[:-20], "is not JSON: it is truncated or damaged"),
    "not JSON": ("hello", "is not JSON: it is truncated or damaged at character 1"),
    "a list": ("[1, 2]", "is JSON, but not an object"),
    "another version": (without("nll", "split_sha256"), f"lacks split_sha256, nll: {LACKS}"),
    "not a result row": ({"a": 1}, f"lacks dataset, labels, method, seed and 20 more: {LACKS}"),
    "NaN": (json.dumps(row()).replace("0.05", "NaN"), "holds NaN, which is not a number"),
    "infinity": (json.dumps(row()).replace("0.05", "-Infinity"), "holds -Infinity, which is not a number"),
    "number out of range": (
        json.dumps(row()).replace("0.05", "1e999"),
        "holds a number that is not finite, or too long",
    ),
    "number with too many digits": (
        json.dumps(row()).replace("0.05", "1" * 5000),
        "holds a number that is not finite, or too long",
    ),
    "nested too deeply": ("[" * 100_000, "is nested too deeply"),
    "lone surrogate": (json.dumps(row(method="\ud800")), "holds text that is not Unicode"),
    "duplicate key": (json.dumps(row())[:-1] + ', "error": 1.0}', 'has the key "error" twice'),
    "text for a number": (row(error="5.0"), 'has error = "5.0", which should be a percentage or null'),
    "boolean for an integer": (row(seed=True, draw_seed=0), "has seed = true, which should be an integer"),
    "percentage above 100": (row(error=100.1), "has error = 100.1, which should be a percentage or null"),
    "negative number": (row(seconds=-1.0), "has seconds = -1.0, which should be a number at least 0 or null"),
    "fraction for an integer": (row(labels=50.5), "has labels = 50.5, which should be an integer"),
    "empty name": (row(method=""), 'has method = "", which should be a name'),
    "a list of settings": (row(settings=[]), "has settings = [], which should be an object"),
    "no split": (row(split_sha256=None), "has split_sha256 = null, which should be a hash"),
    "confusion matrix not square": (
        row(confusion=[[1, 2]]),
        "has confusion = [[1, 2]], which should be a square of counts or null",
    ),
    "number of classes differs": (
        row(confusion=[[1]], classes=["a", "b"]),
        "names 2 classes, but its confusion matrix has 1",
    ),
    "invalid bins": (
        row(reliability=[{"low": 0}]),
        'has reliability = [{"low": 0}], which should be a list of bins or null',
    ),
    "no error": (row(None), "has no error, though it neither diverged nor failed, as without a test set"),
}


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD)
def test_bad_line_is_skipped_and_reported(tmp_path: Path, line: Any, reason: str) -> None:
    path = write(tmp_path / "rows.jsonl", [GOOD, line])
    found = load_rows([path])
    assert [dict(one.values) for one in found.rows] == [GOOD]
    (skipped,) = found.skipped
    assert (skipped.file, skipped.line) == (str(path), 2)
    assert skipped.reason.startswith(reason)
    assert found.files == {str(path): 1}


def test_reports_a_line_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xff\xfe\n\n\xef\xbb\xbf".replace(b"\xef\xbb\xbf", b"") + json.dumps(GOOD).encode() + b"\r\n")
    found = load_rows([path])
    assert [(one.line, one.reason) for one in found.skipped] == [(1, "is not UTF-8 text")]
    assert found.rows[0].line == 3
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())  # as some editors save it; without a final newline
    assert (len(load_rows([path]).rows), load_rows([path]).skipped) == (1, [])


def test_duplicate_row_is_skipped_and_reported(tmp_path: Path) -> None:
    """Duplicates may differ in where they ran and how long they took."""
    path = write(tmp_path / "rows.jsonl", [GOOD, GOOD, {**GOOD, "seconds": 1.0, "commit": None}])
    found = load_rows([path])
    assert len(found.rows) == 1
    assert [(one.line, one.reason) for one in found.skipped] == [(2, f"repeats {path}:1"), (3, f"repeats {path}:1")]


@pytest.mark.parametrize("order", [1, -1])
def test_fuller_of_two_rows_of_one_training_is_kept(tmp_path: Path, order: int) -> None:
    """A run and the rows of a comparison with the same settings were refused: "differ in confusion, reliability"."""
    fuller = {**GOOD, "confusion": [[3, 1], [0, 4]]}
    path = write(tmp_path / "rows.jsonl", [GOOD, fuller][::order])
    found = load_rows([path])
    (kept,) = found.rows
    assert kept["confusion"] == fuller["confusion"]
    (skipped,) = found.skipped
    assert (skipped.line, skipped.reason) == ((1, f"repeats {path}:2"), (2, f"repeats {path}:1"))[order < 0]


@pytest.mark.parametrize(
    "changed", [{"error": 5.1}, {"nll": 0.6}, {"diverged": 3}, {"note": 1.5}], ids=lambda changed: next(iter(changed))
)
def test_rows_that_contradict_each_other_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = write(tmp_path / "rows.jsonl", [GOOD, row(seed=8, **({"note": 3.5} if "note" in changed else {}))])
    other = write(tmp_path / "other.jsonl", [{**GOOD, **changed}])
    first, second = (f"{other}:1", f"{path}:1")
    with pytest.raises(UserError) as mistake:
        load_rows([path, other])
    assert str(mistake.value) == (
        f"{first} and {second} are rows of the same training (digits, 50 labels, gan, seed 7), but differ in "
        f"{next(iter(changed))}: keep one of them."
    )


@pytest.mark.parametrize(
    "key",
    ["dataset", "dataset_sha256", "labels", "method", "preset", "config_sha256", "seed", "draw_seed", "split_sha256"],
)
def test_rows_of_different_trainings_are_kept(tmp_path: Path, key: str) -> None:
    other = {**GOOD, key: GOOD[key] + 1 if isinstance(GOOD[key], int) else "other", "error": 9.0}
    assert len(load_rows([write(tmp_path / "rows.jsonl", [GOOD, other])]).rows) == 2


def test_failure_is_replaced_by_the_result_of_the_same_training(tmp_path: Path) -> None:
    rows = [
        failed(seed=7, draw_seed=7),
        GOOD,
        failed(seed=8, draw_seed=8),
        failed(seed=8, draw_seed=8, failed="Again."),
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    found = load_rows([path])
    assert [(one["seed"], one.lost) for one in found.rows] == [(7, False), (8, True)]
    assert [(one.line, one.reason) for one in found.skipped] == [
        (1, f"failed, and {path}:2 is its result"),
        (4, f"repeats the failure of {path}:3"),
    ]


def test_failure_takes_missing_values_from_the_rows_of_its_method(tmp_path: Path) -> None:
    """Missing values are taken from the other rows if these agree, and stay missing otherwise."""
    alone = load_rows([write(tmp_path / "rows.jsonl", [GOOD, failed(seed=8, draw_seed=8)])])
    assert all(one["images"] == 600_000 and one["preset"] == "digits" for one in alone.rows)
    two = load_rows([write(tmp_path / "rows.jsonl", [GOOD, row(seed=7, images=9), failed(seed=8, draw_seed=8)])])
    assert [one["images"] for one in two.rows if one.lost] == [None]


def test_unknown_keys_separate_rows_unless_their_numbers_all_differ(tmp_path: Path) -> None:
    rows = [row(seed=s, share=share, auroc=s + share, word="x") for share in (0.0, 0.5) for s in range(3)]
    found = load_rows([write(tmp_path / "rows.jsonl", rows)])
    assert {one.conditions for one in found.rows} == {(("share", "0.0"),), (("share", "0.5"),)}
    assert found.measured == {"digits": ["auroc"]}
    words = [row(seed=s, word=f"w{s}") for s in range(3)]  # text never counts as a measurement
    assert len({one.conditions for one in load_rows([write(tmp_path / "w.jsonl", words)]).rows}) == 3


def test_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    rows = [row(seed=seed, labels=labels) for seed in (2, 0, 1) for labels in (50, 20)]
    first, second = (load_rows([write(tmp_path / "rows.jsonl", each)]) for each in (rows, rows[::-1]))
    assert [one.values for one in first.rows] == [one.values for one in second.rows]


def test_committed_rows_are_read_without_skipped_lines() -> None:
    names = ["digits", "mnist-fast", "mnist-short", "cifar10-short", "fashion-mnist-files", "foreign"]
    files = [ROOT / "results" / "rows" / f"{name}.jsonl" for name in names]
    found = load_rows(files)
    assert found.skipped == []
    assert sum(found.files.values()) == len(found.rows) == sum(len(file.read_text().splitlines()) for file in files)


def test_a_file_given_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [GOOD])
    found = load_rows([path, tmp_path / "." / "rows.jsonl"])
    assert (len(found.rows), [one.reason for one in found.skipped]) == (1, ["is given twice, and read once"])


def test_refuses_files_without_rows(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.jsonl", [])
    with pytest.raises(UserError, match=r"There is no result row in .*empty.jsonl: there are no lines\."):
        load_rows([empty])
    bad = write(tmp_path / "bad.jsonl", ["", "x"])
    with pytest.raises(UserError, match=r"no result row in .*bad.jsonl: .*bad.jsonl:2 is not JSON"):
        load_rows([bad])
