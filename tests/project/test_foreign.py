"""Unlabelled images of none of the user's classes: the grid, its rows and its table."""

import dataclasses
import itertools
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import table_rows
from running import script
from small_configs import TINY

from ssgan import Data
from ssgan.data.splits import make_splits
from ssgan.settings.presets import resolve

ROOT = Path(__file__).parents[2]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
LABELS = 30


@pytest.fixture(scope="module")
def results() -> ModuleType:
    return script("experiments/results")


@pytest.fixture(scope="module")
def cells(results: ModuleType, digits: Data) -> dict[tuple[float, int], Data]:
    return {(share, seed): results.with_foreign(digits, share, LABELS, seed) for share in SHARES for seed in range(3)}


def rows_of(data: Data, whole: Data) -> np.ndarray:
    """The row of the whole pool for each image of a cell."""
    place = {image.tobytes(): row for row, image in enumerate(whole.x_train)}
    assert len(place) == len(whole.x_train)
    return np.array([place[image.tobytes()] for image in data.x_train])


def test_pool_has_constant_size_and_the_exact_share_of_foreign_images(
    cells: dict[tuple[float, int], Data], digits: Data
) -> None:
    for (share, _), data in cells.items():
        rows = rows_of(data, digits)
        assert len(set(rows)) == len(rows) == LABELS + 480
        foreign = digits.y_train[rows] >= 6
        assert foreign.sum() == share * 480
        assert not foreign[:LABELS].any()
        assert data.y_train[foreign].tolist() == [-1] * foreign.sum()
        assert (data.y_train[LABELS:] == -1).all()
        assert data.classes == ("0", "1", "2", "3", "4", "5")


def test_labels_and_test_set_are_equal_for_all_shares_and_methods(
    cells: dict[tuple[float, int], Data], digits: Data
) -> None:
    test = digits.y_test < 6
    for seed in range(3):
        ours = [cells[share, seed] for share in SHARES]
        labeled = [data.x_train[data.y_train >= 0] for data in ours]
        assert all((x == labeled[0]).all() for x in labeled)
        assert np.bincount(ours[0].y_train[:LABELS]).tolist() == [5] * 6
        assert (digits.y_train[rows_of(ours[0], digits)[:LABELS]] == ours[0].y_train[:LABELS]).all()
        drawn = [
            make_splits(data.y_train, config.labels, config.draw_seeds)[0].sha256
            for data in ours
            for config in (
                resolve("digits", {"labels": LABELS, "seed": seed, "method": m}) for m in ("gan", "supervised")
            )
        ]
        assert len(set(drawn)) == 1
        for data in ours:
            assert (data.x_test == digits.x_test[test]).all()
            assert (data.y_test == digits.y_test[test]).all()
    assert len({cells[0.0, seed].x_train[:LABELS].tobytes() for seed in range(3)}) == 3


def test_foreign_images_replace_images_of_own_classes(cells: dict[tuple[float, int], Data], digits: Data) -> None:
    for seed in range(3):
        pools = [rows_of(cells[share, seed], digits) for share in SHARES]
        for fewer, more in itertools.pairwise(pools):
            gone, come = set(fewer) - set(more), set(more) - set(fewer)
            assert len(gone) == len(come) == 120
            assert {int(label) < 6 for label in digits.y_train[list(gone)]} == {True}
            assert {int(label) < 6 for label in digits.y_train[list(come)]} == {False}


def test_pool_holds_no_test_image_and_does_not_use_test_labels(results: ModuleType, digits: Data) -> None:
    data = results.with_foreign(digits, 0.5, LABELS, 0)
    tested = {image.tobytes() for image in digits.x_test}
    assert not tested & {image.tobytes() for image in data.x_train}
    other = dataclasses.replace(digits, y_test=digits.y_test[::-1].copy())
    assert (results.with_foreign(other, 0.5, LABELS, 0).x_train == data.x_train).all()


def test_grid_cells_cover_all_shares_methods_and_seeds(results: ModuleType) -> None:
    """Five draws of each share, and of the baseline on own and on foreign pools; no cell twice, each with one draw."""
    grid = results.GRIDS["foreign"]
    found = [(cell["method"], cell["foreign_share"], cell["seed"]) for cell in grid.cells]
    wanted = [("gan", share, seed) for share in SHARES for seed in range(5)]
    wanted += [("supervised", share, seed) for share in (0.0, 1.0) for seed in range(5)]
    assert sorted(found) == sorted(wanted)
    assert all("seeds" not in cell for cell in grid.cells)
    assert (
        len({tuple(v for k, v in cell.items() if k not in ("method", "foreign_share", "seed")) for cell in grid.cells})
        == 1
    )


class FixedModels:
    """One model whose logits are the images."""

    def __init__(self, judges: bool = True) -> None:
        self.G = SimpleNamespace() if judges else None

    def logits(self, x_NK: np.ndarray) -> np.ndarray:
        return x_NK[None]


def test_scores_of_foreign_images_match_hand_computed_values(results: ModuleType) -> None:
    """Z = sum exp(logits): with both logits log(1/2), p_generated is 1/2; (log 2, log 1) gives 1/4 and 1 - p = 1/3."""
    own = np.log([[2.0, 1.0], [1.0, 2.0], [3.0, 1.0]])  # p_generated 1/4, 1/4, 1/5; unsure 1/3, 1/3, 1/4
    foreign = np.log([[0.4, 0.1], [4.0, 5.0]])  # p_generated 2/3, 1/10; unsure 1/5, 4/9
    scores = results.foreign_scores(FixedModels(), own, foreign)
    assert scores == pytest.approx(
        {
            "p_generated_own": 0.7 / 3,
            "p_generated_foreign": (2 / 3 + 0.1) / 2,
            "unlike_own": 0.0,
            "unlike_foreign": 0.5,
            "auroc_p_generated": 3 / 6,
            "auroc_unsure": 3 / 6,
        }
    )
    surer = results.foreign_scores(FixedModels(), own, foreign[:1])
    assert (surer["auroc_p_generated"], surer["auroc_unsure"]) == (1.0, 0.0)


def test_scores_are_none_without_generator_or_after_divergence(results: ModuleType) -> None:
    own, foreign = np.log([[2.0, 1.0]]), np.log([[1.0, 1.0]])
    scores = results.foreign_scores(FixedModels(judges=False), own, foreign)
    assert scores.pop("auroc_unsure") == 1.0
    assert set(scores.values()) == {None}
    with np.errstate(invalid="ignore"):
        lost = results.foreign_scores(FixedModels(), own, np.array([[np.nan, 0.0]]))
    assert set(lost.values()) == {None}
    assert lost.keys() == results.foreign_scores(FixedModels(), own, foreign).keys()


def small_cells() -> list[dict[str, Any]]:
    settings = {name: value for name, value in TINY.items() if name not in ("device", "labels")}
    shared = {k: v for k, v in settings.items() if k not in ("generator_widths", "latent_size")}
    return [
        {"foreign_share": share, "method": method, "seed": seed, "labels": LABELS, **own}
        for method, share, own in (("supervised", 0.0, shared), ("gan", 0.0, settings), ("gan", 1.0, settings))
        for seed in (0, 1)
    ]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_grid_trains_each_cell_once_and_the_table_shows_differences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows for 0 and 100 % foreign images, each cell once, and the differences of the table."""
    results = script("experiments/results")
    monkeypatch.setattr(results, "GRIDS", {"foreign": results.Grid("digits", small_cells(), "digits")})
    monkeypatch.setattr(results, "ROWS", tmp_path)
    monkeypatch.setattr(results, "PICTURES", tmp_path)
    monkeypatch.setattr(results, "SCRATCH", tmp_path / "runs")
    assert results.main(["foreign", "--device", "cpu"]) == 0
    path = tmp_path / "foreign.jsonl"
    rows = read(path)
    assert [(row["method"], row["foreign_share"], row["seed"], row["stack"]) for row in rows] == [
        (cell["method"], cell["foreign_share"], cell["seed"], [cell["seed"]]) for cell in small_cells()
    ]
    digits_row = read(ROOT / "results" / "rows" / "digits.jsonl")[0]
    assert all(row.keys() > digits_row.keys() for row in rows)
    assert {row["labels"] for row in rows} == {LABELS}
    by_cell = {(row["method"], row["foreign_share"], row["seed"]): row for row in rows}
    for seed in (0, 1):
        assert len({row["split_sha256"] for row in rows if row["seed"] == seed}) == 1
        same, other = by_cell["supervised", 0.0, seed], by_cell["gan", 1.0, seed]
        assert by_cell["gan", 0.0, seed]["dataset_sha256"] == same["dataset_sha256"] != other["dataset_sha256"]
        assert same["p_generated_foreign"] is None
        assert 0 < other["p_generated_foreign"] < 1
        assert 0 <= other["auroc_p_generated"] <= 1

    # A cell with a row is not trained again; the missing one differs from its neighbour only in the data.
    capsys.readouterr()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not by_cell["gan", 1.0, 1]))
    assert results.main(["foreign", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("there already") == 5
    again = read(path)[-1]
    timed = ("seconds", "images_per_second")
    assert {**again, **dict.fromkeys(timed)} == {**by_cell["gan", 1.0, 1], **dict.fromkeys(timed)}

    tables = script("docs/tables")
    monkeypatch.setattr(table_rows, "ROWS", tmp_path)
    lines = tables.foreign_table().splitlines()
    for share in (0.0, 1.0):
        ours, theirs = (
            [by_cell[m, s, seed]["error"] for seed in (0, 1)] for m, s in (("gan", share), ("supervised", 0.0))
        )
        mean, gap = sum(ours) / 2, (sum(ours) - sum(theirs)) / 2
        (line,) = [line for line in lines if line.startswith(f"| {100 * share:.0f} % |")]
        assert line.startswith(f"| {100 * share:.0f} % | {mean:.2f} ± ")
        assert f"| {gap:+.2f} ± " in line
    assert any(line.startswith(f"| `supervised` | {sum(theirs) / 2:.2f} ± ") for line in lines)


def row(method: str, share: float, draw: int, error: float | None, *scores: float | None) -> dict[str, Any]:
    names = ("unlike_own", "unlike_foreign", "auroc_p_generated", "auroc_unsure")
    cell = {"method": method, "foreign_share": share, "draw_seed": draw, "error": error}
    return {**cell, "labels": LABELS, "images": 1000, **dict(zip(names, scores, strict=True))}


def test_table_matches_hand_computed_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences are paired, a tie is not lower, a diverged draw is left out, and the control is no baseline."""
    none = (None, None, None)
    rows = [
        *(row("supervised", 1.0, draw, 50.0, *none, 0.1) for draw in range(3)),
        *(row("supervised", 0.0, draw, error, *none, 0.8) for draw, error in enumerate((8.0, 10.0, 12.0))),
        *(row("gan", 0.0, draw, error, 0.02, 0.9, 0.9, 0.7) for draw, error in enumerate((2.0, 5.0, 8.0))),
        *(row("gan", 0.5, draw, error, 0.1, 0.3, 0.6, 0.6) for draw, error in enumerate((8.0, 8.0, None))),
        *(row("gan", 1.0, draw, error, 0.2, 0.1, 0.4, 0.5) for draw, error in enumerate((9.0, 9.0, 15.0))),
    ]
    (tmp_path / "foreign.jsonl").write_text("".join(json.dumps(one) + "\n" for one in reversed(rows)))
    tables = script("docs/tables")
    monkeypatch.setattr(table_rows, "ROWS", tmp_path)
    table = tables.foreign_table()
    assert table.splitlines()[2:6] == [
        "| 0 % | 5.00 ± 3.00 | -5.00 ± 0.58 | 3 of 3 draws | 0.90 | 0.70 | 2 % | 90 % |",
        "| 50 % | 8.00 ± 0.00, 1 diverged | -1.00 ± 1.00 | 1 of 3 draws | 0.60 | 0.60 | 10 % | 30 % |",
        "| 100 % | 11.00 ± 3.46 | +1.00 ± 1.15 | 1 of 3 draws | 0.40 | 0.50 | 20 % | 10 % |",
        "| `supervised` | 10.00 ± 2.00 |   |   |   | 0.80 |   |   |",
    ]
    assert "in every draw at 0 % foreign images." in table
    assert "higher error on average at 100 % foreign images." in table


def test_published_rows_match_the_grid_and_the_data(results: ModuleType, digits: Data) -> None:
    rows = read(ROOT / "results" / "rows" / "foreign.jsonl")
    found = {(row["config_sha256"], tuple(row["stack"]), row["dataset_sha256"]): row for row in rows}
    wanted = set()
    for cell in results.GRIDS["foreign"].cells:
        settings = {name: value for name, value in cell.items() if name != "foreign_share"}
        config = resolve("digits", settings)
        data = results.with_foreign(digits, cell["foreign_share"], config.labels, config.seed)
        key = config.sha256, tuple(config.all_seeds), data.sha256
        wanted.add(key)
        assert found[key]["foreign_share"] == cell["foreign_share"]
        assert found[key]["images"] == config.total_images
        (split,) = make_splits(data.y_train, config.labels, config.draw_seeds)
        assert found[key]["split_sha256"] == split.sha256
    assert set(found) == wanted
    assert len(rows) == len(wanted) == 35
    assert len({row["split_sha256"] for row in rows}) == 5
    assert not any(row["commit"].endswith("+") for row in rows)


def test_statements_of_the_page_on_foreign_images_follow_from_the_rows() -> None:
    """The sentences of the page without numbers."""

    def mean(method: str, share: float, column: str) -> float:
        values = [
            row[column]
            for row in read(ROOT / "results" / "rows" / "foreign.jsonl")
            if (row["method"], row["foreign_share"]) == (method, share)
        ]
        return float(np.mean(values))

    error = [mean("gan", share, "error") for share in SHARES]
    assert error == sorted(error)
    assert error[1] < mean("supervised", 0.0, "error") < error[-1]
    assert mean("gan", 0.0, "auroc_p_generated") > 0.95
    for share in SHARES[1:]:
        assert mean("gan", share, "auroc_p_generated") < mean("gan", share, "auroc_unsure") < 0.8
