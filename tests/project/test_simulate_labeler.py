"""The simulated labeller: labels are added by the chosen strategy, and each training runs once."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import simulate_labeler
from simulate_labeler import LabelingTask, choose_rows, draw_pool

from ssgan.data.dataset import Data
from ssgan.files import read_json_lines


def test_trial_pools_hold_out_a_third_and_see_no_test_image(few_digits: Data) -> None:
    trial, published = (draw_pool(few_digits, 90, 3, choose) for choose in (True, False))
    assert (len(trial.x_train), len(trial.x_test), len(published.x_train)) == (60, 30, 90)
    assert np.array_equal(published.x_test, few_digits.x_test)
    together = np.concatenate([trial.x_train, trial.x_test])
    assert sorted(map(bytes, together)) == sorted(map(bytes, published.x_train))
    assert not np.array_equal(draw_pool(few_digits, 90, 4, False).x_train, published.x_train)


@pytest.mark.parametrize("strategy", ["random", "balanced", "typical"])
def test_strategies_add_the_given_number_of_labels(few_digits: Data, strategy: str) -> None:
    first = choose_rows(few_digits, strategy, 10, np.zeros(0, np.int64), None, 0)
    assert len(np.unique(first)) == 10
    more = choose_rows(few_digits, strategy, 10, first, None, 0)
    assert len(np.unique(more)) == 20
    if strategy == "balanced":
        assert np.bincount(few_digits.y_train[more]).tolist() == [2] * 10
    else:
        assert set(first) <= set(more)


def test_rows_are_written_once(few_digits: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_labeler, "load", lambda name: dataclasses.replace(few_digits, name=name))
    task = LabelingTask("digits-fast", {"total_images": 400, "discriminator_widths": (16, 8)}, (10, 20))
    monkeypatch.setattr(simulate_labeler, "TASKS", {"digits": task})
    out = tmp_path / "rows.jsonl"
    for strategies in ("typical,auto", "typical,auto,random"):
        monkeypatch.setattr(
            "sys.argv", ["simulate_labeler.py", "--choose", str(out), "--seeds", "1", "--strategies", strategies]
        )
        simulate_labeler.main()
    rows = [line.value for line in read_json_lines(out)]
    assert [(row["strategy"], row["labels"], row["seed"]) for row in rows] == [
        (strategy, labels, 1000) for strategy in ("typical", "auto", "random") for labels in (10, 20)
    ]
    assert rows[0]["split_sha256"] == rows[2]["split_sha256"]  # auto begins with typical images
    assert rows[0]["error"] == rows[2]["error"]
    assert all(1 <= row["labeled_classes"] <= 10 for row in rows)
