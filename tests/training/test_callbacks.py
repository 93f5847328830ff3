"""TensorBoard events: every line of the log once, for each seed, whatever happened on the way."""

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
    """What the log says, as scalars of each seed."""
    found: dict[int, dict[str, list[tuple[int, float]]]] = {seed: {} for seed in seeds}
    for line in runs.read_log(folder):
        for i, seed in enumerate(seeds):
            for name, values in line.items():
                if isinstance(values, list):
                    tag = NAMES.get(name, f"train/{name}")
                    found[seed].setdefault(tag, []).append((line["images"], values[i]))
    return found


def told(folder: Path, seeds: list[int]) -> dict[int, dict[str, list[tuple[int, float]]]]:
    """What TensorBoard reads, but for the speed."""
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
    """In everything, and in values up to float32."""

    def flat(side: Any) -> list[tuple[Any, ...]]:
        tags = [(seed, tag, every) for seed, tags in side.items() for tag, every in sorted(tags.items())]
        return [(seed, tag, *one) for seed, tag, every in tags for one in every]

    pairs = zip(flat(ours), flat(theirs), strict=True)
    for a, b in pairs:
        assert a[:3] == b[:3]
        assert math.isclose(a[3], b[3], rel_tol=1e-6)


def test_every_line_of_the_log_is_told_once(few_digits: Data, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = tiny(seed=3, seeds=2, evaluate_every_images=200, tensorboard=True)
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    run_experiment(few_digits, config, folder)
    assert_same(told(folder, [3, 4]), expected(folder, [3, 4]))
    assert {"error/averaged", "train/L", "train/p_real_fake"} <= told(folder, [3, 4])[3].keys()


@pytest.mark.parametrize("before", [True, False], ids=["told before", "told from now on"])
def test_a_run_that_goes_on_tells_nothing_twice_and_leaves_nothing_out(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """Killed some reports after its last checkpoint: what comes again replaces what was told."""
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
    assert_same(told(folder, [0, 1]), expected(folder, [0, 1]))


def test_events_are_on_the_disk_before_the_checkpoint_that_is_beyond_them(
    few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ends the process in the next moment takes nothing away that would not be told again."""
    pytest.importorskip("tensorboard")
    done, flush, save = [], tensorboard.TensorBoard.flush, runs.save_checkpoint
    monkeypatch.setattr(tensorboard.TensorBoard, "flush", lambda self: done.append("told") or flush(self))
    monkeypatch.setattr(runs, "save_checkpoint", lambda *what: done.append("saved") or save(*what))
    config = tiny(checkpoint_every_seconds=0.0, tensorboard=True)
    run_experiment(few_digits, config, runs.create_run_folder(tmp_path / "run", "digits", config))
    assert done == ["told", "saved"] * 4


def test_a_session_without_events_leaves_no_gap(few_digits: Data, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = tiny(tensorboard=True)
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    for telling in (True, False, True):
        with pytest.raises(Paused):
            run_experiment(few_digits, config.replace(tensorboard=telling), folder, pause_after_seconds=0)
    run_experiment(few_digits, config, folder)
    assert_same(told(folder, [0]), expected(folder, [0]))


def test_events_have_no_part_in_the_weights(few_digits: Data, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    found = []
    for telling in (True, False):
        config = tiny(tensorboard=telling)
        folder = runs.create_run_folder(tmp_path / str(telling), "digits", config)
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
def test_without_the_extra_nothing_is_begun(
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
