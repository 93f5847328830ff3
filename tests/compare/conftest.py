"""A small comparison, and a record of the trainings that a comparison starts."""

from pathlib import Path
from typing import Any

import pytest
from comparisons import grid_of

from ssgan import result_rows
from ssgan.compare import grid as grids
from ssgan.compare import runner
from ssgan.data.dataset import Data
from ssgan.settings.config import Config
from ssgan.training import experiment


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """The method and seeds of each training and each fit, as they happen."""
    found: list[tuple[str, list[int]]] = []
    train, classify = experiment.train, runner.fit_baseline

    def training(data: Data, config: Config, *rest: Any, **options: Any) -> Any:
        found.append((config.method, config.all_seeds))
        return train(data, config, *rest, **options)

    def fit(name: str, *rest: Any, **options: Any) -> Any:
        found.append((name, [rest[-1]]))
        return classify(name, *rest, **options)

    monkeypatch.setattr(experiment, "train", training)
    monkeypatch.setattr(runner, "fit_baseline", fit)
    return found


@pytest.fixture(scope="module")
def shared(few_digits: Data, tmp_path_factory: pytest.TempPathFactory) -> tuple[grids.Grid, Path, list[dict[str, Any]]]:
    """A comparison of one draw, with ablations."""
    path = tmp_path_factory.mktemp("shared") / "rows.jsonl"
    grid = grid_of(few_digits, draw_seed=4, ablate=True)
    with result_rows.open_row_file(path) as held:
        runner.compare(grid, held)
        return grid, path, held.rows
