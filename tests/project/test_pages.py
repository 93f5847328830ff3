"""README and the pages of `docs/`: their commands and code run, tables match the rows, and links are valid."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_on_disk import grey, write
from running import ROOT, script, status_of
from small_backbones import use_small_backbone

from ssgan.clusters import connect
from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS
from ssgan.settings.config import FIELDS

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTES = sorted((ROOT / "docs" / "notes").glob("*.md"))
OTHERS = [
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    ROOT / "results" / "PENDING.md",
    ROOT / "results" / "rows" / "README.md",
]
README = PAGES[0].read_text(encoding="utf-8")
# Settings that replace the length of a training.
SHORT = {"total_images": 40, "batch_size": 20, "report_every_images": 20}
# Wide networks are made narrow too.
NARROW = {"dcgan-64": {"discriminator_widths": 4, "generator_widths": 4}}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """The arguments of every command: those after a dollar sign, then those in the text that can run as written."""
    lines = "".join(fenced(text, "console")).replace("\\\n", " ").splitlines()
    assert all(line.startswith("$ ssgan ") for line in lines)
    inline = re.findall(r"`(ssgan [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    fragment = re.compile(r"\b[A-Z]{3,}\b|^ssgan sample( --|$)")
    typed = [line.removeprefix("$ ") for line in lines] + [one for one in inline if not fragment.search(one)]
    return [shlex.split(line, comments=True)[1:] for line in typed]


def shortened(arguments: list[str]) -> list[str]:
    """A train command with a short length; other commands unchanged."""
    if arguments[0] != "train" or "--resume" in arguments or "--config" in arguments:
        return arguments
    words = iter(arguments)
    kept: list[str] = []
    short = {**SHORT, **next((NARROW[preset] for preset in NARROW if preset in arguments), {})}
    for word in words:
        if word in ("--set", "--epochs"):
            value = next(words)
            if word == "--set" and value.partition("=")[0] not in short:
                kept += [word, value]
        else:
            kept.append(word)
    return [*kept, *(word for setting, value in short.items() for word in ("--set", f"{setting}={value}"))]


def random_images(data: str, images: int, shape: tuple[int, ...]) -> Data:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (images, *shape), np.uint8), np.arange(images) % 10
    return Data(x, y, x[:50], y[:50], tuple("0123456789"), name=data)


def answer_by_name(app: Any, _: Any) -> None:
    """Label every picture that the page shows by the beginning of its name, and stop."""
    while pictures := app.session.next_pictures("tab"):
        app.session.answer([(pictures[0]["file"], pictures[0]["version"])], "label", pictures[0]["file"][:3])


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files that the pages name, and random images in place of downloaded sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    use_small_backbone(monkeypatch)
    pictures = {f"{label}/{i}.png": grey(i, size=40) for label in ("cat", "dog") for i in range(10)}
    write(tmp_path / "photos", pictures)
    write(tmp_path / "photos" / "unlabeled", {f"{i}.png": grey(i, size=40) for i in range(20, 40)})
    write(tmp_path / "new-pictures", {f"{i}.png": grey(i, size=50) for i in range(3)})
    flat = {picture.replace("/", "-"): image for picture, image in pictures.items()}
    write(tmp_path / "flat", flat)
    rows = [f"{picture},{picture[:3]}" for picture in flat]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    digits = DATASETS["digits"](None)
    np.savez(tmp_path / "digits.npz", x=digits.x_test[:20])
    (tmp_path / "results" / "rows").mkdir(parents=True)
    for path in (ROOT / "results" / "rows").glob("*.jsonl"):
        few = path.read_text(encoding="utf-8").splitlines()[:3]
        (tmp_path / "results" / "rows" / path.name).write_text("".join(line + "\n" for line in few))
    monkeypatch.setattr("ssgan.labeling.page.serve", answer_by_name)
    for data, images, shape in (
        ("mnist", 200, (28, 28)),
        ("fashion-mnist", 200, (28, 28)),
        ("cifar10", 4000, (32, 32, 3)),
    ):
        monkeypatch.setitem(DATASETS, data, lambda _, given=(data, images, shape): random_images(*given))
    return tmp_path


WITH_COMMANDS = [path for path in PAGES if commands(path.read_text(encoding="utf-8"))]


def test_expected_numbers_of_commands_are_found_in_the_pages() -> None:
    """A change of the page format must not hide them from the test below."""
    counts = {name(path): len(commands(path.read_text(encoding="utf-8"))) for path in WITH_COMMANDS}
    least = {
        "README.md": 13,
        "docs/commands.md": 17,
        "docs/your-pictures.md": 5,
        "docs/gan.md": 5,
        "docs/features.md": 4,
        "docs/labelling.md": 4,
        "docs/results.md": 3,
        "docs/clusters.md": 3,
    }
    assert all(counts[page] >= count for page, count in least.items()), counts


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[] if page.name == "README.md" else [pytest.mark.slow]) for page in WITH_COMMANDS],
    ids=name,
)
def test_every_command_runs(workplace: Path, capsys: pytest.CaptureFixture[str], page: Path) -> None:
    """As written and in order, except for shorter trainings and random images instead of MNIST and CIFAR-10."""
    if page.name == "clusters.md":
        pytest.importorskip("ray", reason="needs the extra ssgan[ray]")
    with connect() if page.name == "clusters.md" else nullcontext():  # one cluster for all commands
        for arguments in commands(page.read_text(encoding="utf-8")):
            if "safetensors" in arguments and find_spec("safetensors") is None:  # of the extra onnx
                continue
            status = status_of(*shortened(arguments))
            ended = 130 if arguments[0] == "label" else 0  # by Ctrl-C
            assert status == ended, f"{shlex.join(arguments)}\n{capsys.readouterr().err}"
    printed = capsys.readouterr().out
    if page.name == "README.md":
        # The probabilities that the text mentions, and the same labels for both methods.
        lines = (workplace / "predictions.csv").read_text().splitlines()
        assert len(lines) == 4
        assert {"class", "probability", "p_generated"} <= set(lines[0].split(","))
        splits = [(workplace / "runs" / run / "split.json").read_text() for run in ("gan", "plain")]
        assert splits[0] == splits[1]
        assert "This run is finished" in printed
    if page.name == "commands.md":
        assert "ensemble of 2 models: accuracy" in printed
    if page.name == "your-pictures.md":
        for folder in ("run", "other", "k"):
            assert json.loads((workplace / folder / "report.json").read_text())["classes"] == ["cat", "dog"]


def test_every_python_block_runs(workplace: Path) -> None:
    """The next test runs those of the README."""
    for page in PAGES[1:]:
        names: dict[str, Any] = {}
        for block in fenced(page.read_text(encoding="utf-8"), "python"):
            exec(block, names)


def test_python_example_of_the_readme_trains(capsys: pytest.CaptureFixture[str]) -> None:
    (first,) = fenced(README, "python")
    names: dict[str, Any] = {}
    exec(first, names)
    assert len(names["run"].errors) == 2
    assert all(0 < error < 40 for error in names["run"].errors)
    assert names["p"].shape == (2, 540, 10)


def test_readme_names_the_quickstart_and_test_scripts() -> None:
    (block,) = fenced(README, "sh")
    paths = [ROOT / line.split()[0] for line in block.splitlines()]
    assert [name(path) for path in paths] == ["scripts/quickstart", "scripts/test"]
    assert all(path.stat().st_mode & 0o111 for path in paths)


def test_readme_is_short_and_its_first_section_is_own_pictures() -> None:
    assert len(README.encode()) <= 9_000
    assert re.findall(r"^## (.*)$", README, re.MULTILINE)[0] == "Your own pictures"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_settings_named_in_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:--set )?(\w+)=[^`]+`", text)) | set(re.findall(r"--set (\w+)=", text))
    assert named - {"field"} <= set(FIELDS) | {"network"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tables_of_a_page_match_the_rows(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert script("docs/pages").render_page(text) == text


def test_every_table_is_on_one_page() -> None:
    index = script("docs/index")
    for block in script("docs/tables").BLOCKS:
        assert index.page_of(block) in PAGES


def test_settings_page_matches_the_code() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert script("docs/pages").settings() == page
    assert all(f"| `{field}` |" in page for field in FIELDS)


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *NOTES, *OTHERS], ids=name)
def test_links_point_to_existing_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("page", [*PAGES, *NOTES, *OTHERS], ids=name)
def test_files_named_in_a_page_exist(page: Path) -> None:
    """Except for the rows of pending experiments."""
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/.-])((?:scripts|tests|ssgan|docs)/[\w./-]*\w)", text))
    if page.name == "CHANGELOG.md":  # it mentions files that were moved
        named = {path for path in named if not (path.startswith("scripts/") and path.count("/") == 1)}
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_every_picture_is_shown() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in [*PAGES, *NOTES]
        for target in re.findall(r"\]\(([^)]+\.(?:png|webp))\)", page.read_text(encoding="utf-8"))
    }
    sources = {ROOT / "docs" / "pictures" / "mnist-short-samples.png"}  # part of mnist-short.png
    assert set((ROOT / "docs" / "pictures").rglob("*.*")) == shown | sources
    assert not list((ROOT / "results").rglob("*.png"))


def test_figures_can_be_drawn_from_committed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only their sizes are compared; pixels depend on the version of matplotlib."""
    from PIL import Image

    pictures = script("docs/pictures")
    committed = pictures.PICTURES
    for source in ("walk-4.png", "mnist-short-samples.png"):
        (tmp_path / source).write_bytes((committed / source).read_bytes())
    monkeypatch.setattr(pictures, "PICTURES", tmp_path)
    pictures.draw()
    for picture in ("few-labels.png", "mnist-short.png"):
        with Image.open(tmp_path / picture) as ours, Image.open(committed / picture) as theirs:
            assert ours.size == theirs.size


@pytest.mark.parametrize("path", ["experiments/explore.py", "docs/pages.py"])
def test_script_prints_its_help(path: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / path), "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("usage: ")
