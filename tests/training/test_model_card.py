"""The model card of a run: metadata for the hub, and the rendered page, also with hostile names."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from running import status_of
from small_configs import tiny

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.data.splits import load as load_splits
from ssgan.files import write_atomic
from ssgan.training import experiment
from ssgan.training.experiment import run_experiment
from ssgan.training.model_card import CARD_NAME, HUB_DATASETS, METHODS, model_card

yaml = pytest.importorskip("yaml", reason="needs the test extra")
HOSTILE = (
    "---",
    '": x\n---\n# not a heading',
    "a|b `c` *d* [e](javascript:f) <script>g</script> $h$",
    "- item",
    "    code",
    "2. 中文 \U0001f600 \x7f\u202e\udce9",
)


@pytest.fixture(scope="module")
def folder(few_digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("card") / "run"
    config = tiny(seeds=2, draw_seed=3, total_images=100)
    run_experiment(few_digits, config, runs.create_run_folder(place, "digits", config))
    return place


def split(card: str) -> tuple[dict[str, Any], str]:
    """The parsed metadata, and the body."""
    start, head, body = card.split("---\n", 2)
    assert start == ""
    content = yaml.safe_load(head)
    assert isinstance(content, dict)
    return content, body


def facts(body: str) -> dict[str, str]:
    return dict(re.findall(r"^\| ([a-z ]+) \| (.+) \|$", body, re.MULTILINE))


def test_card_describes_the_training_and_its_results(folder: Path) -> None:
    report = runs.read_report(folder)
    head, body = split((folder / CARD_NAME).read_text(encoding="utf-8"))
    assert head["library_name"] == "ssgan"
    assert head["pipeline_tag"] == "image-classification"
    assert "license" not in head
    (model,) = head["model-index"]
    (result,) = model["results"]
    accuracy, error = result["metrics"]
    assert accuracy["value"] == pytest.approx(report["accuracy_mean"] / 100, abs=1e-6)
    assert error["value"] == pytest.approx(report["error_mean"], abs=1e-4)
    assert result["dataset"] == {"name": "digits", "type": "digits", "split": "test"}
    assert facts(body)["data"] == "digits: 300 images in the pool, 100 test images"
    assert facts(body)["labels"] == "20 of the pool"
    assert facts(body)["draws of labels"] == "seed 3"
    assert facts(body)["method"].startswith("gan: K+1 GAN")
    assert f"Test error: {report['error_mean']:.2f} ± {report['error_std']:.2f} % of 100 test images" in body
    for seed, error in zip(report["seeds"], report["errors"], strict=True):
        assert re.search(rf"^\| {seed} \| {error:.2f} \| \d", body, re.MULTILINE)
    assert "Probabilities are not calibrated" in body
    assert "`config.json`, `checkpoint` and `report.json`" in body
    assert str(folder.parent) not in body
    assert "\\." not in body


def test_card_lists_the_settings_that_differ_from_the_preset(folder: Path) -> None:
    _, body = split((folder / CARD_NAME).read_text(encoding="utf-8"))
    beyond = runs.read_report(folder)["settings"]
    shown = {name.replace("\\", "") for name in facts(body.replace("\\_", "_").replace("_", " "))}
    assert {name.replace("_", " ") for name in beyond} <= shown


def test_card_mentions_test_time_flip(few_digits: Data, tmp_path: Path) -> None:
    cards = []
    for flip in (False, True):
        config = tiny(augmentation="natural", test_time_flip=flip, total_images=10)
        folder = tmp_path / str(flip)
        run_experiment(few_digits, config, runs.create_run_folder(folder, "digits", config))
        cards.append(facts((folder / CARD_NAME).read_text(encoding="utf-8")).get("prediction"))
    assert cards == [None, "mean logits of the image and of its mirror image"]


def test_card_shows_arrays_if_picture_files_cannot_hold_the_images(folder: Path) -> None:
    report = runs.read_report(folder)
    cards = [model_card(report, 10, 10, shape) for shape in ((8, 8), (8, 8, 4), (8,))]
    assert ["PICTURES" in card for card in cards] == [True, False, False]
    assert ["FILE.npz" in card for card in cards] == [False, True, True]


def test_hostile_names_break_neither_metadata_nor_markdown(folder: Path) -> None:
    report = runs.read_report(folder)
    plain = model_card(report, 300, 100, (8, 8))
    report |= {"classes": list(HOSTILE), "dataset": HOSTILE[1], "warnings": [*HOSTILE]}
    card = model_card(report, 300, 100, (8, 8))
    head, body = split(card)
    assert "not a heading" in head["model-index"][0]["results"][0]["dataset"]["name"]
    headings = re.findall(r"^#+ (.*)$", body, re.MULTILINE)
    assert headings[1:] == re.findall(r"^#+ (.*)$", split(plain)[1], re.MULTILINE)[1:]
    numbered = [line for line in body.splitlines() if re.match(r"\| \d+ \| ", line)][: len(HOSTILE)]
    assert len(numbered) == len(HOSTILE)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in numbered)
    assert "<script>" not in body
    assert not re.search(r"(?<!\\)\]\(javascript", body)
    assert not re.search(r"(?<!\\)\$h", body)
    assert "\u202e" not in card
    card.encode("utf-8")


def test_rendered_markdown_shows_hostile_names_literally(folder: Path) -> None:
    """Rendered by a CommonMark implementation with tables, if it is installed."""
    markdown = pytest.importorskip("markdown_it", reason="rich brings it, in versions of today").MarkdownIt(
        "commonmark"
    )
    report = runs.read_report(folder) | {"classes": list(HOSTILE), "warnings": [*HOSTILE]}
    page = markdown.enable("table").render(split(model_card(report, 300, 100, (8, 8)))[1])
    assert page.count("<h2>") == 5 - 1
    assert page.count("<hr") == 0
    assert "<td>a|b `c` *d* [e](javascript:f) &lt;script&gt;g&lt;/script&gt; $h$</td>" in page
    assert "<li>- item</li>" in page
    assert "<a " not in page


def test_data_sets_have_their_hub_names(folder: Path) -> None:
    report = runs.read_report(folder) | {"dataset": "cifar10"}
    head, _ = split(model_card(report, 300, 100, (32, 32, 3)))
    assert head["datasets"] == ["uoft-cs/cifar10"]
    assert head["model-index"][0]["results"][0]["dataset"]["type"] == "uoft-cs/cifar10"


def test_every_method_and_downloaded_data_set_has_a_card_entry() -> None:
    from ssgan.data.datasets import DATASETS
    from ssgan.settings.catalog import METHOD_NAMES

    assert set(METHODS) == set(METHOD_NAMES)
    assert set(DATASETS) - set(HUB_DATASETS) == {"digits", "gaussian"}


def test_card_lists_at_most_100_classes(folder: Path) -> None:
    report = runs.read_report(folder) | {"classes": [f"c{k}" for k in range(250)]}
    body = model_card(report, 300, 100, (8, 8))
    assert "| 99 | c99 |" in body
    assert "c100" not in body
    assert "150 more are in `report.json`" in body


def test_card_without_test_images_has_no_error(few_digits: Data, tmp_path: Path) -> None:
    data = dataclasses.replace(few_digits, x_test=few_digits.x_test[:0], y_test=few_digits.y_test[:0])
    config = tiny(total_images=40)
    run_experiment(data, config, runs.create_run_folder(tmp_path / "run", "digits", config))
    head, body = split((tmp_path / "run" / CARD_NAME).read_text(encoding="utf-8"))
    assert "model-index" not in head
    assert "There are no test images." in body
    assert "A model that classifies images of 8x8 into 10 classes" in body


def test_a_gan_without_classes_has_a_card(in_an_empty_folder: None) -> None:
    assert status_of("train", "gaussian", "--set", "total_images=200", "--device", "cpu", "--out", "run") == 0
    head, body = split(Path("run", CARD_NAME).read_text(encoding="utf-8"))
    assert "pipeline_tag" not in head
    assert "A model that generates vectors of 1, trained without labels" in body
    assert "ssgan sample RUN" in body
    assert "predict RUN" not in body


def test_new_session_removes_the_old_card(few_digits: Data, folder: Path) -> None:
    write_atomic(folder / CARD_NAME, b"old")
    experiment._begin_session(folder, few_digits, load_splits(folder / "split.json")[0], experiment.FailedParts())
    assert not (folder / CARD_NAME).exists()
