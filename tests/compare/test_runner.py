"""Running a comparison: resuming, locking, failed cells, and the content of rows."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparisons import SETTINGS, SMALL, grid_of, rows, run, timeless
from running import contents, last_object, status_of

from ssgan import result_rows, runs
from ssgan.compare import grid as grids
from ssgan.compare import runner
from ssgan.compare.baselines import BASELINES
from ssgan.compare.progress import ProgressTracker
from ssgan.data.dataset import Data
from ssgan.inference.metrics import negative_log_likelihood, softmax
from ssgan.inference.models import open_run
from ssgan.inference.scores import score
from ssgan.report import loader
from ssgan.settings.config import Config
from ssgan.training import experiment

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

ROOT = Path(__file__).parents[2]


# Resuming


def test_existing_rows_are_not_trained_again(trainings: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--labels", "20", "--methods", "gan,svm"]
    assert run(*options, "--seeds", "2") == 0
    once = Path("rows.jsonl").read_bytes()
    assert trainings == [("gan", [0, 1]), ("svm", [0]), ("svm", [1])]
    trainings.clear()
    capsys.readouterr()
    assert run(*options, "--seeds", "2") == 0
    assert trainings == []
    assert Path("rows.jsonl").read_bytes() == once
    assert "nothing left to train" in capsys.readouterr().out
    # Additional seeds are trained as their own stack.
    assert run(*options, "--seeds", "4") == 0
    assert trainings == [("gan", [2, 3]), ("svm", [2]), ("svm", [3])]
    assert Path("rows.jsonl").read_bytes().startswith(once)
    # Fewer seeds exist already, in whatever stack.
    trainings.clear()
    assert run(*options, "--seeds", "3", "--seed", "1") == 0
    assert trainings == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "learning_rate_d=0.001"], "4 of other settings or draws"),
        (["--draw-seed", "7"], "5 of other settings or draws"),
        pytest.param(["--preset", "vectors"], "4 of other settings or draws", marks=pytest.mark.slow),
    ],
)
def test_rows_of_other_settings_are_kept_but_not_counted(
    options: list[str], message: str, trainings: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting of the networks does not affect classical rows; another draw does."""
    plain = ["--labels", "20", "--methods", "gan,supervised,knn", "--seeds", "2"]
    assert run(*plain) == 0
    once, count = Path("rows.jsonl").read_bytes(), len(trainings)
    capsys.readouterr()
    assert run(*plain, *options) == 0
    line = f"rows.jsonl also holds rows that stay as they are and are not counted here: {message}."
    assert line in capsys.readouterr().err.replace("6 of other", "5 of other")
    assert len(trainings) - count == (4 if "--draw-seed" in options else 2)
    assert Path("rows.jsonl").read_bytes().startswith(once)
    assert status_of("report", "rows.jsonl", "--out", "page") == 0


def test_rows_of_other_data_are_kept_but_not_counted(few_digits: Data, digits: Data, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for number, data in enumerate((few_digits, digits)):
        grid = grid_of(data, "knn", settings={})
        with result_rows.open_row_file(path) as held:
            assert grid.count_other_rows(held.rows) == (2 * number, 0)
            runner.compare(grid, held)
            assert len(held.rows) == 2 * number + 2


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The row file of a comparison that was not interrupted."""
    out = tmp_path_factory.mktemp("undisturbed") / "rows.jsonl"
    assert status_of("compare", "digits", "--out", out, *LONG) == 0
    return out


LONG = [*SMALL[1:], "--set=total_images=1500", "--set=checkpoint_every_seconds=0", "--ablate"]
LONG += ["--labels=20", "--methods=gan,svm,supervised", "--seeds=2", "--draw-seed=1"]


@pytest.mark.slow
def test_killed_and_resumed_comparison_gives_the_same_rows(undisturbed: Path, tmp_path: Path) -> None:
    """SIGKILL at a checkpoint of the first stack, after its rows, and during the last stack."""
    out = tmp_path / "rows.jsonl"
    cells = tmp_path / "rows.cells"
    moments: list[Callable[[], bool]] = [
        lambda: any(cells.glob("gan-*/checkpoint")),
        lambda: out.exists() and out.stat().st_size > 0,
        lambda: any(cells.glob("supervised-*/checkpoint")),
    ]
    command = [sys.executable, "-m", "ssgan.cli", "compare", "digits", "--out", str(out), *LONG]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for moment in moments:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while not moment():
            assert process.poll() is None, "it was done before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert timeless(rows(out)) == timeless(rows(undisturbed))
    assert {path.name for path in (tmp_path / "rows-samples").iterdir()} == {
        path.name for path in undisturbed.with_name("rows-samples").iterdir()
    }


def test_stack_resumes_from_its_checkpoint(few_digits: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    steps: list[int] = []

    def stop(progress: Any) -> None:
        if progress.share > 0.5:
            raise Stop

    grid = grid_of(few_digits, "gan", settings={**SETTINGS, "checkpoint_every_seconds": 0.0})
    path = tmp_path / "rows.jsonl"
    with result_rows.open_row_file(path) as held, pytest.raises(Stop):
        runner.compare(grid, held, stop)
    assert path.read_bytes() == b""
    loop = ProgressTracker.follow
    monkeypatch.setattr(ProgressTracker, "follow", lambda self, report: (steps.append(report.step), loop(self, report)))
    with result_rows.open_row_file(path) as held:
        runner.compare(grid, held)
        assert len(held.rows) == 2
    assert steps == [15, 20]  # the report of step 15 stopped it, before its checkpoint


@pytest.mark.parametrize("left", [1, 30, 5000, -1, -30, -2000])
def test_incomplete_rows_of_a_stack_are_removed_and_recomputed(
    undisturbed: Path, tmp_path: Path, left: int, capsys: pytest.CaptureFixture[str], trainings: list[Any]
) -> None:
    """``left`` bytes of the last stack's rows remain; if it is negative, that many are missing at their end."""
    content = undisturbed.read_bytes()
    lines = content.splitlines(keepends=True)
    stack = sum(map(len, lines[-3:]))  # an ensemble and two models
    assert [json.loads(line)["method"] for line in lines[-3:]] == ["supervised (ensemble)", "supervised", "supervised"]
    out = tmp_path / "rows.jsonl"
    size = len(content) - stack + (left if left > 0 else stack + left)
    out.write_bytes(content[:size])
    assert status_of("compare", "digits", "--out", out, *LONG) == 0
    if left == -1:  # the last row lacks only its line break
        assert out.read_bytes() == content
        assert trainings == []
        return
    assert timeless(rows(out)) == timeless(rows(undisturbed))
    assert trainings == [("supervised", [0, 1])]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "bytes are removed" in line]
    removed = content[len(content) - stack : size]
    whole = removed[: removed.rfind(b"\n") + 1]
    copy = tmp_path / "rows.jsonl.removed"
    assert (copy.read_bytes() if copy.exists() else b"") == whole
    kept = f"; whole rows are now in {copy}" if whole else ""
    assert line == (
        f"{out} ended in the middle of a training's rows: its last {len(removed):,} bytes are removed{kept}. This "
        f"training runs again if the comparison includes it."
    )


def test_reordered_rows_are_not_treated_as_incomplete(undisturbed: Path, tmp_path: Path) -> None:
    """Users may sort them in any way."""
    out = tmp_path / "rows.jsonl"
    lines = undisturbed.read_bytes().splitlines(keepends=True)
    random = np.random.RandomState(0)
    for _ in range(20):
        out.write_bytes(b"".join(lines[i] for i in random.permutation(len(lines))))
        assert len(result_rows.read_row_file(out)) == len(lines)


def test_refuses_file_with_other_content(mistake: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    options = ("--labels", "20", "--methods", "knn", "--seeds", "1")
    for content, message in (
        ('{"step": 20}\n', "lacks dataset, labels, method, seed and"),
        ("my notes", "is not JSON"),
        ('{"dataset": "digits", "lab\n{"dataset": ', "is not JSON"),
    ):
        out.write_text(content)
        sentence = mistake("compare", "digits", "--out", out, *options)
        assert sentence.startswith(f"{out}:1 {message}")
        assert sentence.endswith(": fix it, or choose another file with --out.")


def test_append_writes_all_rows_or_none_if_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    with result_rows.open_row_file(path) as held:
        held.append([{"a": 1}])

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            held.append([{"a": 2}, {"a": 3}])
    assert path.read_text() == '{"a": 1}\n'


# Locking


def test_second_comparison_is_refused_until_the_first_is_killed(tmp_path: Path, mistake: Callable[..., str]) -> None:
    out = tmp_path / "rows.jsonl"
    out.touch()
    code = "import time, pathlib; from ssgan import result_rows"
    code += f"\nwith result_rows.open_row_file(pathlib.Path({str(out)!r})):"
    code += "\n print('held', flush=True); time.sleep(600)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            assert mistake("compare", "digits", "--out", out, "--methods", "knn", "--seeds", "1") == (
                f"Another `ssgan compare` is writing {out}: wait until it is done, or choose another --out."
            )
        finally:
            process.kill()
    assert status_of("compare", "digits", "--out", out, "--methods", "knn", "--seeds", "1") == 0
    assert contents(tmp_path).keys() == {"rows.jsonl"}


# Failures


def test_invalid_cell_is_a_failed_row_and_the_others_are_trained(
    capsys: pytest.CaptureFixture[str], trainings: list[Any]
) -> None:
    """A GAN without an objective for its generator is refused; the baseline has no generator."""
    options = ["--labels", "20", "--methods", "gan,supervised,knn", "--seeds", "2", "--set=weight_feature_matching=0"]
    assert run(*options) == 0
    found = rows()
    why = "Every objective of the generator has weight 0"
    assert [(row["method"], (row.get("failed") or "")[: len(why)]) for row in found] == [
        *[("gan", why)] * 2, *[("supervised", "")] * 2, *[("knn", "")] * 2,
    ]  # fmt: skip
    assert found[0]["split_sha256"] == found[2]["split_sha256"]
    said = capsys.readouterr()
    assert f"gan, 20 labels, seed 0, 1: {why}" in said.out
    assert f"failed: {why}" in said.err
    # The next run tries it again, and the failure stays one row per seed.
    assert run(*options) == 0
    assert rows() == found
    assert run(*options, "--dry-run") == 0
    assert f"gan, 20 labels: {why}" in capsys.readouterr().out
    assert status_of("report", "rows.jsonl", "--out", "page") == 0


def test_training_that_runs_out_of_memory_is_a_failed_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(data: Data, config: Config, *rest: Any, **options: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "train", fail)
        assert run("--labels", "20", "--methods", "gan,knn", "--seeds", "2") == 0
    found = rows()
    assert [row.get("failed") for row in found[:2]] == [
        "There is not enough memory for this: lower seeds, batch_size, init_images or the widths."
    ] * 2
    # With enough memory it succeeds, and the result replaces the failure.
    assert run("--labels", "20", "--methods", "gan,knn", "--seeds", "2", "--json") == 0
    answer = last_object(capsys.readouterr().out)
    assert [(cell["n"], cell["failed"]) for cell in answer["cells"]] == [(2, {}), (2, {})]
    read = loader.load_rows([Path("rows.jsonl")])
    assert [row["failed"] for row in read.rows] == [None] * 4


def test_internal_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*rest: Any, **options: Any) -> Any:
        raise RuntimeError("a fault")

    monkeypatch.setattr(experiment, "train", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        run("--labels", "20", "--methods", "gan", "--seeds", "1")


def test_failure_by_damaged_scratch_folder_names_what_to_delete(few_digits: Data, tmp_path: Path) -> None:
    grid, path = grid_of(few_digits, "gan"), tmp_path / "rows.jsonl"
    (config,) = (cell.config for cell in grid.cells)
    assert config is not None
    folder = runner.run_folder(grid, config, path)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{")
    with result_rows.open_row_file(path) as held:
        runner.compare(grid, held)
        assert held.rows[0]["failed"].endswith(f"(delete {folder} to train it from the beginning).")


def test_failure_by_locked_scratch_folder_does_not_ask_to_delete_it(few_digits: Data, tmp_path: Path) -> None:
    grid, path = grid_of(few_digits, "gan"), tmp_path / "rows.jsonl"
    (config,) = (cell.config for cell in grid.cells)
    assert config is not None
    folder = runner.run_folder(grid, config, path)
    runs.create_run_folder(folder, "digits", config)
    with result_rows.open_row_file(path) as held, runs.lock_run(folder):
        runner.compare(grid, held)
        words = f"Another `ssgan` is training in {folder}: wait until it is done, or choose another folder with --out."
        assert {row["failed"] for row in held.rows} == {words}
    assert [one.name for one in folder.iterdir()] == ["config.json"]


def test_diverged_models_are_rows_and_not_trained_again(few_digits: Data, tmp_path: Path) -> None:
    grid = grid_of(few_digits, "gan", settings={**SETTINGS, "learning_rate_d": 1e30}, draw_seed=0)
    with result_rows.open_row_file(tmp_path / "rows.jsonl") as held:
        runner.compare(grid, held)
        assert [row["error"] for row in held.rows] == [None, None]
        assert all(row["diverged"] is not None for row in held.rows)
        assert runner.plan(grid, held.rows) == []
        (line,) = runner.summary(grid, held.rows)
        assert (line["n"], line["diverged"], line["error_mean"]) == (0, [0, 1], None)
    assert len(loader.load_rows([tmp_path / "rows.jsonl"]).rows) == 2


# Content of rows


def test_ensemble_row_matches_hand_computed_average(
    shared: tuple[grids.Grid, Path, list[dict[str, Any]]], few_digits: Data
) -> None:
    _, path, found = shared
    ensemble = next(row for row in found if row["method"] == "gan (ensemble)")
    models, _ = open_run(path.parent / ensemble["run"], torch.device("cpu"))
    p_NK = sum(models.select([seed]).probabilities(few_digits.x_test)[0] for seed in (0, 1)) / 2
    (error,), (nll,), (ece,) = score(np.asarray(p_NK)[None], few_digits.y_test).values()
    assert (ensemble["members"], ensemble["split_sha256"]) == ([0, 1], models.split_sha256[0])
    assert (ensemble["error"], ensemble["nll"]) == (error, pytest.approx(nll))
    assert ensemble["ece"] == pytest.approx(ece)
    assert sum(map(sum, ensemble["confusion"])) == len(few_digits.y_test)
    alone = [row for row in found if row["method"] == "gan" and "ablation" not in row]
    assert error not in [row["error"] for row in alone]
    assert [row["method"] for row in found if row.get("members")] == ["gan (ensemble)", "supervised (ensemble)"]


def test_models_of_different_draws_have_no_ensemble_row(few_digits: Data, tmp_path: Path) -> None:
    with result_rows.open_row_file(tmp_path / "rows.jsonl") as held:
        runner.compare(grid_of(few_digits), held)
        assert [(row["method"], row.get("failed")) for row in held.rows] == [
            *[("gan", None)] * 2,
            *[("supervised", None)] * 2,
        ]


def test_no_temperature_is_fitted_to_labels_that_were_trained_on(
    shared: tuple[grids.Grid, Path, list[dict[str, Any]]], few_digits: Data
) -> None:
    _, path, found = shared
    for row in found:
        assert not {"temperature", "nll_scaled", "ece_scaled"} & row.keys()
    for row in (row for row in found if not row.get("members")):
        models, report = open_run(path.parent / row["run"], torch.device("cpu"))
        assert report["calibration"]["temperature"] is None
        averaged = not row.get("ablation", "").startswith("without averaging")
        p = softmax(models.select([row["seed"]]).logits(few_digits.x_test, averaged)[0])
        assert row["nll"] == negative_log_likelihood(p, few_digits.y_test)
        assert row["error"] == score(p[None], few_digits.y_test)["error"][0]
        assert sum(one["count"] for one in row["reliability"]) == len(few_digits.y_test)
        assert np.trace(row["confusion"]) / 100 == pytest.approx(1 - row["error"] / 100)


def test_samples_are_copied_beside_the_file(shared: tuple[grids.Grid, Path, list[dict[str, Any]]]) -> None:
    """Only the first seed has samples."""
    _, path, found = shared
    for row in (row for row in found if not row.get("members")):
        trains = row["method"] == "gan" and "generator" not in row.get("ablation", "")
        wanted = trains and row["seed"] == 0 and "averaging" not in row.get("ablation", "")
        assert (row.get("samples") is not None) == wanted
        if wanted:
            copy = path.parent / row["samples"]
            assert copy.read_bytes() == (path.parent / row["run"] / "samples.png").read_bytes()
            assert copy.parent == path.with_name("rows-samples")


def test_a_report_is_made_of_the_rows(shared: tuple[grids.Grid, Path, list[dict[str, Any]]]) -> None:
    _, path, found = shared
    assert status_of("report", path, "--out", "page") == 0
    text = Path("page/report.md").read_text()
    assert len(loader.load_rows([path]).rows) == len(found) == 2 * 7 + 2
    assert loader.load_rows([path]).skipped == []
    for words in ("gan (ensemble) · 2 members", "ablation=without noise", "init\\_images=0", "Confusion matrices"):
        assert words in text
    assert "Generated images" in text
    assert "What was left out" not in text
    named = set(json.loads(json.dumps([row["ablation"] for row in found if "ablation" in row])))
    assert all(f"ablation={name}" in text for name in named)


def test_rows_of_a_classical_method_are_one_variant_for_all_numbers_of_labels(few_digits: Data, tmp_path: Path) -> None:
    from ssgan.report.grouping import group_rows

    path = tmp_path / "rows.jsonl"
    with result_rows.open_row_file(path) as held:
        runner.compare(grid_of(few_digits, ",".join(BASELINES), labels=[20, 35], settings={}), held)
    (section,) = group_rows(loader.load_rows([path]))
    assert sorted(section.names.values()) == sorted(BASELINES)
    assert all([group.labels for group in section.groups_of(variant)] == [20, 35] for variant in section.names)
