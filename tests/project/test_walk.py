"""The page from a GAN to a classifier matches the output of its script, and its commands run."""

import json
import shlex
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from running import script

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def walk() -> ModuleType:
    return script("experiments/walk")


def test_page_matches_the_rows_and_commands(walk: ModuleType) -> None:
    text = (ROOT / "docs" / "gan.md").read_text(encoding="utf-8")
    assert walk.page(text) == text
    assert set(walk.rows()) == set(walk.STEPS) == {1, 2, 3, 4}
    for number, step in walk.STEPS.items():
        for command in step.commands:
            assert f"\n$ {command}\n" in text
        assert f"](pictures/walk-{number}.png)" in text
    assert "docs/gan.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_pictures_are_there_and_small(walk: ModuleType) -> None:
    for number in walk.STEPS:
        assert 1_000 < (ROOT / "docs" / "pictures" / f"walk-{number}.png").stat().st_size < 200_000


def test_rows_match_the_commands(walk: ModuleType) -> None:
    """Trained with the commands of the page and the current presets."""
    from ssgan.settings.presets import parse, resolve

    for number, row in walk.rows().items():
        words = walk.split_command(walk.STEPS[number].commands[0])
        given = dict(parse(words[i + 1]) for i, word in enumerate(words) if word == "--set")
        preset = words[words.index("--preset") + 1] if "--preset" in words else "gaussian"
        labels = {"labels": int(words[words.index("--labels") + 1])} if "--labels" in words else {}
        config = resolve(preset, {**given, **labels})
        assert row["preset"] == preset
        assert row["images"] == config.steps * config.images_per_step
        assert row["labels"] == (config.labels or 0)
        beyond = {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}
        assert row["settings"] == beyond


def test_the_commands_run(
    walk: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As written, but with fewer images of the same size and shorter trainings; then the page is generated."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).integers(0, 256, (200, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=np.arange(200) % 10, x_test=x[:50], y_test=np.arange(50) % 10)
    text = (ROOT / "docs" / "gan.md").read_text(encoding="utf-8")
    (tmp_path / "gan.md").write_text(text, encoding="utf-8")
    places = {"PAGE": "gan.md", "ROWS": "walk.jsonl", "SCRATCH": ".", "PICTURES": "pictures"}
    for name, place in places.items():
        monkeypatch.setattr(walk, name, tmp_path / place)
    short = {"batch_size": 20, "report_every_images": 20}
    for number, step in walk.STEPS.items():
        commands = []
        for command in step.commands:
            words = walk.split_command(command)[1:]
            if words[0] == "train":
                data = "gaussian" if words[1] == "gaussian" else "mnist.npz"
                size = {**short, "total_images": 400 if number == 1 else 40}
                given = [word for word in words if "=" in word and word.partition("=")[0] not in size]
                others = [word for word in words[2:] if word != "--set" and "=" not in word]
                set_to = [*given, *(f"{name}={value}" for name, value in size.items())]
                words = ["train", data, *others, *(word for one in set_to for word in ("--set", one))]
            commands.append(shlex.join(["ssgan", *words]))
        monkeypatch.setitem(walk.STEPS, number, step._replace(commands=tuple(commands)))
    assert walk.main([]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "walk.jsonl").read_text().splitlines()]
    assert [(row["step"], row["labels"]) for row in rows] == [(1, 0), (2, 0), (3, 0), (4, 100)]
    assert all((tmp_path / "pictures" / f"walk-{number}.png").exists() for number in walk.STEPS)
    made = (tmp_path / "gan.md").read_text(encoding="utf-8")
    assert f"**Test error {rows[3]['error_mean']:.2f} % with 100 labels.**" in made
    # The second run trains nothing and keeps the page.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/checkpoint")}
    assert len(before) == 4
    assert walk.main([]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/checkpoint")} == before
    assert (tmp_path / "gan.md").read_text(encoding="utf-8") == made
