"""Training from the weights of a parent run: initial state, resumption to the same bits, and no leak."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from resumed_runs import differences, left_by, without_clock
from small_backbones import coloured_data, feature_config, use_small_backbone
from small_configs import tiny

from ssgan import runs
from ssgan.data.dataset import Data, image_ids
from ssgan.data.splits import make_splits
from ssgan.errors import UserError
from ssgan.inference.models import open_latest, open_run
from ssgan.settings.config import Config
from ssgan.training.experiment import Paused, run_experiment
from ssgan.training.parent import Parent, check_parent, open_parent
from ssgan.training.trainer import train

CPU = torch.device("cpu")
LONGER = tiny(labels=30, total_images=600)


def finished(folder: Path, data: Data, config: Config, parent: Parent | None = None) -> Path:
    record = None if parent is None else parent.record(config)
    run_experiment(data, config, runs.create_run_folder(folder, data.name, config, record), parent=parent)
    return folder


def state_at_start(data: Data, config: Config, parent: Parent) -> dict[str, Any]:
    """A copy of all that a checkpoint holds before the first step."""
    states: list[dict[str, Any]] = []

    def copy(state: dict[str, Any]) -> None:
        runs.save_checkpoint(parent.run / "start", state)
        states.append(runs.load_checkpoint(parent.run / "start"))

    train(data, config, start=parent, on_start=copy)
    (state,) = states
    return state


def refused(parent: Parent, data: Data, config: Config) -> str:
    with pytest.raises(UserError) as caught:
        check_parent(parent, config, data, make_splits(data.y_train, config.labels, config.draw_seeds))
    return str(caught.value)


@pytest.fixture(scope="module")
def run(few_digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("parent") / "run", few_digits, tiny(weight_historical_averaging=0.01))


@pytest.fixture(scope="module")
def two(few_digits: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("two") / "two", few_digits, tiny(seed=3, seeds=2))


def only(data: Data, classes: list[int]) -> Data:
    """The images of some classes, in this order."""
    shares = {}
    for share in ("train", "test"):
        x, y = getattr(data, f"x_{share}"), getattr(data, f"y_{share}")
        rows = np.isin(y, classes)
        shares |= {f"x_{share}": x[rows], f"y_{share}": np.array([classes.index(one) for one in y[rows]])}
    return dataclasses.replace(data, **shares, classes=tuple(data.classes[one] for one in classes))


# The start


def test_initial_weights_and_average_equal_the_parent_bit_for_bit(few_digits: Data, run: Path) -> None:
    config = LONGER.replace(weight_historical_averaging=0.01)
    state, saved = state_at_start(few_digits, config, open_parent(run)), runs.load_checkpoint(run / "checkpoint")
    assert state["steps_done"] == 0
    assert differences(state["networks"], saved["networks"]) == []
    assert differences(state["average"], saved["average"]) == []
    assert 0 < saved["average"]["mass"] < 1
    assert differences(state["history"]["D"], saved["networks"]["D"]["parameters"]) == []
    assert all(float(moment.abs().sum()) == 0 for moment in state["optimizers"]["D"]["first"])


@pytest.mark.parametrize("method", ["gan", "mean-teacher"])
def test_average_covers_only_the_steps_of_the_child(few_digits: Data, run: Path, method: str) -> None:
    """After one step it equals D; the teacher of the first step is D too, as without a parent."""
    config = LONGER.replace(method=method, total_images=20)
    one = train(few_digits, config, start=open_parent(run))
    assert one.trainer.ema_mass == pytest.approx(1 - config.ema_decay)
    for name, value in one.models.averaged.items():
        torch.testing.assert_close(value, one.trainer.stacks["D"].parameters[name])


def test_model_starts_from_the_parent_model_of_its_seed_or_the_only_one(few_digits: Data, run: Path, two: Path) -> None:
    saved = runs.load_checkpoint(two / "checkpoint")["networks"]["D"]["parameters"]
    state = state_at_start(few_digits, LONGER.replace(seed=4, draw_seed=4), open_parent(two))
    for name, value in state["networks"]["D"]["parameters"].items():
        assert torch.equal(value, saved[name][1:])
    single = runs.load_checkpoint(run / "checkpoint")["networks"]["G"]["parameters"]
    state = state_at_start(few_digits, LONGER.replace(seeds=3, draw_seed=0), open_parent(run))
    for name, value in state["networks"]["G"]["parameters"].items():
        assert torch.equal(value, single[name].expand_as(value))


def test_output_rows_are_matched_by_class_name_and_new_ones_are_random(few_digits: Data, tmp_path: Path) -> None:
    """The child has the classes in another order, one more, and one less."""
    parent = open_parent(finished(tmp_path / "few", only(few_digits, [0, 1, 2, 3]), tiny(labels=8)))
    child, config = only(few_digits, [9, 3, 1, 0]), tiny(labels=None)
    saved = runs.load_checkpoint(parent.run / "checkpoint")
    state = state_at_start(child, config, parent)
    for place in ("networks", "average"):
        ours, theirs = (
            one[place]["D"]["parameters"] if place == "networks" else one[place]["sums"] for one in (state, saved)
        )
        outputs = [name for name in ours if name.startswith("output.")]
        assert len(outputs) == 3
        for name in outputs:
            assert torch.equal(ours[name][:, 1:], theirs[name][:, [3, 1, 0]])
            assert ours[name][:, 0].isfinite().all()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours if name not in outputs)
    assert parent.new_classes(child.classes) == ["9"]
    assert parent.lost_classes(child.classes) == ["2"]
    errors = train(child, config, start=parent).errors
    assert errors[0] is not None


def test_missing_generator_is_new_and_unneeded_generator_is_dropped(
    few_digits: Data, run: Path, tmp_path: Path
) -> None:
    plain = open_parent(finished(tmp_path / "plain", few_digits, tiny(method="supervised")))
    assert {*state_at_start(few_digits, LONGER, plain)["networks"]} == {"D", "G"}
    supervised = state_at_start(few_digits, LONGER.replace(method="supervised"), open_parent(run))
    assert {*supervised["networks"]} == {"D"}


def test_reference_batch_of_another_size_is_taken_from_the_child(few_digits: Data, tmp_path: Path) -> None:
    config = tiny(minibatch_kernels=3, generator_norm="virtual")
    parent = open_parent(finished(tmp_path / "kernels", few_digits, config))
    other = config.replace(batch_size=25, labels=30)
    buffers = state_at_start(few_digits, other, parent)["networks"]["D"]["buffers"]
    assert buffers["reference"].shape[1] == 24
    assert float(buffers["reference"].abs().sum()) > 0


# Record of the parent


def test_parent_is_recorded_in_run_folder_report_and_rows(few_digits: Data, run: Path, tmp_path: Path) -> None:
    child = finished(tmp_path / "child", few_digits, LONGER, open_parent(run))
    record, report = runs.read_parent(child), runs.read_report(child)
    assert record is not None
    labeled = record.pop("labeled")
    assert record == report["parent"]
    assert (record["run"], record["images"], record["labels"], record["seeds"]) == (str(run), 400, 20, [0])
    split = json.loads((run / "split.json").read_text())["splits"][0]
    assert labeled == [split["ids"]] == [image_ids(few_digits.x_train[split["indices"]])]
    assert report["rows"][0]["settings"]["parent"] == record["weights_sha256"][:12]
    assert runs.load_checkpoint(child / "checkpoint")["parent"]["weights_sha256"] == record["weights_sha256"]
    grandchild = open_parent(child).record(LONGER.replace(labels=40))
    assert {*labeled[0]} < {*grandchild["labeled"][0]}  # labels of the child and of its parent
    assert len(grandchild["labeled"][0]) == 30


def test_weights_hash_depends_on_the_weights(few_digits: Data, run: Path, two: Path) -> None:
    assert open_parent(run).weights_sha256 == open_parent(run).weights_sha256 != open_parent(two).weights_sha256


# Resume


def test_child_resumes_to_the_same_bits_without_its_parent(few_digits: Data, run: Path, tmp_path: Path) -> None:
    """Killed before its first step, and paused later."""
    parent = shutil.copytree(run, tmp_path / "run")
    config = LONGER.replace(weight_historical_averaging=0.01, seeds=2, draw_seed=0)
    whole = finished(tmp_path / "whole", few_digits, config, open_parent(parent))

    def kill(_: Any) -> None:
        raise KeyError

    other = tmp_path / "other"
    runs.create_run_folder(other, "digits", config, open_parent(parent).record(config))
    with pytest.raises(KeyError):
        run_experiment(few_digits, config, other, kill)
    assert runs.load_checkpoint(other / "checkpoint")["steps_done"] == 0
    shutil.rmtree(parent)
    models, report = open_latest(other, CPU)  # the weights of the parent can be used until then
    assert (models.progress, report["parent"]["images"]) == (
        f"{other} has not finished: these are its models after 0 of 600 images.",
        400,
    )
    for _ in range(2):
        with pytest.raises(Paused):
            run_experiment(few_digits, config, other, pause_after_seconds=0)
    run_experiment(few_digits, config, other)
    assert differences(left_by(whole), left_by(other)) == []


def test_child_without_a_checkpoint_starts_from_the_recorded_parent(
    few_digits: Data, run: Path, tmp_path: Path
) -> None:
    """Killed while it was created; the parent must still exist with the same weights."""
    parent = shutil.copytree(run, tmp_path / "run")
    whole = finished(tmp_path / "whole", few_digits, LONGER, open_parent(parent))
    other = runs.create_run_folder(tmp_path / "other", "digits", LONGER, open_parent(parent).record(LONGER))
    parent.rename(tmp_path / "gone")
    with pytest.raises(UserError) as caught:
        run_experiment(few_digits, LONGER, other)
    assert str(caught.value).startswith(f"{other} has not started from its parent yet: There is no run folder {parent}")
    finished(parent, few_digits, tiny(labels=20, seed=0, total_images=200))
    with pytest.raises(UserError, match="whose weights have changed since"):
        run_experiment(few_digits, LONGER, other)
    shutil.rmtree(parent)
    (tmp_path / "gone").rename(parent)
    run_experiment(few_digits, LONGER, other)
    assert differences(left_by(whole), left_by(other)) == []


def test_child_without_parent_json_is_refused(few_digits: Data, run: Path, tmp_path: Path) -> None:
    child = finished(tmp_path / "child", few_digits, LONGER, open_parent(run))
    (child / "parent.json").unlink()
    (child / "report.json").unlink()
    with pytest.raises(UserError, match=r"The checkpoint and parent.json of .* are not of the same run"):
        run_experiment(few_digits, LONGER, child)


def test_new_run_in_a_folder_removes_a_stale_parent_json(run: Path, tmp_path: Path) -> None:
    """A process was killed after parent.json and before config.json, and another run uses the folder."""
    (tmp_path / "run").mkdir()
    shutil.copy(run / "config.json", tmp_path / "run" / "parent.json")
    runs.create_run_folder(tmp_path / "run", "digits", LONGER)
    assert runs.read_parent(tmp_path / "run") is None


# No leak


def test_child_that_hides_labels_of_its_parent_is_refused(few_digits: Data, run: Path) -> None:
    parent = open_parent(run)
    words = (
        "so that it would know more labels than it reports: use at least as many, of the same draw "
        "(--draw-seed), or all."
    )
    for config in (LONGER.replace(draw_seed=7), LONGER.replace(labels=10)):
        assert refused(parent, few_digits, config).endswith(words)
    check_parent(parent, LONGER, few_digits, make_splits(few_digits.y_train, 30, [0]))
    with pytest.raises(UserError, match="would know more labels"):
        train(few_digits, LONGER.replace(draw_seed=7), start=parent)
    # A label that the user removed from the data is not hidden.
    y = few_digits.y_train.copy()
    y[make_splits(y, 20, [0])[0].indices] = -1
    check_parent(parent, LONGER, dataclasses.replace(few_digits, y_train=y), make_splits(y, 30, [0]))


def test_test_set_with_labelled_images_of_the_parent_is_refused(few_digits: Data, run: Path) -> None:
    """Except if the pool of the child has a copy of them, as in any run."""
    rows = make_splits(few_digits.y_train, 20, [0])[0].indices
    others = np.setdiff1d(np.arange(300), rows)
    moved = dataclasses.replace(
        few_digits,
        x_train=few_digits.x_train[others],
        y_train=few_digits.y_train[others],
        x_test=few_digits.x_train[rows],
        y_test=few_digits.y_train[rows],
    )
    assert "learned from the labels of 20 test images of digits" in refused(open_parent(run), moved, LONGER)


def test_folds_are_refused(few_digits: Data, run: Path) -> None:
    assert refused(open_parent(run), few_digits, LONGER.replace(folds=3)).startswith("folds is 3, but the weights of")


def test_parent_without_recorded_images_gives_a_warning(few_digits: Data, run: Path, tmp_path: Path) -> None:
    """It was trained before runs recorded them, on data that no longer exist."""
    old = shutil.copytree(run, tmp_path / "old")
    content = json.loads((old / "split.json").read_text())
    del content["splits"][0]["ids"]
    (old / "split.json").write_text(json.dumps(content))
    parent = open_parent(old)
    assert parent.learned is None
    child = finished(tmp_path / "child", few_digits, LONGER, parent)
    assert "did not record which images it learned from" in runs.read_report(child)["warnings"][0]


# Incompatible parents


def test_incompatible_settings_are_reported_with_both_values(few_digits: Data, run: Path, two: Path) -> None:
    parent = open_parent(run)
    for name, old, new in (
        ("discriminator_widths", "16,12", (8,)),
        ("generator_widths", "10", (8,)),
        ("latent_size", "6", 7),
        ("network", "mlp", "gan-mlp"),
    ):
        shown = ",".join(map(str, new)) if isinstance(new, tuple) else new
        message = refused(parent, few_digits, LONGER.replace(**{name: new}))
        assert message.startswith(f"{name} of {run} is {old}, and this run would have {shown}: "), message
    assert refused(open_parent(two), few_digits, LONGER.replace(seeds=3, seed=3)) == (
        f"{two} has models of the seeds 3,4, and this run would have 3,4,5: a model starts from that of its seed, or "
        f"every model from a single one."
    )
    assert refused(parent, few_digits, feature_config(labels=20)).startswith(
        f"backbone of {run} is none, and this run would "
    )
    pixels = dataclasses.replace(few_digits, x_train=few_digits.x_train[:, :6], x_test=few_digits.x_test[:, :6])
    assert f"{run} learned from images of shape [8, 8], and digits holds [6, 8]" in refused(parent, pixels, LONGER)
    named = dataclasses.replace(few_digits, classes=tuple("abcdefghij"))
    assert "knows the classes 0, 1, 2, 3, ..., and digits has a, b, c, d, ...: no class" in refused(
        parent, named, LONGER
    )
    assert refused(parent, few_digits, LONGER.replace(labels=0, method="gan")) == (
        f"{run} is a classifier, and this run would be a GAN without classes: neither starts from the other."
    )


def test_diverged_parent_is_refused(few_digits: Data, two: Path, tmp_path: Path) -> None:
    """Only the models that the child would start from are checked."""
    lost = shutil.copytree(two, tmp_path / "lost")
    state = torch.load(lost / "checkpoint", weights_only=True)
    state["networks"]["D"]["parameters"]["output.b"][1] = float("nan")
    torch.save(state, lost / "checkpoint")
    parent = open_parent(lost)
    assert refused(parent, few_digits, LONGER.replace(seed=3, seeds=2)) == (
        f"{lost} diverged (seed 4), so its weights cannot be used: train from scratch."
    )
    check_parent(parent, LONGER.replace(seed=3))


# Features of a backbone


def test_child_uses_the_feature_map_of_its_parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its pool differs, so that a new feature map would differ. A resumed child uses the parent's map too."""
    use_small_backbone(monkeypatch)
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    config = feature_config(labels=6, total_images=400, report_every_images=100)
    data = coloured_data()
    parent = open_parent(finished(tmp_path / "run", data, config))
    fewer = dataclasses.replace(data, x_train=data.x_train[:30], y_train=data.y_train[:30])
    child = config.replace(labels="all")
    whole = finished(tmp_path / "whole", fewer, child, parent)
    models, _ = open_run(whole, CPU)
    assert models.feature_map is not None
    assert parent.models.feature_map is not None
    assert np.array_equal(models.feature_map.weight, parent.models.feature_map.weight)
    assert np.array_equal(models.feature_map.pool, parent.models.feature_map.pool)
    other = runs.create_run_folder(tmp_path / "other", fewer.name, child, parent.record(child))
    for _ in range(2):
        with pytest.raises(Paused):
            run_experiment(fewer, child, other, pause_after_seconds=0, parent=parent)
    run_experiment(fewer, child, other)
    ours, theirs = (without_clock(runs.load_checkpoint(folder / "checkpoint")) for folder in (whole, other))
    assert differences(ours, theirs) == []
    assert refused(parent, fewer, child.replace(feature_components=3)).startswith(
        f"feature_components of {parent.run} is "
    )
