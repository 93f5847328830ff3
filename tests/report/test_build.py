"""The report: content, reproducible bytes, escaped names, the command, and the page in a browser."""

import base64
import html
import html.parser
import io
import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rows_of_results import ROOT, failed, pair, row, write
from running import contents, last_object, status_of

from ssgan.inference.metrics import confusion, reliability, softmax
from ssgan.report import build as report
from ssgan.report.pictures import reliability_svg
from ssgan.report.published import PUBLISHED, SOURCES

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

EVIL = '<script>alert("x")</script>|`*_[a](b)&'


def complete_rows() -> list[dict[str, Any]]:
    """Rows with four numbers of labels; those with the lowest have all keys that a row may have."""
    rng, rows = np.random.default_rng(0), []
    for method, error in (("gan", 5.0), ("supervised", 12.0)):
        for labels in (20, 50, 100, 200):
            for seed in range(3):
                y = rng.integers(0, 3, 60)
                p = softmax(rng.normal(size=(60, 3)) + 2 * np.eye(3)[y])
                more = {"confusion": confusion(y, p.argmax(axis=1), 3).tolist(), "classes": ["cat", "dog", "cow"]}
                more |= {"reliability": reliability(p, y), "temperature": 1.5, "nll_scaled": 0.4, "ece_scaled": 0.02}
                more = more if labels == 20 else {}
                rows.append(row(error * 20 / labels + rng.random(), method=method, labels=labels, seed=seed, **more))
    return rows


class Reader(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "use"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "use":
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def build(*rows: dict[str, Any] | str, baseline: str | None = None) -> report.Report:
    return report.build_report([write(Path("rows.jsonl"), rows)], baseline)


def ascii_of(text: str) -> str:
    """Replace the minus sign and the dash of an empty cell by a hyphen."""
    return text.replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")


def cells_of(markdown: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in ascii_of(markdown).splitlines() if line.startswith("| ")]


# Content


def test_report_shows_errors_differences_and_seeds() -> None:
    found = build(*pair(), row(None, seed=3, diverged=1200), failed(seed=4, draw_seed=4))
    rows = cells_of(found.markdown)
    assert ["gan", "50", "6.00", "1.00", "6.00", "3", "1 failed, 1 diverged"] in rows
    assert ["supervised", "50", "11.00", "1.00", "11.00", "3", "-"] in rows
    assert ["gan", "50", "-5.00", "-7.48 to -2.52", "3", "Does not include 0."] in rows
    for seed, error in enumerate(("6.00", "5.00", "7.00")):
        assert ["gan", "50", str(seed), str(seed), error, error, "0.050", "0.500", "-"] in rows
    assert ["gan", "50", "3", "3", "diverged at step 1,200"] in rows
    assert ["gan", "50", "4", "4", "failed: There was no room."] in rows
    assert ["gan", "50", "600,000", "3", "600", "1,000", "a CPU, 1 threads (cpu)"] in rows
    assert (
        "8 trainings on 1 data set, from 1 file of rows. 1 failed and 1 diverged; no mean includes "
        "them.\n" in found.markdown
    )
    assert (
        "* digits, 50 labels: gan has 6.00 % test error and supervised 11.00 %; on the same labels they differ by "
        "-5.00 points (95 % interval -7.48 to -2.52, 3 pairs), which does not include 0.\n"
    ) in ascii_of(found.markdown)


def test_report_marks_intervals_that_include_zero() -> None:
    rows = [row(e, method=m, seed=s) for m, each in (("a", (1, 3)), ("b", (2, 2))) for s, e in enumerate(each)]
    assert ["b", "50", "+0.00", "-12.71 to +12.71", "2", "Includes 0."] in cells_of(build(*rows).markdown)


def test_report_compares_with_the_given_baseline() -> None:
    found = build(*pair(), row(dataset="other", method="x"), baseline="gan")
    assert ["supervised", "50", "+5.00", "+2.52 to +7.48", "3", "Does not include 0."] in cells_of(found.markdown)
    assert "There is no result of gan on this data set to compare with." in found.markdown


def test_sentence_compares_methods_rather_than_settings_of_the_baseline() -> None:
    draws = [{"seed": k, "draw_seed": k, "split_sha256": str(k)} for k in range(6)]
    many = [
        row(10.0 + draw["seed"] * size / 10, method="supervised", settings={"batch_size": size}, **draw)
        for size in (10, 20)
        for draw in draws
    ]
    markdown = build(*many, *(row(4.0 + 2 * draw["seed"], method="gan", **draw) for draw in draws[:3])).markdown
    (sentence,) = [line for line in markdown.splitlines() if line.startswith("* digits, 50 labels:")]
    assert "gan has 6.00 % test error" in sentence


@pytest.mark.parametrize("backbone", [["x"], {"a": 1}, 3])
def test_backbone_that_is_no_name_is_not_shown(backbone: object) -> None:
    assert "features of a frozen" not in build(row(backbone=backbone)).markdown


def test_sentence_without_pairs_names_the_baseline() -> None:
    """Other methods may share labelled images with each other."""
    rows = [
        row(10.0 + k * slope, method=method, seed=k, draw_seed=k, split_sha256=str(k))
        for method, slope in (("b", 1), ("c", 3))
        for k in (1, 2)
    ]
    alone = row(30.0, method="a", seed=0, draw_seed=0, split_sha256="0")
    assert "none shares enough labelled images with a for an interval." in build(alone, *rows).markdown
    assert "on the same labels they differ by" in build(alone, *rows, baseline="b").markdown


def test_calibration_is_averaged_over_the_rows_that_have_it() -> None:
    found = build(row(ece=0.1, nll=0.4), row(seed=1, ece=0.3, nll=None))
    assert ["gan", "50", "0.200", "0.400", "1/2"] in cells_of(found.markdown)


def test_a_temperature_of_an_earlier_version_is_not_shown() -> None:
    """It was fitted to the labels that the model had learned from."""
    found = build(row(ece=0.1, ece_scaled=0.77, nll_scaled=35.1, temperature=0.05))
    assert not any(number in found.markdown for number in ("0.770", "35.100", "0.050"))
    assert "Without a temperature, also where folds fitted one." in found.markdown


def test_report_shows_the_warnings_of_rows() -> None:
    text = "svm: no label reaches 2 of 9 test images."
    found = build(row(warnings=[text]), row(seed=1, warnings=[text, 7]), row(seed=2, warnings="no list"))
    assert f"{text} (2 rows)" in found.markdown
    many = build(*(row(seed=seed, warnings=[f"warning {seed:02d}"]) for seed in range(13)))
    assert "warning 09" in many.markdown
    assert "warning 10" not in many.markdown
    assert "The rows contain 3 more warnings." in many.markdown


def test_published_results_are_shown_and_marked() -> None:
    ours = [row(e, dataset="mnist", labels=100, seed=s) for s, e in enumerate((1.0, 2.0, 3.0))]
    found = build(*ours)
    rows = cells_of(found.markdown)
    assert ["gan", "-", "-", "2.00 ± 1.00 (n = 3)", "-", "measured here: digits, 600,000 images"] in rows
    theirs = ["16.77 ± 4.52", "2.21 ± 1.36", "0.93 ± 0.065", "0.90 ± 0.042"]
    assert ["Improved GAN", *theirs, "published: Salimans et al. 2016"] in rows
    assert ["gan", "100", "2.00", "1.00", "2.00", "3"] in rows
    assert "published" not in build(row(dataset="mnist", labels=30)).markdown
    assert "published" not in build(row()).markdown


def test_published_results_match_their_sources() -> None:
    assert {one.source for lines in PUBLISHED.values() for one in lines} == set(SOURCES)
    errors = {(name, one.method): one.errors for name, lines in PUBLISHED.items() for one in lines}
    assert errors["cifar10", "Improved GAN"][4000] == "18.63 ± 2.32"
    assert errors["cifar10", "FixMatch (WRN-28-2)"] == {250: "5.07", 4000: "4.26 ± 0.05"}
    assert errors["svhn", "Bad GAN"] == {1000: "4.25"}
    assert 200 not in errors["mnist", "Triple-GAN (convolutional)"]  # its source is uncertain


def test_report_lists_skipped_lines() -> None:
    found = build(row(), row(), "x", "y", '{"a": 1}')
    part = found.markdown.split("## What was left out")[1].split("##")[0]
    assert part.strip().splitlines() == [
        "* rows.jsonl:2 repeats rows.jsonl:1.",
        "* rows.jsonl:3-4 is not JSON: it is truncated or damaged at character 1.",
        "* rows.jsonl:5 lacks dataset, labels, method, seed and 20 more: it is not a result row, or is of another "
        "version.",
    ]
    assert "4 lines were left out" in found.lead


def test_report_names_different_data_of_one_name_and_unknown_keys() -> None:
    found = build(row(), row(dataset_sha256="e" * 64, seed=1), row(seed=2, word="w"))
    assert "2 different data sets have this name." in found.markdown
    measured = build(row(auroc=0.5), row(seed=1, auroc=0.7))
    assert "do not tell settings apart: auroc." in measured.markdown


def test_report_has_the_plots_and_samples_of_its_rows(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save("samples.png")
    found = build(*complete_rows()[:1], row(seed=9, samples="samples.png"))
    names = ["confusion-digits-20-labels-gan.png", "errors-digits.png", "reliability-digits-20-labels-gan.png"]
    assert sorted(found.pictures) == [*names, "samples-digits-50-labels-gan.png"]
    assert found.pictures["samples-digits-50-labels-gan.png"] == Path("samples.png").read_bytes()
    (embedded,) = embedded_images(found.html)  # the page draws the others itself
    assert embedded == found.pictures["samples-digits-50-labels-gan.png"]


def embedded_images(page: str) -> list[bytes]:
    sources = [a["src"] or "" for tag, a in Reader(page).tags if tag == "img"]
    return [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources]


def test_large_samples_are_smaller_on_the_page() -> None:
    """The file beside the page is unchanged."""
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save("samples.png")
    found = build(row(seed=9, samples="samples.png"))
    whole = found.pictures["samples-digits-50-labels-gan.png"]
    assert whole == Path("samples.png").read_bytes()
    (embedded,) = embedded_images(found.html)
    assert len(embedded) < 0.15 * len(whole)
    with Image.open(io.BytesIO(embedded)) as image:
        assert image.size == (640, 480)


@pytest.mark.parametrize("K", [3, 25, 26])
def test_confusion_matrix_is_a_shaded_table_up_to_25_classes(K: int) -> None:
    """More classes are drawn as an image. A row of the table holds the counts of its class, shaded by share."""
    counts = np.arange(K * K).reshape(K, K) % 7 * (np.arange(K * K).reshape(K, K) % 3 > 0)
    counts[0, 0], counts[1] = 1000, 0
    names = [f"class {k}" for k in range(K)]
    found = build(row(confusion=counts.tolist(), classes=names))
    tables = re.findall(r'<table class="matrix[^>]*>.*?</table>', found.html, re.DOTALL)
    assert len(tables) == (K <= 25)
    assert len(embedded_images(found.html)) == (K > 25)
    if not tables:
        return
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', tables[0])
    assert [name for name, _ in rows] == names == re.findall(r"<span>(.*?)</span>", tables[0])
    for (_, cells), expected in zip(rows, counts, strict=True):
        shown = re.findall(r"<td(?: class=\"s(\d)\")?>([\d,]*)", cells)
        assert [int(count.replace(",", "") or 0) for _, count in shown] == expected.tolist()
        shades = [int(shade or 0) for shade, _ in shown]
        assert all((shade > 0) == (count > 0) for shade, count in zip(shades, expected, strict=True))
        order = np.argsort(expected, kind="stable")
        assert np.all(np.diff(np.array(shades)[order]) >= 0)
        assert max(shades) <= 9


def test_reliability_is_drawn_to_scale() -> None:
    """Two bins: the bar ends at the accuracy, the gap at the confidence, and each has its position and width."""
    empty = {"count": 0, "confidence": None, "accuracy": None}
    bins = [
        {"low": 0.0, "high": 0.25, **empty},
        {"low": 0.25, "high": 0.5, "count": 1, "confidence": 0.5, "accuracy": 0.25},
        {"low": 0.5, "high": 1.0, "count": 100, "confidence": 0.75, "accuracy": 1.0},
    ]
    drawn = re.findall(r'<rect class="(\w+)" x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)"/>', reliability_svg(bins))
    rects = {(kind, k // 3): [float(n) for n in numbers] for k, (kind, *numbers) in enumerate(drawn)}
    assert len(rects) == len(drawn) == 6
    (x, foot, width, low), (x_of_sure, top, wide, high) = rects["accuracy", 0], rects["accuracy", 1]
    assert x_of_sure == pytest.approx(x + width, abs=0.1)
    assert (wide, high) == (pytest.approx(2 * width, abs=0.2), pytest.approx(4 * low, abs=0.2))
    zero = foot + low
    assert zero == pytest.approx(top + high, abs=0.1)
    assert rects["gap", 0][1::2] == [pytest.approx(zero - 0.5 * high, abs=0.1), pytest.approx(0.25 * high, abs=0.1)]
    assert rects["gap", 1][1::2] == [pytest.approx(top, abs=0.1), pytest.approx(0.25 * high, abs=0.1)]
    assert 0 < rects["images", 0][3] < rects["images", 1][3] / 5


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.png", "are not there"),
        ("../outside.png", "lie outside the folder of the file"),
        ("/etc/hostname", "lie outside the folder of the file"),
        ("rows.jsonl", "cannot be read as a PNG"),
        ("a\x00b.png", "cannot be read as a PNG"),
        ("wide.png", "are more than 4096 pixels wide or high"),
    ],
)
def test_reports_samples_that_cannot_be_shown(name: str, reason: str) -> None:
    Image.new("L", (5000, 1)).save("wide.png")
    found = build(row(4.0, samples=name))
    (skipped,) = found.skipped
    assert skipped.reason == f"is shown without its samples: {name} {reason}"
    assert ["gan", "50", "4.00", "4.00", "1"] in cells_of(found.markdown)
    assert report.report_numbers(found)["rows_skipped"] == 0


# Reproducible bytes


def test_the_same_rows_give_the_same_bytes_in_any_order() -> None:
    rows = [*complete_rows(), failed(seed=9, draw_seed=9), row(None, seed=8, diverged=4)]
    first = build(*rows)
    again = build(*rows)
    random.Random(0).shuffle(rows)
    shuffled = build(*rows)
    for other in (again, shuffled):
        assert other.html == first.html
        assert other.markdown == first.markdown
        assert other.pictures == first.pictures
    for png in first.pictures.values():
        assert b"matplotlib" not in png.lower()
        assert not set(re.findall(rb"tEXt|iTXt|tIME", png))


def test_another_error_gives_other_bytes() -> None:
    assert build(row(5.0)).html != build(row(5.01)).html


# Escaped names, and no external resources


def test_names_are_escaped_in_html_and_markdown() -> None:
    found = build(
        row(method=EVIL, dataset=EVIL, settings={EVIL: EVIL}, device_name=EVIL, commit=EVIL, classes=[EVIL, "b"])
        | {"confusion": [[1, 2], [3, 4]], "versions": {EVIL: EVIL}},
        failed(method=EVIL, dataset=EVIL, failed=EVIL, seed=5),
        row(dataset=EVIL, method="_hidden $x^2$\n# title\u202e", seed=1),
        row(dataset=EVIL, method=EVIL, labels=20),
    )
    page = Reader(found.html)
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert EVIL in "".join(page.texts)
    assert "<script" not in found.markdown
    assert "\u202e" not in found.html + found.markdown
    assert "\n# title" not in found.markdown
    lines = found.markdown.splitlines()
    for k, line in enumerate(lines):
        if re.fullmatch(r"\|(-+:?\|)+", line):
            width = line.count("|")
            table = [lines[k - 1]]
            for below in lines[k + 1 :]:
                if not below.startswith("|"):
                    break
                table.append(below)
            assert {len(re.findall(r"(?<!\\)\|", one)) for one in table} == {width}


def test_page_loads_no_external_resources() -> None:
    found = build(*complete_rows())
    page = Reader(found.html)
    assert page.open == []
    loaded = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}
    for tag, attrs in page.tags:
        for name, value in attrs.items():
            if name in loaded:
                assert (value or "").startswith(("#", "data:image/png;base64,")), (tag, name, value)
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
    text = re.sub(r"base64,[^\"]*", "", found.html)
    assert re.findall(r"https?:|@import|url\((?!#)", text, flags=re.IGNORECASE) == []


def test_page_uses_semantic_accessible_html() -> None:
    found = build(*complete_rows(), *(row(dataset=name) for name in ("a", "b")))
    page = Reader(found.html)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == tags.count("main") == 1
    assert ("html", {"lang": "en"}) in page.tags
    viewport = {"name": "viewport", "content": "width=device-width, initial-scale=1"}
    assert ("meta", viewport) in page.tags
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert all(attrs.get("aria-label") for _, attrs in page.tags if attrs.get("role") == "img")
    assert tags.count("svg") == 8  # a wide and a narrow chart for each data set, and two diagrams
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {(a.get("href") or a.get("xlink:href") or "#")[1:] for tag, a in page.tags if tag in ("a", "use")}
    assert targets <= set(ids)
    assert "details" in tags


# The command


def test_report_command_writes_files_and_prints_their_paths(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("rows.jsonl"), [*pair(), "x"])
    assert status_of("report", "rows.jsonl", "--out", "deep/out") == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == "Report: deep/out/report.html (and deep/out/report.md)"
    assert captured.err.splitlines() == [
        "left out: rows.jsonl:7 is not JSON: it is truncated or damaged at character 1"
    ]  # fmt: skip
    assert sorted(contents(Path("deep/out"))) == ["errors-digits.png", "report.html", "report.md"]
    assert status_of("report", "rows.jsonl", "--out", "deep/out", "--json") == 0
    assert last_object(capsys.readouterr().out) == {
        "html": "deep/out/report.html",
        "markdown": "deep/out/report.md",
        "pictures": ["deep/out/errors-digits.png"],
        "rows_used": 6,
        "rows_without_result": 0,
        "rows_skipped": 1,
        "skipped": [
            {"file": "rows.jsonl", "line": 7, "reason": "is not JSON: it is truncated or damaged at character 1"}
        ],
        "datasets": ["digits"],
    }


def test_report_command_shortens_a_long_list_of_bad_lines(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("rows.jsonl"), [row(), *("x" * (k % 2) + "y" for k in range(30)), *(row(seed=-k) for k in range(1, 30))])
    assert status_of("report", "rows.jsonl", "--out", "out") == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 21
    assert lines[-1].startswith("and ")


def test_real_rows_make_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["digits", "mnist-fast", "mnist-short", "cifar10-short", "fashion-mnist-files", "foreign"]
    files = [ROOT / "results" / "rows" / f"{name}.jsonl" for name in names]
    count = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    assert status_of("report", *files, "--out", "out", "--json") == 0
    found = last_object(capsys.readouterr().out)
    assert (found["rows_used"], found["rows_skipped"], len(found["datasets"])) == (count, 0, 6)
    rows = cells_of(Path("out/report.md").read_text(encoding="utf-8"))
    assert ["gan", "50", "-10.26", "-11.52 to -9.00", "10", "Does not include 0."] in rows


def test_report_command_refuses_invalid_arguments_with_one_sentence(
    mistake: Callable[..., str], tmp_path: Path
) -> None:
    good = write(tmp_path / "rows.jsonl", pair())
    bad = write(tmp_path / "bad.jsonl", ["x"])
    twice = write(tmp_path / "twice.jsonl", [row(1.0), row(2.0)])
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "rows").mkdir()
    write(tmp_path / "rows" / "some.jsonl", pair())
    reason = "is not JSON: it is truncated or damaged at character 1"
    for arguments, sentence in [
        (["none.jsonl", "--out", "out"], "There is no file none.jsonl."),
        (
            ["folder", "--out", "out"],
            "folder is a folder, but not a run: give files of rows, which `ssgan compare` writes, or folders of runs, "
            "which `ssgan train` writes.",
        ),
        (
            ["rows", "--out", "out"],
            "rows is a folder, but not a run: give the files of rows in it, such as rows/*.jsonl.",
        ),
        ([good, "--out", "file"], "--out is file, but file is a file: choose another folder."),
        ([good, "--out", "file/deep"], "--out is file/deep, but file is a file: choose another folder."),
        (["bad.jsonl", "--out", "out"], f"There is no result row in bad.jsonl: bad.jsonl:1 {reason}."),
        (
            [good, "--baseline", "supervise", "--out", "out"],
            "--baseline is supervise, but the rows are of gan, supervised. Did you mean 'supervised'?",
        ),
        (
            ["twice.jsonl", "--out", "out"],
            "twice.jsonl:1 and twice.jsonl:2 are rows of the same training (digits, 50 labels, gan, seed 0), but "
            "differ in error, error_raw: keep one of them.",
        ),
    ]:
        assert mistake("report", *arguments) == sentence
    assert mistake("report", good).startswith("Missing option '--out'")
    assert mistake("report", "--out", "out").startswith("Missing argument 'FILES.jsonl...'")
    assert bad.exists()
    assert twice.exists()


def test_reports_an_output_folder_that_cannot_be_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    write(tmp_path / "rows.jsonl", pair())
    assert status_of("report", "rows.jsonl", "--out", "out") == 2
    assert "--out is out, which cannot be written to (Is a directory)." in capsys.readouterr().err


# In a browser


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., str]:
    """Run headless Chromium on a file and return its output."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium on PATH")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

    def run(page: Path, width: int, *more: str) -> str:
        profile = f"--user-data-dir={tmp_path / f'profile-{len(list(tmp_path.iterdir()))}'}"
        command = [chromium, *flags, profile, f"--window-size={width},2000", *more, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    return run


MEASURE = """<script>
for (const one of document.querySelectorAll("details")) one.open = true;
const wide = [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll") && !e.closest("svg") &&
    e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.tagName);
const scrolls = [...document.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth).length;
parent.document.title = JSON.stringify({inner: innerWidth, page: document.documentElement.scrollWidth, wide, scrolls,
    requests: performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length,
    charts: [...document.querySelectorAll(".chart")].map(e => e.getBoundingClientRect().height),
    cut: [...document.querySelectorAll(".chart svg")].filter(e => e.getClientRects().length).flatMap(svg =>
        [...svg.querySelectorAll("text")].filter(e => e.getBoundingClientRect().right >
        svg.getBoundingClientRect().right + 1).map(e => e.textContent)),
    letters: Math.min(...[...document.querySelectorAll("body *")].filter(e => !/^(script|style)$/i.test(e.tagName) &&
        e.getClientRects().length &&
        [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim())).map(e =>
        parseFloat(getComputedStyle(e).fontSize) * scale(e)))});
function scale(e) { return e.ownerSVGElement ? Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b) : 1; }
</script></body>"""


def test_page_fits_a_phone_without_horizontal_scrolling(browse: Callable[..., str], tmp_path: Path) -> None:
    """With all details open and a name without spaces: wide tables scroll on their own, the page does not."""
    long = row(dataset="d" * 80, method="m" * 120, settings={"k" * 60: "v" * 90}, commit="c" * 200)
    page = tmp_path / "measured.html"
    inner = build(*complete_rows(), long, "x" * 300).html.replace("</body>", MEASURE)
    frame = f'<iframe style="width: 390px; height: 800px; border: 0" srcdoc="{html.escape(inner)}"></iframe>'
    page.write_text(f"<!DOCTYPE html><title></title><body>{frame}</body>", encoding="utf-8")
    found = json.loads(re.search(r"<title>(.*?)</title>", browse(page, 800, "--dump-dom"))[1])  # type: ignore[index]
    assert found["inner"] == 390
    assert found["page"] == 390
    assert found["wide"] == []
    assert found["scrolls"] > 2
    assert found["requests"] == 0
    assert min(found["charts"]) > 50
    assert found["cut"] == []
    assert found["letters"] >= 14


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_has_light_and_dark_colours(browse: Callable[..., str], tmp_path: Path, dark: bool) -> None:
    page, shot = tmp_path / "page.html", tmp_path / "shot.png"
    page.write_text(build(*complete_rows()).html, encoding="utf-8")
    browse(page, 1280, f"--screenshot={shot}", f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    seen = dict(zip(map(tuple, colours.tolist()), counts.tolist(), strict=True))
    paper, ink, *series = (
        [(21, 24, 28), (230, 232, 234), (98, 181, 236), (255, 154, 87)]
        if dark
        else [(253, 253, 251), (29, 33, 38), (10, 106, 168), (196, 78, 0)]
    )
    assert seen[paper] > 0.7 * len(pixels)
    assert seen[ink] > 200
    assert all(seen[one] > 200 for one in series)  # the chart's two lines


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits-compare", "mnist-compare", "fashion-mnist-compare"])
def test_the_committed_rows_make_a_small_report(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Every row is used; samples that the rows name are not committed, and the report names them."""
    monkeypatch.chdir(ROOT / "results" / "rows")
    built = report.build_report([Path(f"{name}.jsonl")], None)
    assert len(built.html.encode()) < 1_000_000
    rows = [json.loads(line) for line in Path(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    assert f"{len(rows):,} trainings on 1 data set, from 1 file of rows." in built.markdown
    samples = [row["samples"] for row in rows if row.get("samples")]
    missing = re.findall(r"is shown without its samples: (\S+) are not there", html.unescape(built.html))
    assert missing
    assert set(missing) <= set(samples)
