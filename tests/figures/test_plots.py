"""Plots of an evaluation: valid PNG files that are not blank and show every class, whatever its name."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssgan import files
from ssgan.figures import fonts, plots
from ssgan.inference.metrics import confusion, reliability, softmax

LONG = "a name that goes on and on, further than anybody would like a name to go"


def result(K: int, names: list[str] | None = None) -> dict[str, Any]:
    """An evaluation of 20 images of each class."""
    rng, y = np.random.default_rng(0), np.repeat(np.arange(K), 20)
    logits = rng.normal(size=(len(y), K))
    logits[np.arange(len(y)), y] += 3
    p = softmax(logits)
    return {
        "dataset": "some",
        "predictions_of": "1 model",
        "classes": names or [f"class {k}" for k in range(K)],
        "confusion": confusion(y, p.argmax(axis=1), K).tolist(),
        "reliability": reliability(p, y),
        "ece_mean": 0.05,
    }


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("K", [2, 10, 100])
def test_plots_are_png_files_and_not_blank(K: int, tmp_path: Path) -> None:
    found = plots.save(result(K), tmp_path)
    assert found == {name: str(tmp_path / f"{name}.png") for name in ("confusion", "reliability")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion.png", "reliability.png"]
    for path in found.values():
        sheet = pixels(Path(path).read_bytes())
        assert 400 < min(sheet.shape[:2]) <= max(sheet.shape[:2]) < 4000
        assert len(np.unique(sheet.astype(np.int32) @ [65536, 256, 1])) > 50


def test_confusion_matrix_shades_show_the_share_of_each_row() -> None:
    """Two classes: a cell is darker with a larger share of its row, and darkest with the whole row."""
    sheet = pixels(plots.confusion_png([[50, 50], [0, 10]], ["a", "b"], "t")).astype(int).sum(axis=2)
    values, counts = np.unique(sheet, return_counts=True)
    whole, half, none, paper = counts[counts > 0.04 * sheet.size]  # from dark to light; numbers and frame are small
    assert half == pytest.approx(2 * whole, rel=0.05)
    assert none == pytest.approx(whole, rel=0.1)
    assert paper > none
    assert values[-1] == 3 * 255


@pytest.mark.parametrize(
    "names",
    [
        ["$x_1$", "$\\frac{$", "100 % of $5 to $7"],
        ["über", "Ελληνικά", "кошка"],
        ["猫", "🐈", "a\x1b[31m\nb"],
        [LONG, "b", LONG + "!"],
    ],
    ids=["mathematics", "letters", "no font", "long"],
)
def test_every_name_can_be_drawn(names: list[str], tmp_path: Path) -> None:
    """Without a warning, which would reach the user's terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.save({**result(3, names), "dataset": names[0]}, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_class_name_without_a_font_becomes_its_number() -> None:
    families, missing = fonts.fonts_for(["cat", "x\U0010fffd"])
    assert families[0] == "DejaVu Sans"
    assert missing == {0x10FFFD}
    ours = plots.confusion_png([[1, 0], [0, 1]], ["cat", "x\U0010fffd"], "t")
    assert np.array_equal(pixels(ours), pixels(plots.confusion_png([[1, 0], [0, 1]], ["cat", "#1"], "t")))


def test_reliability_plot_with_empty_bins() -> None:
    p = np.array([[0.75, 0.25], [0.75, 0.25]])
    assert pixels(plots.reliability_png(reliability(p, np.array([0, 1])), "t")).size


def test_failed_write_keeps_the_existing_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plots.save(result(2), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        plots.save(result(3), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_title_has_the_calibration_error_of_the_drawn_bins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a temperature the bins are those of the scaled probabilities."""
    titles: list[str] = []
    monkeypatch.setattr(plots, "reliability_png", lambda bins, title: titles.append(title) or b"")
    for temperature in (None, 2.0):
        plots.save({**result(2), "temperature": temperature, "ece_scaled_mean": 0.25}, tmp_path)
    assert [title.split()[-1] for title in titles] == ["0.050", "0.250"]


def test_file_names_of_plots_include_the_suffix(tmp_path: Path) -> None:
    plots.save(result(2), tmp_path, "-other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion-other.png", "reliability-other.png"]
