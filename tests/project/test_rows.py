"""Committed rows: an index gives their sources, and they match the current presets."""

import shlex
from typing import Any

import cluster_tables
import fast_tables
import feature_tables
import labeling_tables
import method_tables
import picture_tables
import pytest
import recipe_tables
from running import ROOT, rows, script, status_of

from ssgan.data.dataset import Data
from ssgan.data.splits import Split, draw
from ssgan.settings.presets import resolve

ROWS = ROOT / "results" / "rows"


def test_index_matches_the_row_files() -> None:
    index = script("docs/index")
    assert index.index() == (ROWS / "README.md").read_text(encoding="utf-8")
    assert set(index.SOURCES) == {path.stem for path in ROWS.glob("*.jsonl")}
    assert {path.name for path in ROWS.iterdir()} == {"README.md", *(f"{name}.jsonl" for name in index.SOURCES)}


def test_the_index_names_the_tables_that_read_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    index, tables = script("docs/index"), script("docs/tables")
    read: set[str] = set()
    real = tables.rows
    modules = (
        *(tables, cluster_tables, fast_tables, feature_tables, labeling_tables, method_tables, picture_tables),
        recipe_tables,
    )
    for module in modules:
        monkeypatch.setattr(module, "rows", lambda name: (read.add(name), real(name))[1])
    found: dict[str, set[str]] = {name: set() for name in index.SOURCES}
    for block, render in tables.BLOCKS.items():
        read.clear()
        render()
        for name in read:
            found[name].add(block)
    assert found == {name: {feed for feed in source.feeds if "." not in feed} for name, source in index.SOURCES.items()}


def test_notes_named_in_the_index_mention_the_row_file() -> None:
    """The notes name their rows; gan.md is generated from its rows."""
    for name, source in script("docs/index").SOURCES.items():
        for feed in source.feeds:
            if feed.startswith("notes/") and name != "gan-mlp":
                assert f"{name}.jsonl" in (ROOT / "docs" / feed).read_text(encoding="utf-8")


def test_commands_of_the_index_cover_all_rows_of_digits(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is left to train, and every row is from one of the commands."""
    counts = []
    for command in script("docs/index").SOURCES["digits-compare"].commands:
        out = ["--out", str(ROWS / "digits-compare.jsonl"), "--dry-run"]
        assert status_of(*shlex.split(command)[1:], *out) == 0, capsys.readouterr().err
        table = [line.split() for line in capsys.readouterr().out.splitlines()]
        cells = [line for line in table if line and line[0] in ("20", "50", "100")]
        assert len(cells) >= 6
        assert all(line[-1] == line[-2] for line in cells)
        counts.append(sum(int(line[-1]) for line in cells))
    twice = 5  # the GAN of the ablation, which is in the first command too
    assert sum(counts) - twice == len(rows(ROWS / "digits-compare.jsonl"))


@pytest.mark.parametrize("name", ["digits", "mnist-short"])
def test_published_rows_are_complete_and_match_the_current_presets(name: str) -> None:
    """A different draw for each seed, and the settings of config.py."""
    stacks: dict[tuple[str, tuple[int, ...]], list[dict[str, Any]]] = {}
    for row in rows(ROWS / f"{name}.jsonl"):
        stacks.setdefault((row["config_sha256"], tuple(row["stack"])), []).append(row)
    grid, current = script("experiments/results").GRIDS[name], set()
    for cell in grid.cells:
        config = resolve(grid.preset_name, cell)
        key = config.sha256, tuple(config.all_seeds)
        current.add(key)
        assert [row["seed"] for row in stacks[key]] == config.all_seeds, cell
        assert len({row["split_sha256"] for row in stacks[key]}) == config.seeds, cell
        assert all(row["images"] == config.total_images for row in stacks[key])
    assert set(stacks) == current


def test_gan_and_supervised_rows_share_their_label_draws() -> None:
    splits: dict[tuple[str, int, int], str] = {}
    for row in rows(ROWS / "digits.jsonl"):
        splits[row["method"], row["labels"], row["seed"]] = row["split_sha256"]
    assert len(splits) == 60
    for (_, labels, seed), sha256 in splits.items():
        assert splits["supervised", labels, seed] == sha256


def test_label_draws_of_the_rows_can_be_reproduced(digits: Data) -> None:
    for row in rows(ROWS / "digits.jsonl"):
        indices = draw(digits.y_train, row["labels"], row["draw_seed"])
        assert Split(indices, digits.y_train[indices]).sha256 == row["split_sha256"]
        assert digits.sha256 == row["dataset_sha256"]
