"""Grouping of rows, means, and paired differences over the same labels, with values computed by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from rows_of_results import ROOT, failed, pair, row, write

from ssgan.report.grouping import QUIET, Section, best_variants, group_rows
from ssgan.report.loader import load_rows
from ssgan.report.statistics import ablation_differences, baseline_method, differences, interval
from ssgan.settings.catalog import INDEPENDENT_OF_STEPS
from ssgan.settings.config import FIELDS


@pytest.fixture
def section(tmp_path: Path) -> Any:
    def of(rows: list[dict[str, Any]]) -> Section:
        (one,) = group_rows(load_rows([write(tmp_path / "rows.jsonl", rows)]))
        return one

    return of


def errors(section: Section) -> dict[tuple[str, int], list[float]]:
    return {(section.names[variant], labels): group.errors for (variant, labels), group in section.groups.items()}


def test_mean_deviation_and_median(section: Any) -> None:
    (cell,) = section([row(e, seed=s) for s, e in enumerate((1.0, 2.0, 6.0, 4.0))]).groups.values()
    # mean 13/4; squares of 9/4, 5/4, 11/4, 3/4 sum to 236/16, over 3
    assert (cell.mean, cell.median) == (3.25, 3.0)
    assert cell.std == pytest.approx((236 / 16 / 3) ** 0.5)
    assert section([row(4.0)]).groups.popitem()[1].std is None


def test_seeds_without_a_result_are_kept_but_not_averaged(section: Any) -> None:
    rows = [row(2.0), row(4.0, seed=1), row(None, seed=2, diverged=10), row(90.0, seed=3, diverged=20)]
    (cell,) = section([*rows, failed(seed=4, draw_seed=4)]).groups.values()
    assert (cell.errors, cell.mean) == ([2.0, 4.0], 3.0)
    assert sorted(row["seed"] for row in cell.lost) == [2, 3, 4]


APART = {
    "settings": ({"settings": {"generator_norm": "none"}}, ["gan", "gan · generator_norm=none"]),
    "budget": ({"images": 9000, "settings": {"total_images": 9000}}, ["gan · 9,000 images", "gan · 600,000 images"]),
    "preset": ({"preset": "fast"}, ["gan · digits", "gan · fast"]),
    "data": ({"dataset_sha256": "e" * 64}, ["gan · data dddddddd", "gan · data eeeeeeee"]),
    "configuration": ({"config_sha256": "other"}, ["gan · configuration gan-50", "gan · configuration other"]),
    "unknown key": ({"foreign": "yes"}, ["gan", "gan · foreign=yes"]),
    "members": ({"members": [1, 2]}, ["gan", "gan · 2 members"]),
    "a setting that changes no weight": (
        {"settings": {"evaluate_every_images": 5}},
        ["gan", "gan · evaluate_every_images=5"],
    ),
}


@pytest.mark.parametrize(("changed", "names"), APART.values(), ids=APART)
def test_rows_of_different_trainings_are_not_averaged(section: Any, changed: dict[str, Any], names: list[str]) -> None:
    """Rows of two trainings that differ in one value are two groups, and their names state the value."""
    found = errors(section([row(1.0), row(2.0, seed=1), row(8.0, seed=2, **changed)]))
    assert sorted(found.values()) == [[1.0, 2.0], [8.0]]
    assert len(found) == len({name for name, _ in found}) == 2
    assert sorted(name for name, _ in found) == sorted(names)


def test_data_sets_are_sections(tmp_path: Path) -> None:
    found = group_rows(load_rows([write(tmp_path / "rows.jsonl", [row(), row(dataset="b"), row(dataset="a")])]))
    assert [one.dataset for one in found] == ["a", "b", "digits"]


def test_interval_is_that_of_a_paired_t_test(section: Any) -> None:
    found = section(pair())
    (one,) = differences(found, "supervised")
    assert sorted(one.values) == [-6.0, -5.0, -4.0]
    assert (one.mean, one.draws, one.includes_zero) == (-5.0, 3, False)
    # the deviation is 1, t of 2 degrees of freedom at 0.975 is 4.302653
    assert one.interval == pytest.approx((-5 - 4.302653 / 3**0.5, -5 + 4.302653 / 3**0.5), abs=1e-6)
    theirs = scipy.stats.ttest_rel([6, 5, 7], [10, 11, 12]).confidence_interval(0.95)
    assert one.interval == pytest.approx((theirs.low, theirs.high))


def test_interval_covers_the_mean_in_95_percent_of_draws() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(1.0, 2.0, (2000, 4))
    covered = [low <= 1.0 <= high for low, high in filter(None, map(interval, draws.tolist()))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_one_pair_gives_no_interval(section: Any) -> None:
    (one,) = differences(section([row(4.0), row(5.0, method="supervised")]), "supervised")
    assert (one.values, one.interval, one.includes_zero) == ((-1.0,), None, None)


def test_equal_differences_give_no_interval(section: Any) -> None:
    """An interval of width 0 would look certain, and small test sets often give equal errors."""
    rows = [row(1.2 + k, seed=k, split_sha256=str(k), draw_seed=k) for k in range(2)]
    others = [row(1.3 + k, seed=k, split_sha256=str(k), draw_seed=k, method="supervised") for k in range(2)]
    (one,) = differences(section([*rows, *others]), "supervised")
    assert one.values[0] != one.values[1]  # by rounding
    assert one.values == pytest.approx((-0.1, -0.1))
    assert (one.interval, one.includes_zero) == (None, None)


@pytest.mark.parametrize("last", [row(1.0, seed=3), row(None, seed=3, diverged=5)], ids=["no partner", "diverged"])
def test_only_seeds_of_the_same_split_are_pairs(section: Any, last: dict[str, Any]) -> None:
    rows = [*pair(), last]
    if last["diverged"]:
        rows.append(row(9.0, seed=3, method="supervised"))
    other = row(3.0, seed=4, split_sha256="another", draw_seed=9)
    (one,) = differences(section([*rows, other, row(4.0, seed=4, method="supervised")]), "supervised")
    assert sorted(one.values) == [-6.0, -5.0, -4.0]


def test_splits_of_other_data_or_numbers_of_labels_are_not_paired(section: Any) -> None:
    other = row(9.0, method="supervised", dataset_sha256="e" * 64)
    assert differences(section([row(), other]), "supervised") == []
    other = row(9.0, method="supervised", labels=20, split_sha256=row()["split_sha256"])
    assert differences(section([row(), other]), "supervised") == []


def test_seeds_that_share_a_draw_are_paired_by_seed_and_count_one_draw(section: Any) -> None:
    rows = [
        row(e + 10 * (m == "supervised"), seed=s, draw_seed=0, method=m)
        for s, e in enumerate((1.0, 2.0, 4.0))
        for m in ("gan", "supervised")
    ]
    (one,) = differences(section(rows), "supervised")
    assert (one.values, one.draws) == ((-10.0, -10.0, -10.0), 1)


def test_baseline_is_the_variant_with_the_most_similar_settings(section: Any) -> None:
    shorter = [row(20.0, method="supervised", images=9, config_sha256="short")]
    (one, base) = differences(section([*pair(), *shorter]), "supervised")
    assert (one.group.variant.method, one.baseline.variant.images) == ("gan", 600_000)
    assert base.group.variant != base.baseline.variant


def test_default_and_requested_baseline_method(section: Any) -> None:
    found = section(pair())
    assert [baseline_method(found, asked) for asked in (None, "gan", "other")] == ["supervised", "gan", None]
    assert baseline_method(section([row(method="b"), row(method="a")]), None) == "a"


def test_committed_digits_rows_give_the_published_means() -> None:
    (found,) = group_rows(load_rows([ROOT / "results" / "rows" / "digits.jsonl"]))
    table = {key: np.mean(each) for key, each in errors(found).items() if key[0] == "gan"}
    assert {key: round(mean, 2) for key, mean in table.items()} == {
        ("gan", 20): 10.48,
        ("gan", 50): 4.89,
        ("gan", 100): 2.54,
    }


def test_settings_without_effect_on_training_steps_are_not_in_short_names() -> None:
    """Except for settings that other columns show."""
    assert INDEPENDENT_OF_STEPS - {"preset", "device", "cuda_graph"} <= QUIET <= FIELDS.keys()


def test_a_setting_shared_by_all_networks_is_not_in_names(section: Any) -> None:
    """Classical methods have no settings, so they do not count as a difference."""
    shared = {"settings": {"batch_size": 20}}
    rows = [
        row(9.0, **shared),
        row(8.0, method="supervised", **shared),
        row(7.0, method="svm", preset=None, images=None),
    ]
    assert sorted(section(rows).names.values()) == ["gan", "supervised", "svm"]
    other = row(6.0, method="pi", settings={"batch_size": 30})
    names = ["gan · batch_size=20", "pi · batch_size=30", "supervised · batch_size=20", "svm"]
    assert sorted(section([*rows, other]).names.values()) == names


def test_best_settings_have_the_lowest_mean_over_the_same_labels(section: Any) -> None:
    """Variants with more numbers of labels come first, then with smaller ones; ablations only without others."""
    errors = {"a": {20: 9.0, 50: 3.0}, "b": {20: 7.0, 50: 4.0}, "c": {50: 1.0}, "d": {100: 0.5, 200: 0.1}}
    rows = [
        row(error, labels=labels, settings={"name": name}, config_sha256=f"{name}{labels}")
        for name, by_labels in errors.items()
        for labels, error in by_labels.items()
    ]
    ablation = [row(0.1, labels=labels, ablation="none", config_sha256="e") for labels in (20, 50)]
    alone = row(0.2, method="pi", labels=20, ablation="none")
    lost = row(None, method="vat", diverged=3)
    best = best_variants(section([*rows, *ablation, alone, lost]))
    assert [(one.method, dict(one.settings)) for one in best] == [("gan", {"name": '"b"'}), ("pi", {})]


def test_an_ablation_is_compared_with_the_full_method_of_its_settings(section: Any) -> None:
    fast = {"preset": "fast", "config_sha256": "fast"}
    rows = [row(9.0), row(4.0, **fast), row(2.0, method="supervised")]
    rows += [row(6.0, **{**fast, "config_sha256": "x"}, settings={"noise": 0}, ablation="without noise")]
    rows += [row(1.0, method="pi", ablation="without noise")]  # its full method has no row
    (one,) = ablation_differences(section(rows))
    assert (one.values, one.group.variant.ablation) == ((2.0,), "without noise")
    assert one.baseline.variant.preset == "fast"


def test_names_are_unique_if_a_method_has_the_name_of_a_variant(section: Any) -> None:
    rows = [row(), row(method="gan · 9,000 images"), row(images=9000), row(images=8, method="gan\u202e")]
    rows += [row(images=8, method="gan\\u202e")]
    names = list(section(rows).names.values())
    assert len(set(names)) == len(names) == 5
    assert all(name.isprintable() for name in names)


def test_an_ablation_is_not_the_baseline_if_the_full_method_has_rows(section: Any) -> None:
    """It may change fewer settings of the preset than the full method, and would then come first."""
    full = row(5.0, settings={"noise_input_std": 0.3})
    ablation = row(9.0, ablation="without noise", config_sha256="other")
    pairs = differences(section([full, ablation]), "gan")
    assert [(one.group.variant.ablation, one.baseline.variant.ablation) for one in pairs] == [("without noise", None)]
