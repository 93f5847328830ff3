"""What the README shows runs as written, and its tables are those of the rows."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from pictures_on_disk import grey, write
from running import ROOT, script, status_of

from ssgan.cli import main
from ssgan.data.splits import draw
from ssgan.files import default_root
from ssgan.settings.config import FIELDS
from ssgan.settings.presets import resolve

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line[2:] for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


def test_every_command_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of MNIST, which take long, stop after the settings, and are left out where the data are not."""
    monkeypatch.chdir(tmp_path)
    names = [shlex.split(command)[1] for command in COMMANDS]
    assert names == [
        "train",
        "evaluate",
        "data",
        "data",
        "train",
        "train",
        "evaluate",
        "compare",
        "report",
        "train",
        "train",
    ]
    for command in COMMANDS:
        if "mnist" in shlex.split(command):
            if not (default_root() / "MNIST" / "raw").is_dir():
                continue
            command += " --dry-run"
        program, *arguments = shlex.split(command)
        assert program == ".venv/bin/ssgan"
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0, f"{command}\n{capsys.readouterr().err}"
    said = capsys.readouterr().out
    assert "This run is finished" in said
    assert "ensemble of 2 models: accuracy" in said


def test_the_commands_on_your_own_pictures_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As written, but for a shorter training: on class folders, and on the same pictures in a table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    names = [f"{label}/{i}.png" for label in ("cat", "dog") for i in range(10)]
    write(tmp_path / "photos", {name: grey(i, size=40) for i, name in enumerate(names)})
    flat = {name.replace("/", "-"): grey(i, size=40) for i, name in enumerate(names)}
    write(tmp_path / "flat", flat)
    rows = [f"{name},{name[:3]}" for name in flat]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    commands = [shlex.split(line, comments=True) for line in README.splitlines() if line.startswith("ssgan ")]
    assert [command[1] for command in commands] == ["data", "train", "train", "train"]
    for _, *arguments in commands:
        short = ["--set", "total_images=200", "--set", "init_images=10"] if arguments[0] == "train" else []
        assert status_of(*arguments, *short) == 0, capsys.readouterr().err
    for folder in ("run", "other", "k"):
        assert json.loads((tmp_path / folder / "report.json").read_text())["classes"] == ["cat", "dog"]


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(first, names)
    errors = json.loads(capsys.readouterr().out)
    assert len(errors) == 2
    assert all(0 < error < 40 for error in errors)
    assert names["p"].shape == (2, 540, 10)
    exec(second, names)
    assert names["run"].splits[0].indices.tolist() == list(range(40))


def test_the_settings_the_readme_names_are_settings() -> None:
    named = set(re.findall(r"`(\w+)=[^`]+`", README)) - {"field"}
    assert named >= {"generator_norm", "minibatch_kernels", "real_target", "weight_historical_averaging"}
    assert named <= set(FIELDS)


def test_the_tables_of_the_readme_are_those_of_the_rows() -> None:
    assert script("readme").rendered(README) == README


def test_the_page_of_settings_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert script("readme").settings() == page
    assert all(f"| `{name}` |" in page for name in FIELDS)


def test_the_files_the_readme_links_to_are_there() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize("name", ["digits", "mnist-short"])
def test_published_rows_are_whole_and_were_made_with_the_presets_of_today(name: str) -> None:
    """A different draw for each seed, and the settings that stand in config.py."""
    stacks: dict[tuple[str, tuple[int, ...]], list[dict[str, Any]]] = {}
    for line in (ROOT / "results" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        stacks.setdefault((row["config_sha256"], tuple(row["stack"])), []).append(row)
    grid, today = script("results").GRIDS[name], set()
    for cell in grid.cells:
        config = resolve(grid.preset_name, cell)
        key = config.sha256, tuple(config.all_seeds)
        today.add(key)
        assert [row["seed"] for row in stacks[key]] == config.all_seeds, cell
        assert len({row["split_sha256"] for row in stacks[key]}) == config.seeds, cell
        assert all(row["images"] == config.total_images for row in stacks[key])
    assert set(stacks) == today


def test_gan_and_supervised_rows_share_their_label_draws() -> None:
    splits: dict[tuple[str, int, int], str] = {}
    for line in (ROOT / "results" / "digits.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        splits[row["method"], row["labels"], row["seed"]] = row["split_sha256"]
    assert len(splits) == 60
    for (_, labels, seed), sha256 in splits.items():
        assert splits["supervised", labels, seed] == sha256


def test_the_draws_behind_the_rows_can_be_made_again(digits) -> None:  # type: ignore[no-untyped-def]
    from ssgan.data.splits import Split

    for line in (ROOT / "results" / "digits.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows = draw(digits.y_train, row["labels"], row["draw_seed"])
        assert Split(rows, digits.y_train[rows]).sha256 == row["split_sha256"]
        assert digits.sha256 == row["dataset_sha256"]
