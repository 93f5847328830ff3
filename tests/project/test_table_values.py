"""Statistics of the published tables against hand-computed values."""

from typing import Any

import fast_tables
import feature_tables
import method_tables
import picture_tables
import pytest
from running import script

from ssgan.settings.presets import NO_GENERATOR, resolve

# Errors of three draws. The differences are 1, 2 and 3: mean 2, std 1, standard error 1 / sqrt(3) = 0.577, and
# 4.303 times that, 2.48, is half the 95 % interval of two degrees of freedom.
LOW, HIGH = {0: 1.0, 1: 2.0, 2: 3.0}, {0: 2.0, 1: 4.0, 2: 6.0}


def draws(errors: dict[int, float], **entries: Any) -> dict[int, dict[str, Any]]:
    return {draw: {"error": error, "draw_seed": draw, **entries} for draw, error in errors.items()}


def test_gap_is_the_paired_mean_difference_of_the_others_and_ours() -> None:
    assert fast_tables._gap(LOW, {**HIGH, 3: 99.0}) == "+2.00 ± 0.58 (3)"
    assert fast_tables._gap(HIGH, LOW) == "-2.00 ± 0.58 (3)"
    assert fast_tables._gap({0: 1.5}, {0: 1.0, 1: 3.0}) == "-0.50 (1)"


def test_trainings_of_equal_time_are_the_shortest_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw that has only a longer training is not compared."""
    found = [
        *({"kind": "with", "images": 225, **row} for row in draws(LOW).values()),
        *({"kind": "without", "images": 310, **row} for row in draws(HIGH).values()),
        {"kind": "with", "images": 900, "draw_seed": 0, "error": 0.1},
        {"kind": "with", "images": 900, "draw_seed": 3, "error": 0.1},
        {"kind": "without", "images": 310, "draw_seed": 3, "error": 30.0},
        {"kind": None, "images": 10, "draw_seed": 0, "error": 50.0},
    ]
    monkeypatch.setattr(fast_tables, "rows", lambda name: [{"labels": 100, **row} for row in found])
    monkeypatch.setattr(fast_tables, "_kind", lambda row: row["kind"])
    errors = fast_tables._equal_time_errors("mnist", 100)
    assert errors == {"with": LOW, "without": {**HIGH, 3: 30.0}}
    assert fast_tables._gap(errors["with"], errors["without"]) == "+2.00 ± 0.58 (3)"


def test_other_methods_are_compared_with_the_gan(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each number of labels that has them; variants of the GAN are not other methods."""
    errors = {
        20: {"K+1 GAN": LOW, "K+1 GAN, Muon": HIGH},
        50: {"K+1 GAN": LOW, "without a generator": HIGH, "`vat`": HIGH, "`pi`": LOW},
        4000: {"K+1 GAN": HIGH, "`vat`": LOW},
    }
    monkeypatch.setattr(fast_tables, "_equal_time_errors", lambda dataset, labels: errors[labels])
    blank, *lines = fast_tables._method_gaps("mnist", [20, 50, 4000])
    assert blank == ""
    assert " ".join("\n".join(lines).split()).endswith(
        "± standard error (draws): 50 labels: `pi` +0.00 ± 0.00 (3), `vat` +2.00 ± 0.58 (3); "
        "4,000 labels: `vat` -2.00 ± 0.58 (3)."
    )
    assert fast_tables._method_gaps("mnist", [20]) == []


def test_kind_of_a_training_names_its_differences_from_the_preset() -> None:
    """Also if the row itself has the difference, not only the current preset."""
    given = {"labels": 100, "method": "gan", "total_images": 1000}
    for own, name in (
        ({}, "K+1 GAN"),
        ({"optimizer_d": "muon"}, "K+1 GAN, Muon"),
        ({"optimizer_d": "muon", **NO_GENERATOR}, "without a generator, Muon"),
        ({"label_spreading_fraction": 0.0}, "K+1 GAN, without label spreading"),
        ({"learning_rate_g": 1e-5}, "K+1 GAN"),
    ):
        config = resolve("mnist-fast", {**given, **own})
        row = {"preset": "mnist-fast", "settings": own, "images": 1000, "config_sha256": config.sha256, **given}
        assert fast_tables._kind(row) == name
        assert fast_tables._kind({**row, "config_sha256": "of another recipe"}) is None


def test_features_are_compared_with_a_95_percent_interval() -> None:
    assert feature_tables._compared(draws(HIGH), draws({**LOW, 3: 50.0})) == "4.00 ± 2.00 (-2.0 ± 2.5)"
    assert feature_tables._compared({}, draws(LOW)) == " "


def test_pictures_are_compared_on_the_draws_that_both_have() -> None:
    expected = ("2.00 ± 1.00", "4.00 ± 2.00", "-2.00 ± 0.58", "3 of 3 draws")
    assert picture_tables._paired(draws(LOW), draws({**HIGH, 3: 0.0})) == expected


def test_the_methods_are_sorted_by_their_mean_error() -> None:
    models = {"a": [{"error": 5.0}, {"error": 1.0}], "b": [{"error": 2.0}, {"error": 2.0}], "c": [{"error": 9.0}] * 2}
    assert method_tables.Line("data", 20, [0, 1], models).by_error() == ["b", "a", "c"]


def test_the_lowest_mean_of_the_estimators_is_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the draws that every method has: `gan` would be the lowest without draw 3, which the others lack."""
    tables = script("docs/tables")
    errors = {"gan": {**HIGH, 3: 0.0}, "supervised": HIGH, "label-spreading": LOW, "self-training": HIGH}
    found = [
        {**row, "dataset": "iris", "labels_per_class": 2, "method": method}
        for method, each in errors.items()
        for row in draws(each).values()
    ]
    monkeypatch.setattr(tables, "rows", lambda name: found)
    line = tables.estimator_table().splitlines()[2]
    assert line == "| iris | 2 | 3 | 4.00 ± 2.00 | 4.00 ± 2.00 | **2.00 ± 1.00** | 4.00 ± 2.00 |"


def test_ablation_differences_are_paired_with_the_full_gan(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = script("docs/tables")
    cell = {"preset": "digits", "method": "gan", "labels": 50, "images": 1000}
    parts = {None: LOW, "without noise": HIGH}
    found = [row for part, each in parts.items() for row in draws(each, ablation=part, **cell).values()]
    monkeypatch.setattr(tables, "rows", lambda name: found)
    assert tables.ablation_table().splitlines()[2:4] == [
        "| gan | 2.00 ± 1.00 | |",
        "| without noise | 4.00 ± 2.00 | +2.00 ± 0.58 |",
    ]


def test_comparison_table_lists_the_draws_of_each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best mean over the common draws is bold, also if another line has a lower mean over its own draws."""
    tables = script("docs/tables")
    cell = {"preset": None, "labels": 20, "images": None, "dataset": "digits"}
    errors = {"knn": LOW, "svm": {**HIGH, 3: -20.0}}
    found = [row for method, each in errors.items() for row in draws(each, method=method, **cell).values()]
    monkeypatch.setattr(tables, "rows", lambda name: found)
    assert tables.compare_table().splitlines()[2:4] == [
        "| scikit-learn | knn | 0-2 | **2.00 ± 1.00** |",
        "| scikit-learn | svm | 0-3 | -2.00 ± 12.11 |",
    ]
