"""Plots of training curves: their lines and axes, and when they are drawn."""

import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from small_configs import tiny

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.figures import curves
from ssgan.training import callbacks
from ssgan.training.experiment import run_experiment


def line(step: int, **values: Any) -> dict[str, Any]:
    empty = {"errors": None, "errors_raw": None}
    return {"step": step, "images": 10 * step, "images_per_second": 5.0, **empty, **values}


@pytest.fixture
def draw_axes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Plot lines of a log, check the PNG, and return the axes."""
    make = curves.as_png

    def draw(*log: dict[str, Any]) -> list[Any]:
        figures: list[Any] = []
        monkeypatch.setattr(curves, "as_png", lambda figure, **how: figures.append(figure) or make(figure, **how))
        png = curves.curves_png(log, "about")
        assert png is not None
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.format == "PNG"
            assert 250 < min(picture.size) <= max(picture.size) < 1000
        (figure,) = figures
        return list(figure.axes)

    return draw


def legend_lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    """The x and y values of the lines in the legend."""
    named = [one for one in axes.lines if not one.get_label().startswith("_")]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [one.get_label() for one in named]
    return {one.get_label(): (list(one.get_xdata()), list(one.get_ydata())) for one in named}


def seed_lines(axes: Any) -> list[list[float]]:
    return [list(one.get_ydata()) for one in axes.lines if one.get_label().startswith("_")]


def test_seeds_are_thin_lines_and_their_median_is_a_thick_line(draw_axes: Callable[..., list[Any]]) -> None:
    log = [line(1, L=[1.0, 2.0, 9.0], p_real_fake=[0.1, 0.2, 0.3]), line(2, L=[3.0, 4.0, 5.0], p_real_fake=[0.5] * 3)]
    losses, probabilities = draw_axes(*log)
    assert legend_lines(losses) == {"L": ([10, 20], [2.0, 4.0])}
    assert seed_lines(losses) == [[1.0, 3.0], [2.0, 4.0], [9.0, 5.0]]
    assert legend_lines(probabilities) == {"p(real), generated": ([10, 20], [0.2, 0.5])}
    assert (losses.get_ylabel(), probabilities.get_ylabel()) == ("losses of D", "probability")
    assert (probabilities.get_xlabel(), probabilities.get_xlim()) == ("images seen", (0, 20))
    assert all(
        one.get_linewidth() < 1 < named.get_linewidth() for one in losses.lines[:3] for named in losses.lines[3:]
    )


def test_one_seed_is_one_line(draw_axes: Callable[..., list[Any]]) -> None:
    (losses,) = draw_axes(line(1, L=[1.0]), line(2, L=[2.0]))
    assert (legend_lines(losses), seed_lines(losses)) == ({"L": ([10, 20], [1.0, 2.0])}, [])


def test_each_quantity_has_its_panel_and_unknown_losses_are_drawn_with_d(draw_axes: Callable[..., list[Any]]) -> None:
    names = ("L", "vat", "new_term", "feature_matching", "pull_away", "p_real_unlabeled", "p_real_fake", "sure")
    names += ("accuracy_real", "accuracy_fake")
    found = draw_axes(line(1, **{name: [0.5, 0.6] for name in names}, errors=[50.0, 60.0], errors_raw=[40.0, 30.0]))
    assert {axes.get_ylabel(): list(legend_lines(axes)) for axes in found} == {
        "losses of D": ["L", "VAT", "new term"],
        "losses of G": ["matching", "pull-away"],
        "probability": [
            *("p(real), real", "p(real), generated", "sure of a class"),
            *("D right, real", "D right, generated"),
        ],
        "test error, %": ["averaged model", "last step's"],
    }
    assert [axes.get_ylim() for axes in found if axes.get_ylabel() == "probability"] == [(0.0, 1.0)]


def test_errors_are_drawn_only_at_steps_with_an_evaluation(draw_axes: Callable[..., list[Any]]) -> None:
    """There are no points between evaluations; a seed without an error is left out of the median."""
    log = [line(1, L=[1.0, 1.0]), line(2, L=[1.0, 1.0], errors=[8.0, 6.0]), line(3, L=[1.0, 1.0])]
    _, errors = draw_axes(*log, line(4, L=[1.0, 1.0], errors=[4.0, None]), line(5, L=[1.0, 1.0], errors=[None, None]))
    (x, y) = legend_lines(errors)["averaged model"]
    assert (x, y[:2]) == ([20, 40, 50], [7.0, 4.0])
    assert math.isnan(y[2])


def test_a_diverging_seed_does_not_set_the_axis_limits(draw_axes: Callable[..., list[Any]]) -> None:
    """Neither does a seed whose values are missing."""
    log = [line(k, L=[1.0, 1.5, 10.0**k], V=[0.5, 0.5, None]) for k in range(1, 30)]
    (losses,) = draw_axes(*log)
    low, high = losses.get_ylim()
    assert low == 0
    assert 2 < high < 4
    assert losses.get_yscale() == "linear"


def test_axis_is_logarithmic_if_the_medians_span_a_large_range(draw_axes: Callable[..., list[Any]]) -> None:
    """Also with zeros and negative values of seeds; with a negative median it is linear and shows all values."""
    (losses,) = draw_axes(*(line(k, L=[10.0**-k], V=[0.0]) for k in range(3)))
    assert losses.get_yscale() == "log"
    assert losses.get_ylim()[0] < 0.01 < 1 < losses.get_ylim()[1]
    (losses,) = draw_axes(*(line(k, minimax=[-(10.0**-k)]) for k in range(3)))
    assert losses.get_yscale() == "linear"
    assert losses.get_ylim()[0] < -1 < 0 <= losses.get_ylim()[1]


def test_no_plot_without_logged_values(tmp_path: Path) -> None:
    assert curves.curves_png([], "about") is None
    assert curves.curves_png([line(1)], "about") is None
    assert not curves.write_curves(tmp_path, "about")
    (tmp_path / "log.jsonl").write_text('{"step": 1, "images": 10, "L": [1.0\n\nnull\n{"step": "x"}\n')
    assert not curves.write_curves(tmp_path, "about")
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_any_name_of_data_can_be_drawn(draw_axes: Callable[..., list[Any]]) -> None:
    assert curves.curves_png([line(1, L=[1.0, 2.0])], "$x_1$ {\\frac 猫 \x1b " + "long " * 40)
    assert curves.curves_png([line(1, L=[None, None])], "about")


def test_the_same_log_gives_the_same_bytes() -> None:
    log = [line(k, L=[1.0 / k, 2.0]) for k in range(1, 9)]
    assert curves.curves_png(log, "about") == curves.curves_png(log, "about")


def test_training_writes_curves_once_a_minute_and_at_the_end(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Curves are drawn from the log so far, at checkpoints at least a minute apart, and at the end."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: clock.now))
    steps, write = [], curves.write_curves

    def writing(run: Path, about: str) -> bool:
        steps.append(runs.read_log(run)[-1]["step"])
        assert about == "digits, 20 labels, gan"
        return write(run, about)

    monkeypatch.setattr(curves, "write_curves", writing)
    config = tiny(report_every_images=20, checkpoint_every_seconds=0.0)

    def wait(_: Any) -> None:
        clock.now += 25.0

    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    run_experiment(few_digits, config, folder, wait)
    assert steps == [3, 6, 9, 12, 15, 18, 20]
    expected = curves.curves_png(runs.read_log(folder), "digits, 20 labels, gan")
    assert (folder / "curves.png").read_bytes() == expected


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = "import sys, ssgan.figures.curves, ssgan.training.experiment; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_read_log_skips_damaged_lines(tmp_path: Path) -> None:
    whole = [line(1, L=[1.0]), line(2, L=[2.0])]
    text = "".join(json.dumps(one) + "\n" for one in whole)
    (tmp_path / "log.jsonl").write_text(text + '{"step": 3, "ima\n' + '{"step": 4}\n[]\n')
    assert runs.read_log(tmp_path) == whole
    assert runs.read_log(tmp_path / "nowhere") == []
