"""The page of large and of committed reports: small, fast, sorted by error, with full and unique names."""

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rows_of_results import ROOT, row, write

from ssgan.report import build as report
from ssgan.report import pictures
from ssgan.report.charts import MOST_CURVES, Curve, Strip, draw_curves, draw_strips
from ssgan.report.grouping import group_rows
from ssgan.report.loader import load_rows
from ssgan.report.pictures import FileNames
from ssgan.report.render import MOST_BYTES, Details, Part, Table, Text, render_html, render_markdown
from ssgan.report.section import build_section


@pytest.fixture
def rows_file(tmp_path: Path) -> Any:
    return lambda rows: write(tmp_path / "rows.jsonl", rows)


def parts_of(path: Path) -> dict[str, Any]:
    """Blocks of the parts of the only data set by title; blocks of the data set itself are under its name."""
    (section,) = group_rows(load_rows([path]))
    part, _ = build_section(section, section.names and "supervised", None, FileNames(), {str(path): path})
    inner = {block.title: block.blocks for block in part.blocks if isinstance(block, Part | Details)}
    return {**inner, part.title: part.blocks}


def tables_of(blocks: Any) -> list[Table]:
    return [block for block in blocks if isinstance(block, Table)]


def legend_of(svg: str) -> list[str]:
    return re.findall(r"<text [^>]*>(.*?)</text>", svg)


# Best settings and ablations


def test_each_method_is_drawn_and_tabulated_at_its_best_settings(rows_file: Any) -> None:
    errors = {("gan", 0.1): (9.0, 4.0), ("gan", 0.2): (5.0, 6.0), ("vat", 0.1): (8.0, 1.0), ("vat", 0.2): (9.0, 9.0)}
    rows = [
        row(error, method=method, labels=labels, settings={"rate": rate}, config_sha256=f"{method}{rate}{labels}")
        for (method, rate), pair in errors.items()
        for labels, error in zip((20, 50), pair, strict=True)
    ]
    path = rows_file([*rows, row(30.0, method="supervised", labels=20), row(0.5, method="svm", labels=50)])
    parts = parts_of(path)
    (best,) = tables_of(parts["digits"])
    assert best.columns == ["method", "20 labels", "50 labels", "mean", "n", "settings", "settings tried"]
    assert [line[:4] for line in best.rows] == [
        ["vat · rate=0.1", "8.00", "1.00", "4.50"],
        ["gan · rate=0.2", "5.00", "6.00", "5.50"],
        ["supervised", "30.00", None, None],
        ["svm", None, "0.50", None],
    ]
    assert [line[-1] for line in best.rows] == ["2", "2", "1", "1"]
    (further,) = tables_of(parts["Further settings"])
    assert [line[:4] for line in further.rows] == [
        ["gan · rate=0.1", "9.00", "4.00", "6.50"],
        ["vat · rate=0.2", "9.00", "9.00", "9.00"],
    ]
    assert any("lowest test error" in block.text for block in parts["digits"] if isinstance(block, Text))
    page = report.build_report([path]).html
    chart = page.split('<div class="narrow">')[0]
    assert "vat · rate=0.1" in legend_of(chart)
    assert "vat · rate=0.2" not in legend_of(chart)
    assert chart.count("<table") == 0  # the chart comes before the tables


def test_ablations_have_a_chart_of_their_own(rows_file: Any) -> None:
    """The full method has errors 6 and 8; without noise they are 1 and 3 higher, so the interval is 2 ± 12.7."""
    rows = [row(error, seed=seed) for seed, error in enumerate((6.0, 8.0))]
    rows += [row(e, seed=s, settings={"noise": 0}, ablation="without noise") for s, e in enumerate((7.0, 11.0))]
    path = rows_file([*rows, row(20.0, method="supervised")])
    (table,) = tables_of(parts_of(path)["Ablations of gan"])
    assert table.columns[0] == "ablation"
    assert [[str(cell).replace("\N{MINUS SIGN}", "-") for cell in line] for line in table.rows] == [
        ["without noise", "50", "9.00 ± 2.83", "7.00 ± 1.41", "+2.00", "-10.71 to +14.71", "2", "Includes 0."]
    ]
    built = report.build_report([path])
    assert "ablations-digits.png" in built.pictures
    assert "Further settings" not in built.markdown
    assert legend_of(built.html).count("without noise") == 2  # the wide chart and the narrow one


# Names


@pytest.mark.parametrize("name", ["n" * 150, "a name of many words " * 12, "W" * 70 + " · " + "W" * 70])
def test_no_name_is_cut_in_a_chart(rows_file: Any, name: str) -> None:
    (section,) = group_rows(load_rows([rows_file([row(4.0), row(5.0, labels=20)])]))
    groups = section.groups_of(*section.names)
    for chart in (
        draw_curves([Curve(name, groups), Curve("other", groups)], "mark"),
        draw_strips([Strip(name, 1.0, None, [1.0]), Strip("other", 2.0, (1.0, 3.0), [1.0, 3.0])], "error", "mark"),
    ):
        for svg in (chart.drawing.svg, chart.drawing.narrow):
            assert name.replace(" ", "") in "".join(legend_of(svg)).replace(" ", "")


def test_curves_of_a_chart_all_look_different(rows_file: Any) -> None:
    (section,) = group_rows(load_rows([rows_file([row(4.0), row(5.0, labels=20)])]))
    groups = section.groups_of(*section.names)
    svg = draw_curves([Curve(f"method {k}", groups) for k in range(MOST_CURVES)], "mark").drawing.svg
    legend = svg.split('id="mark-w-legend_1"')[1]
    looks = re.findall(r'style="fill: none; (stroke[^"]*)"/>\s*<g>\s*<use href="([^"]*)"', legend)
    assert len(looks) == len(set(looks)) == MOST_CURVES
    colours = [re.findall(r"series-\d", style) for style, _ in looks]
    assert len({(*colour, marker) for colour, (_, marker) in zip(colours, looks, strict=True)}) == MOST_CURVES


@pytest.fixture
def _fast_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace plots that these tests do not check by a small image."""
    content = io.BytesIO()
    Image.new("RGB", (2, 2)).save(content, "png")
    for name in ("confusion_png", "reliability_png"):
        monkeypatch.setattr(pictures, name, lambda *_: content.getvalue())


@pytest.mark.usefixtures("_fast_plots")
@pytest.mark.parametrize("name", ["digits-compare", "mnist-compare", "fashion-mnist-compare"])
def test_page_of_committed_rows_is_small_and_has_unique_names(name: str) -> None:
    (path,) = (ROOT / "results").glob(f"**/{name}.jsonl")
    built = report.build_report([path])
    assert len(built.html.encode()) < MOST_BYTES
    assert "…" not in built.html
    wide = built.html.split('<div class="wide">')[1].split('<div class="narrow">')[0]
    methods = re.findall(r'<th scope="row" class="words">(.*?)</th>', built.html.split("</table>")[0])
    assert len(methods) == len(set(methods)) == 13
    assert set(methods) <= set(legend_of(wide))
    for table in re.findall(r"<tbody>(.*?)</tbody>", built.html.split("<details>")[0], re.DOTALL):
        names = re.findall(r'<th scope="row" class="words">(.*?)</th>', table)
        assert len(names) == len(set(names)) > 0


# Size and time


@pytest.mark.slow
def test_page_of_300_settings_is_small_and_built_within_a_minute(rows_file: Any) -> None:
    """20 methods, and rows with all keys that a row may have; Markdown has every row, the page those that fit."""
    source = (ROOT / "results").glob("**/digits-compare.jsonl")
    full = next(line for line in next(iter(source)).read_text().splitlines() if '"confusion"' in line)
    whole = {**json.loads(full), "samples": None}
    rows = []
    for k in range(300):
        for labels in (20, 50):
            for seed in range(3):
                values = {"labels": labels, "seed": seed, "draw_seed": seed, "method": f"method {k % 20}"}
                values |= {"split_sha256": f"{labels}-{seed}", "config_sha256": f"c{k}-{labels}", "error": 5 + k / 50}
                rows.append({**whole, **values, "settings": {"learning_rate": k / 1000}})
    start = time.process_time()
    built = report.build_report([rows_file(rows)])
    assert time.process_time() - start < 60
    assert len(built.html.encode()) < MOST_BYTES
    assert built.markdown.count("learning\\_rate=0.299") > 5
    further = built.html.split("<h3>Further settings</h3>")[1].split("</section>")[0]
    names = re.findall(r'<th scope="row" class="words">(.*?)</th>', further)
    assert len(names) == len(set(names)) == 280


def test_page_that_is_too_large_reports_omitted_rows() -> None:
    rows = [[f"row {k}", "x" * 100] for k in range(20_000)]
    block = Table("caption", ["a", "b"], rows)
    page = render_html("title", [block])
    assert len(page.encode()) < MOST_BYTES
    assert page.count("<tr>") == 501
    assert "19,500 more rows are in report.md only." in page
    assert render_markdown("title", [block]).count("\n| row") == 20_000
    assert "more rows" not in render_html("title", [Table("caption", ["a", "b"], rows[:700])])
