"""The grid of a comparison: its cells, their splits and settings, and ablations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import SETTINGS, grid_of, rows, run, timeless
from running import status_of

from ssgan import result_rows
from ssgan.compare import grid as grids
from ssgan.compare import runner
from ssgan.compare.baselines import BASELINES
from ssgan.compare.grid import ablations
from ssgan.data.dataset import Data
from ssgan.data.splits import draw
from ssgan.errors import UserError
from ssgan.settings.catalog import METHOD_NAMES
from ssgan.settings.presets import PRESETS, resolve
from ssgan.training import experiment

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


# The grid


def test_every_method_has_a_row_per_seed_with_the_same_labelled_images(
    capsys: pytest.CaptureFixture[str], digits: Data, trainings: list[Any]
) -> None:
    """With one number of labels and one seed, every method has the split that this seed draws."""
    assert run("--labels", "20,30", "--methods", "gan,supervised,knn,svm", "--seeds", "2", "--seed", "3") == 0
    found = rows()
    assert [(row["labels"], row["method"], row["seed"]) for row in found] == [
        (labels, method, seed)
        for labels in (20, 30)
        for method in ("gan", "supervised", "knn", "svm")
        for seed in (3, 4)
    ]
    for row in found:
        indices = draw(digits.y_train, row["labels"], row["seed"])
        assert row["split_sha256"] == grids.Split(indices, digits.y_train[indices]).sha256
        assert row["draw_seed"] == row["seed"]
    assert len({row["split_sha256"] for row in found}) == 4
    assert [row["stack"] for row in found[:6]] == [[3, 4]] * 4 + [[3], [4]]
    assert trainings == [
        pair
        for _ in range(2)
        for pair in [("gan", [3, 4]), ("supervised", [3, 4]), ("knn", [3]), ("knn", [4]), ("svm", [3]), ("svm", [4])]
    ]
    said = capsys.readouterr().out
    assert "digits: 8 cells of 2 seeds, into rows.jsonl: 16 models to train" in said
    assert said.splitlines()[-1] == "Report: ssgan report rows.jsonl --out rows-report"
    marked = [line.split()[:2] for line in said.splitlines() if " * " in line and not line.startswith("mean")]
    means = {
        (n, m): np.mean([row["error"] for row in found if (row["labels"], row["method"]) == (n, m)])
        for n in (20, 30)
        for m in ("gan", "supervised", "knn", "svm")
    }
    best = [min((m for k, m in means if k == n), key=lambda m: means[n, m]) for n in (20, 30)]
    assert marked == [["20", best[0]], ["30", best[1]]]


def test_the_same_split_is_handed_to_every_method(
    few_digits: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The split is drawn once, and the object itself is passed."""
    seen: list[Any] = []
    train_or_resume, classify = runner.train_or_resume, runner.fit_baseline

    def training_with(*rest: Any) -> Any:
        seen.extend(rest[5])  # the splits
        return train_or_resume(*rest)

    def fit(name: str, x: Any, scale: Any, split: Any, *rest: Any, **options: Any) -> Any:
        seen.append(split)
        return classify(name, x, scale, split, *rest, **options)

    monkeypatch.setattr(runner, "train_or_resume", training_with)
    monkeypatch.setattr(runner, "fit_baseline", fit)
    grid = grid_of(few_digits, "gan,supervised,svm,knn", seeds=[5, 6])
    with result_rows.open_row_file(tmp_path / "rows.jsonl") as held:
        runner.compare(grid, held)
        assert [row["split_sha256"] for row in held.rows] == [split.sha256 for split in seen]
    assert len(seen) == 8
    assert all(split is grid.splits[20, 5 + i % 2] for i, split in enumerate(seen))


def test_rows_of_networks_match_a_separate_training(few_digits: Data, tmp_path: Path) -> None:
    from ssgan.runs import create_run_folder

    grid = grid_of(few_digits, "gan")
    with result_rows.open_row_file(tmp_path / "rows.jsonl") as held:
        runner.compare(grid, held)
        found = held.rows
    config = resolve("digits", {**SETTINGS, "labels": 20, "seeds": 2})
    report = experiment.run_experiment(few_digits, config, create_run_folder(tmp_path / "run", "digits", config))
    for ours, theirs in zip(timeless(found), timeless(report["rows"]), strict=True):
        assert {key: ours[key] for key in theirs} == theirs
    assert grid.cells[0].config == config


def test_labels_may_be_all_and_default_to_those_of_the_preset(digits: Data) -> None:
    assert run("--labels", "all", "--methods", "gan", "--seeds", "2") == 0
    ensemble, first, second = rows()
    assert ensemble["method"] == "gan (ensemble)"
    assert (first["labels"], first["draw_seed"], first["split_sha256"]) == (1257, None, second["split_sha256"])
    assert run("--methods", "knn", "--seeds", "1", out="other.jsonl") == 2  # knn uses none of the settings of run()
    assert status_of("compare", "digits", "--out", "other.jsonl", "--methods", "knn", "--seeds", "1") == 0
    assert rows("other.jsonl")[0]["labels"] == PRESETS["digits"]["labels"]


def test_default_methods_are_known() -> None:
    assert grids.parse_methods(None) == ["gan", "supervised", *BASELINES]
    assert grids.parse_methods(",".join(METHOD_NAMES)) == [*METHOD_NAMES]


def test_setting_applies_only_to_methods_that_use_it(few_digits: Data) -> None:
    cells = grid_of(few_digits, settings={**SETTINGS, "latent_size": 7}).cells
    gan, supervised = (cell.config for cell in cells)
    assert gan is not None
    assert supervised is not None
    assert (gan.latent_size, supervised.latent_size) == (7, 100)
    assert gan.discriminator_widths == supervised.discriminator_widths == (16, 12)
    with pytest.raises(UserError, match=r"^latent_size=7 has no effect: it needs a method that trains a generator"):
        grid_of(few_digits, "supervised", settings={"latent_size": 7})


# Ablations


def test_each_ablation_removes_one_part(shared: tuple[grids.Grid, Path, list[dict[str, Any]]]) -> None:
    grid, _, found = shared
    plain = next(cell.config for cell in grid.cells if cell.name == "gan")
    changed = {
        cell.ablation.name: set((cell.config and plain and plain.diff(cell.config)) or ())
        for cell in grid.cells
        if cell.ablation is not None
    }
    assert changed == {
        "without feature matching": {"weight_feature_matching", "weight_non_saturating"},
        "without initialisation by images": {"init_images"},
        "without noise": {"noise_input_std", "noise_hidden_std"},
        "without averaging D (same run's last D)": set(),
        "without a generator": {"weight_fake", "generator_widths", "latent_size"},
    }
    for name, settings in changed.items():
        ours = [row for row in found if row.get("ablation") == name]
        assert [row["seed"] for row in ours] == [0, 1]
        decisive = settings - {"generator_widths", "latent_size"}
        values = {ours[0]["settings"][setting] for setting in decisive}
        assert values <= ({0} if name != "without feature matching" else {0, 1})


def test_ablation_of_averaging_uses_the_same_run(
    shared: tuple[grids.Grid, Path, list[dict[str, Any]]], trainings: list[Any]
) -> None:
    _, _, found = shared
    plain = [row for row in found if row["method"] == "gan" and "ablation" not in row]
    last = [row for row in found if row.get("ablation", "").startswith("without averaging")]
    assert [row["error"] for row in last] == [row["error_raw"] for row in plain]
    assert [row["run"] for row in last] == [row["run"] for row in plain]
    assert [row["nll"] for row in last] != [row["nll"] for row in plain]


def test_ablations_of_parts_that_a_preset_lacks_are_skipped_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    found, absent = ablations(resolve("images-fast", {}))
    assert [one.name for one in found] == [
        "without initialisation by images",
        "without averaging D (same run's last D)",
    ]
    assert absent == ["feature matching", "noise", "a generator"]
    options = ["--preset", "digits", "--labels", "20", "--methods", "gan", "--ablate", "--dry-run"]
    assert run(*options, "--set=noise_input_std=0") == 0
    assert "without noise" in capsys.readouterr().out
    off = ["--set=noise_input_std=0", "--set=noise_hidden_std=0"]
    assert run(*options, *off) == 0
    said = capsys.readouterr()
    assert said.err == "digits trains without noise, so there is no ablation of it.\n"
    assert "without noise" not in said.out


@pytest.mark.parametrize("preset", [name for name, own in PRESETS.items() if own.get("labels") != 0])
def test_every_ablation_of_every_preset_is_a_configuration(preset: str) -> None:
    config = resolve(preset, {})
    found, absent = ablations(config)
    assert len(found) + len(absent) == 5 + (config.label_spreading_fraction > 0)
    for one in found:
        assert resolve(preset, one.settings).diff(config).keys() == one.settings.keys()
    conv = resolve("cifar10-paper", {})
    assert dict(ablations(conv)[0][2].settings) == {"dropout_input": 0.0, "dropout_hidden": 0.0}


def test_ablation_overrides_user_settings(few_digits: Data) -> None:
    grid = grid_of(few_digits, "gan", settings={**SETTINGS, "weight_fake": 0.3}, ablate=True)
    weights = {cell.name: cell.config.weight_fake for cell in grid.cells if cell.config is not None}
    assert weights["gan"] == weights["gan without noise"] == 0.3
    assert weights["gan without a generator"] == 0.0
