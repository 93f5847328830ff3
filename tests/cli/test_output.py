"""Results as text: every line fits in 80 columns and has the expected content."""

from typing import Any

import pytest
from rich.cells import cell_len

from ssgan.cli import output, terminal

FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def result(classes: list[str], confusion: list[list[int]], **more: Any) -> dict[str, Any]:
    score = {"error": 12.5, "error_raw": 12.0, "nll": 0.5, "ece": 0.25}
    per_class = [
        {"class": name, "precision": 0.5, "recall": (k + 1) / len(classes), "f1": (k + 1) / len(classes), "count": 7}
        for k, name in enumerate(classes)
    ]
    return {
        **{"scored": "test images", "left_out": 0, "notes": []},
        **{"run": "run", "test_images": 540, "dataset": "some", "device_name": "chip", "device": "cpu"},
        **{"method": "gan", "labels": 20, "diverged": [], "errors": [12.5], "predictions_of": "1 model"},
        **{"accuracy_mean": 87.5, "accuracy_std": None, "error_mean": 12.5, "error_std": None},
        **{"rows": [{"seed": 0, "draw_seed": 0, **score}], "ece_mean": 0.25, "nll_mean": 0.5},
        **{"classes": classes, "confusion": confusion, "per_class": per_class, "plots": None},
        **more,
    }


def shown(capsys: pytest.CaptureFixture[str], found: dict[str, Any]) -> list[str]:
    output.show_evaluation(found, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if cell_len(line) > 80] == []
    return lines


def banded(K: int, diagonal: int) -> list[list[int]]:
    """Return a confusion matrix: each class is right ``diagonal`` times, class k predicted as k + 1 k times."""
    return [[diagonal if i == j else i if j == i + 1 else 0 for j in range(K)] for i in range(K)]


def test_a_small_matrix_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, result(["cat", "dog", "cow"], [[10, 2, 0], [0, 7, 123], [4, 5, 6]]))
    at = lines.index("Rows: true class; columns: predicted, by 1 model")
    assert lines[at + 1 : at + 5] == [
        "    cat dog cow",
        "cat  10   2   .",
        "dog   .   7 123",
        "cow   4   5   6",
    ]


@pytest.mark.parametrize("most", [9, 12345])
def test_confusion_matrix_of_ten_classes_abbreviates_column_names(
    capsys: pytest.CaptureFixture[str], most: int
) -> None:
    lines = shown(capsys, result(FASHION, banded(10, most)))
    at = lines.index("Rows: true class; columns: predicted, by 1 model")
    assert lines[at + 1].split() == [
        "T-sh…",
        "Trou…",
        "Pull…",
        "Dress",
        "Coat",
        "Sand…",
        "Shirt",
        "Snea…",
        "Bag",
        "Ankl…",
    ]
    assert [line.split()[-1] for line in lines[at + 2 : at + 12]] == [*"........8", str(most)]
    assert [line[: len(name)] for line, name in zip(lines[at + 2 :], FASHION, strict=False)] == FASHION


def test_confusion_matrix_numbers_classes_with_similar_names(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"a long name for the class {k}" for k in range(5)]
    lines = shown(capsys, result(names, banded(5, 3)))
    at = lines.index("Rows: true class; columns: predicted, by 1 model")
    assert lines[at + 1].split() == list("01234")
    assert lines[at + 2].startswith("0 a long name for the class 0 3 .")


def test_many_classes_list_most_confused_pairs_and_lowest_f1(capsys: pytest.CaptureFixture[str]) -> None:
    found = result([f"class {k}" for k in range(100)], banded(100, 98))
    found["per_class"].reverse()
    lines = shown(capsys, found)
    at = lines.index("The most confused of 100 classes, by 1 model")
    assert lines[at + 1].split() == ["true", "class", "predicted", "images", "%", "of", "true"]
    assert lines[at + 2].split() == ["class", "98", "class", "99", "98", "50.0"]
    assert lines[at + 3].split() == ["class", "97", "class", "98", "97", "49.7"]
    assert lines[at + 14 :] == ["(86 more pairs: --json shows all)"]
    at = lines.index("The 20 of 100 classes with the lowest F1, by 1 model")
    assert [line.split()[1] for line in lines[at + 2 : at + 22]] == [str(k) for k in range(20)]
    assert lines[at + 22] == "(80 more classes: --json shows all)"


def test_many_classes_without_confusion_print_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    confusion = [[5 if i == j else 0 for j in range(40)] for i in range(40)]
    assert (
        shown(capsys, result(list(map(str, range(40))), confusion))[-1]
        == "No class is confused with another, by 1 model"
    )


def test_names_are_truncated_by_display_width(capsys: pytest.CaptureFixture[str]) -> None:
    """A Chinese character takes two columns; a control character must not reach the terminal."""
    names = ["猫" * 40, "ü" * 40, "a\x1b[31mb\nc"]
    lines = shown(capsys, result(names, banded(3, 3)))
    at = next(i for i, line in enumerate(lines) if line.startswith("Each class"))
    assert lines[at + 2].startswith("猫" * 14 + "… ")
    assert lines[at + 3].startswith("ü" * 29 + "… ")
    assert lines[at + 4].startswith(r"a\x1b[31mb\nc ")
    assert len({cell_len(line) for line in lines[at + 1 : at + 5]}) == 1


def test_columns_align_with_wide_characters(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, result(["猫犬" * 5, "b"], banded(2, 3)))
    for head in ("Each class, by 1 model", "Rows: true class; columns: predicted, by 1 model"):
        at = lines.index(head)
        assert len({cell_len(line) for line in lines[at + 1 : at + 4]}) == 1


def test_undefined_scores_are_shown_as_dash(capsys: pytest.CaptureFixture[str]) -> None:
    found = result(["a", "b"], [[1, 0], [0, 1]])
    found["per_class"][0].update(precision=None, f1=None)
    assert ["a", "7", "-", "50.0", "-"] in [line.split() for line in shown(capsys, found)]


def test_headings_name_models_that_made_the_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    matrix = [[1, 0], [0, 1]]
    rows = [{**result(["a", "b"], matrix)["rows"][0], "seed": seed} for seed in (3, 4)]
    several = {"rows": rows, "errors": [10.0, 15.0], "predictions_of": "2 models"}
    lines = shown(capsys, result(["a", "b"], matrix, **several))
    assert "Each class, by 2 models, counted together" in lines
    assert "ECE 0.250, NLL 0.500 in the mean" in lines
    both = {"error": 9.0, "nll": 0.25, "ece": 0.125, "models": 2}
    lines = shown(
        capsys,
        result(["a", "b"], matrix, **{**several, "ensemble": both, "predictions_of": "the ensemble of 2 models"}),
    )
    assert "Each class, by the ensemble of 2 models" in lines
    assert "ensemble of 2 models: accuracy 91.00 %, error 9.00 %, ECE 0.125, NLL 0.250" in lines


@pytest.mark.parametrize(
    ("count", "kind", "left_out", "words"),
    [
        (540, "test images", 0, "540 test images"),
        (60, "labelled pictures", 0, "all 60 labelled pictures"),
        (48, "labelled pictures", 12, "48 labelled pictures"),
        (1, "labelled pictures", 0, "1 labelled picture"),
    ],
)
def test_first_line_names_scored_images(
    capsys: pytest.CaptureFixture[str], count: int, kind: str, left_out: int, words: str
) -> None:
    found = {"test_images": count, "scored": kind, "left_out": left_out, "notes": ["A note."]}
    lines = shown(capsys, result(["a", "b"], [[1, 0], [0, 1]], **found))
    assert lines[0].startswith(f"run on {words} of some, by ")
    assert "A note." in lines


def test_diverged_models_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, result(["a", "b"], [[1, 0], [0, 1]], diverged=[4, 7]))
    assert "Left out, because they diverged: seed 4, 7" in lines
    nothing = {"diverged": [0], "confusion": None, "per_class": None, "errors": [None], "error_mean": None}
    lines = shown(capsys, {**result(["a", "b"], []), **nothing})
    assert lines[-1] == "Left out, because they diverged: seed 0"


@pytest.mark.parametrize(("text", "most", "expected"), [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("a cd", 3, "a…")])
def test_text_is_cut_with_an_ellipsis(text: str, most: int, expected: str) -> None:
    assert terminal.cut(text, most) == expected


@pytest.mark.parametrize(
    ("accuracy", "tested", "words"),
    [
        (0.8, 60, "Correct for about 80 of 100 images (95 % confidence interval: 68.2 to 88.2)"),
        (0.98, 100, "Correct for about 98 of 100 images (95 % confidence interval: 93.0 to 99.4)"),
        (0.0, 4, "Correct for about 0 of 100 images (95 % confidence interval: 0.0 to 49.0)"),
        (0.1459, 10_000, "Correct for about 14.6 of 100 images (95 % confidence interval: 13.9 to 15.3)"),
        (1.0, 4, "Correct for about 100 of 100 images (95 % confidence interval: 51.0 to 100.0)"),
    ],
)
def test_accuracy_in_words(accuracy: float, tested: int, words: str) -> None:
    assert output.accuracy_in_words(accuracy, tested) == words


def test_evaluation_prints_accuracy_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert output.accuracy_in_words(0.875, 540) in shown(capsys, result(["a", "b"], [[1, 0], [0, 1]]))
