"""TensorBoard events: each log line once for each seed, also after interruptions."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from running import contents, status_of
from small_configs import tiny

from ssgan import runs
from ssgan.data.dataset import Data
from ssgan.training import tensorboard
from ssgan.training.experiment import Paused, run_experiment

NAMES = {"errors": "error/averaged", "errors_raw": "error/last_step"}


def expected(folder: Path, seeds: list[int]) -> dict[int, dict[str, list[tuple[int, float]]]]:
    """The values of the log, as scalars of each seed."""
    found: dict[int, dict[str, list[tuple[int, float]]]] = {seed: {} for seed in seeds}
    for line in runs.read_log(folder):
        for i, seed in enumerate(seeds):
            for name, values in line.items():
                if isinstance(values, list):
                    tag = NAMES.get(name, f"train/{name}")
                    found[seed].setdefault(tag, []).append((line["images"], values[i]))
    return found


def read_events(folder: Path, seeds: list[int]) -> dict[int, dict[str, list[tuple[int, float]]]]:
    """The scalars that TensorBoard reads, without the speed."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = {}
    assert sorted(path.name for path in (folder / "tensorboard").iterdir()) == [f"seed-{seed}" for seed in seeds]
    for seed in seeds:
        read = accumulator.EventAccumulator(str(folder / "tensorboard" / f"seed-{seed}"), {"scalars": 0})
        read.Reload()
        tags = read.Tags()["scalars"]
        assert len(read.Scalars("images_per_second")) == len(runs.read_log(folder))
        found[seed] = {
            tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in tags if tag != "images_per_second"
        }
    return found


def assert_same(ours: Any, theirs: Any) -> None:
    """Compare seeds, tags and steps exactly, and values in float32 precision."""

    def flat(side: Any) -> list[tuple[Any, ...]]:
        tags = [(seed, tag, every) for seed, tags in side.items() for tag, every in sorted(tags.items())]
        return [(seed, tag, *one) for seed, tag, every in tags for one in every]

    pairs = zip(flat(ours), flat(theirs), strict=True)
    for a, b in pairs:
        assert a[:3] == b[:3]
        assert math.isclose(a[3], b[3], rel_tol=1e-6)


def test_every_log_line_is_written_to_tensorboard_once(few_digits: Data, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = tiny(seed=3, seeds=2, evaluate_every_images=200, tensorboard=True)
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    run_experiment(few_digits, config, folder)
    assert_same(read_events(folder, [3, 4]), expected(folder, [3, 4]))
    assert {"error/averaged", "train/L", "train/p_real_fake"} <= read_events(folder, [3, 4])[3].keys()


@pytest.mark.parametrize("before", [True, False], ids=["from the start", "from the last session"])
def test_resumed_run_writes_every_event_exactly_once(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """Killed some reports after its last checkpoint: repeated reports replace the earlier events."""
    pytest.importorskip("tensorboard")
    config = tiny(seeds=2, report_every_images=20, tensorboard=before)
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    with pytest.raises(Paused):
        run_experiment(few_digits, config, folder, pause_after_seconds=0)

    def killed(report: Any) -> None:
        if report.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(few_digits, config, folder, killed)
    assert runs.read_log(folder)[-1]["step"] == 7
    run_experiment(few_digits, config.replace(tensorboard=True), folder)
    assert_same(read_events(folder, [0, 1]), expected(folder, [0, 1]))


def test_events_are_flushed_before_each_checkpoint(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the process is killed at any moment, no event is lost."""
    pytest.importorskip("tensorboard")
    done, flush, save = [], tensorboard.TensorBoard.flush, runs.save_checkpoint
    monkeypatch.setattr(tensorboard.TensorBoard, "flush", lambda self: done.append("told") or flush(self))
    monkeypatch.setattr(runs, "save_checkpoint", lambda *what: done.append("saved") or save(*what))
    config = tiny(checkpoint_every_seconds=0.0, tensorboard=True)
    run_experiment(few_digits, config, runs.create_run_folder(tmp_path / "run", "digits", config))
    assert done == ["told", "saved"] * 4


def test_events_have_no_gap_after_a_session_without_tensorboard(few_digits: Data, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = tiny(tensorboard=True)
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    for enabled in (True, False, True):
        with pytest.raises(Paused):
            run_experiment(few_digits, config.replace(tensorboard=enabled), folder, pause_after_seconds=0)
    run_experiment(few_digits, config, folder)
    assert_same(read_events(folder, [0]), expected(folder, [0]))


def test_tensorboard_does_not_change_the_results(few_digits: Data, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    found = []
    for enabled in (True, False):
        config = tiny(tensorboard=enabled)
        folder = runs.create_run_folder(tmp_path / str(enabled), "digits", config)
        run_experiment(few_digits, config, folder)
        log = [{k: v for k, v in line.items() if k != "images_per_second"} for line in runs.read_log(folder)]
        found.append((config.sha256, log, (folder / "samples.png").read_bytes()))
    assert found[0] == found[1]
    assert not (tmp_path / "False" / "tensorboard").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["train", "digits", "--set", "total_images=400", "--set", "batch_size=20"],
        ["train", "digits", "--set", "total_images=400", "--dry-run"],
        ["compare", "digits", "--methods", "gan", "--epochs", "1", "--out", "rows.jsonl"],
    ],
    ids=["train", "dry run", "compare"],
)
def test_missing_tensorboard_is_refused_before_anything_is_written(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    assert status_of(*command, "--set", "tensorboard=true") == 2
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "ssgan: tensorboard is true, but TensorBoard is not installed: pip install 'ssgan[tensorboard]', or omit the "
        "setting.\n",
    )
    assert contents(tmp_path) == {}
