"""The data sets that stand for a user's own pictures, and the rows of trainings on them."""

from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib
import numpy as np
import pytest
from running import ROOT, rows, script

from ssgan.settings.presets import resolve

ROWS = rows(ROOT / "results" / "rows" / "own-pictures.jsonl")


@pytest.fixture(scope="module")
def own_pictures() -> ModuleType:
    return script("experiments/own_pictures")


def test_cells_and_letters_are_drawn_from_a_seed(own_pictures: ModuleType) -> None:
    for kind in own_pictures.CELLS:
        first, same = (own_pictures.draw_cell(kind, np.random.RandomState(3)) for _ in range(2))
        assert (first.shape, first.dtype) == ((32, 32), np.uint8)
        assert np.array_equal(first, same)
    fonts = own_pictures.usable_fonts(Path(matplotlib.get_data_path()) / "fonts" / "ttf")
    assert len(fonts) > 3
    letter, same = (own_pictures.draw_letter("A", fonts[0], np.random.RandomState(3)) for _ in range(2))
    assert np.array_equal(letter, same)
    assert letter[:2].mean() > letter.min() + 60  # ink on lighter paper


def test_unusable_fonts_are_skipped(own_pictures: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "no.ttf").write_bytes(b"no font")
    assert own_pictures.usable_fonts(tmp_path) == []


def test_trainings_are_unique_and_ordered_by_draw(own_pictures: ModuleType) -> None:
    found = [*own_pictures.trainings(3, 1)]
    assert len(set(found)) == len(found) == 3 * len(own_pictures.TRAININGS) + len(own_pictures.MORE_TRAININGS)
    assert [seed for _, seed in found] == sorted(seed for _, seed in found)


def test_rows_match_the_script_and_the_current_presets(own_pictures: ModuleType) -> None:
    """Every row is one of its trainings, and methods that are compared took equal CPU time."""
    for row in ROWS:
        views = row["settings"].get("augmentation", "digits")
        generator = row["settings"].get("weight_fake") != 0.0
        assert (row["pictures"], views, generator) in own_pictures.TRAININGS + own_pictures.MORE_TRAININGS
        images = (
            own_pictures.IMAGES_WITH
            if generator
            else own_pictures.IMAGES_WITHOUT[row["pictures"] in ("letters", "cells")]
        )
        settings: dict[str, Any] = own_pictures.settings_of(row["pictures"], views, generator, images, row["seed"])
        assert resolve("images", settings).sha256 == row["config_sha256"]
    seconds = {
        name: {
            generator: np.mean(
                [
                    row["cpu_seconds"]
                    for row in ROWS
                    if row["pictures"] == name and (row["settings"].get("weight_fake") != 0.0) == generator
                ]
            )
            for generator in (False, True)
        }
        for name in ("letters", "cells", "trashnet")
    }
    for each in seconds.values():
        assert 0.8 < each[False] / each[True] < 1.25
