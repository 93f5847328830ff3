"""User errors: each command prints one line and writes nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from running import last_object, status_of
from small_configs import TINY_OPTIONS

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


TRAIN_ERRORS = {
    "unknown data set": (["nodata"], ["'nodata'", "choose from digits"]),
    "unknown method": (["digits", "--method", "gans"], ["method 'gans'", "gan, supervised", "Did you mean 'gan'?"]),
    "unknown preset": (["digits", "--preset", "digit"], ["preset 'digit'", "Did you mean 'digits'?"]),
    "misspelt setting": (
        ["digits", "--set", "lerning_rate_d=1"],
        ["'lerning_rate_d'", "Did you mean 'learning_rate_d'?"],
    ),
    "unknown setting": (["digits", "--set", "zzzz=1"], ["'zzzz'", "ssgan train DATA --dry-run"]),
    "value of the wrong type": (
        ["digits", "--set", "batch_size=abc"],
        ["batch_size", "'abc'", "an integer at least 2"],
    ),
    "value out of range": (["digits", "--set", "batch_size=1"], ["batch_size is 1,", "an integer at least 2"]),
    "NaN value": (
        ["digits", "--set", "learning_rate_d=nan"],
        ["learning_rate_d is nan", "a finite number at least 0"],
    ),
    "setting without value": (["digits", "--set", "batch_size"], ["'batch_size'", "field=value"]),
    "same setting twice": (["digits", "--set", "batch_size=8", "--set", "batch_size=9"], ["batch_size=9", "twice"]),
    "flag and setting": (["digits", "--labels", "50", "--set", "labels=20"], ["labels=20", "twice", "omit one"]),
    "epochs and total_images": (["digits", "--epochs", "1", "--set", "total_images=9"], ["total_images=9", "twice"]),
    "setting without effect": (
        ["digits", "--method", "supervised", "--set", "weight_fake=0.7"],
        ["=0.7", "method=gan"],
    ),
    "too many labels": (["digits", "--labels", "1258"], ["1258", "between 10", "and 1257", "'all'"]),
    "fewer labels than classes": (["digits", "--labels", "9"], ["is 9,", "between 10", "one for each class"]),
    "negative labels": (["digits", "--labels", "-5"], ["labels is -5", "at least 0", "'all'"]),
    "zero labels for vat": (["digits", "--labels", "0", "--method", "vat"], ["labels is 0", "vat", "method gan"]),
    "labels not a number": (["digits", "--labels", "abc"], ["labels is 'abc'", "an integer", "'all'"]),
    "draw seed for all": (["digits", "--labels", "all", "--draw-seed", "3"], ["draw_seed=3", "a number of labels"]),
    "zero seeds": (["digits", "--seeds", "0"], ["seeds is 0", "at least 1 and at most 4096"]),
    "negative seed": (["digits", "--seed", "-1"], ["seed is -1", "at least 0"]),
    "zero epochs": (["digits", "--epochs", "0"], ["--epochs is 0", "above 0"]),
    "negative epochs": (["digits", "--epochs", "-1"], ["--epochs is -1", "above 0"]),
    "NaN epochs": (["digits", "--epochs", "nan"], ["--epochs is nan", "a number above 0"]),
    "infinite epochs": (["digits", "--epochs", "inf"], ["--epochs is inf", "a number above 0"]),
    "too many epochs": (["digits", "--epochs", "1e300"], ["--epochs is 1e300", "more images than can be counted"]),
    "preset as a setting": (["digits", "--set", "preset=mine"], ["preset", "--preset"]),
    "every objective with weight 0": (
        ["digits", "--set", "weight_feature_matching=0"],
        ["weight 0", "set one of", "weight_fake=0"],
    ),
    "unknown device": (["digits", "--device", "tpu"], ["'tpu'", "choose from auto", "cpu"]),
    "unknown option": (["digits", "--lables", "20"], ["--lables", "--help"]),
    "extra argument": (["digits", "mnist"], ["mnist", "--help"]),
    "option without value": (["digits", "--labels"], ["--labels", "--help"]),
    "missing argument": ([], ["DATA", "--help"]),
}


@pytest.mark.parametrize(("arguments", "words"), TRAIN_ERRORS.values(), ids=TRAIN_ERRORS)
def test_train_refuses_invalid_arguments(mistake: Callable[..., str], arguments: list[str], words: list[str]) -> None:
    sentence = mistake("train", *arguments)
    assert [word for word in words if word not in sentence] == [], sentence


def test_unknown_command_is_refused_with_help_hint(mistake: Callable[..., str]) -> None:
    sentence = mistake("trian", "digits")
    assert "'trian'" in sentence
    assert "--help" in sentence


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device that should be missing")
def test_unavailable_device_is_refused(mistake: Callable[..., str], trained: tuple[Path, str]) -> None:
    for command in (["train", "digits"], ["evaluate", trained[0]]):
        assert mistake(*command, "--device", "cuda").startswith("There is no device 'cuda' here: choose from auto, ")


def test_a_folder_that_exists_is_not_written_to(mistake: Callable[..., str], tmp_path: Path) -> None:
    for name in ("folder", "file"):
        path = tmp_path / name
        path.write_text("mine") if name == "file" else (path / "mine").mkdir(parents=True)
        sentence = mistake("train", "digits", "--out", path, *TINY_OPTIONS)
        assert sentence == (
            f"{path} exists already: choose another folder with --out, or resume the run in it with --resume."
        )


def test_out_of_memory_in_first_step_removes_new_run_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Memory runs out in the first step; a folder with a checkpoint is kept."""

    def fail(*_: object) -> None:
        raise MemoryError

    train = ["train", "digits", "--labels", "20", "--device", "cpu", "--out", "run", *TINY_OPTIONS]
    with monkeypatch.context() as patched:
        patched.setattr("ssgan.training.trainer.Trainer.step", fail)
        assert status_of(*train) == 2
    assert "There is not enough memory for this: lower seeds, batch_size" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert status_of(*train) == 0
    with monkeypatch.context() as patched:
        patched.setattr("ssgan.training.trainer.Trainer.step", fail)
        assert status_of("train", "digits", "--out", "run", "--resume", "--set", "total_images=4000") == 2
    assert (tmp_path / "run" / "checkpoint").exists()


def test_a_folder_that_cannot_be_made_is_refused(mistake: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("file/run", "file/deep/run"):
        sentence = mistake("train", "digits", "--out", name, *TINY_OPTIONS)
        assert sentence == f"The folder {name} cannot be created (Not a directory): choose another with --out."


def test_runs_folder_that_is_a_file_is_refused(mistake: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("mine")
    assert "runs/1-digits-50-gan cannot be created" in mistake("train", "digits", *TINY_OPTIONS)


@pytest.mark.parametrize("command", ["evaluate", "data"])
def test_missing_run_is_refused(mistake: Callable[..., str], command: str) -> None:
    sentence = mistake(command, "runs/9-digits")
    assert "runs/9-digits" in sentence
    assert {"evaluate": "`ssgan train` printed", "data": "There is no folder or file"}[command] in sentence


def test_folder_without_run_is_refused(mistake: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert mistake("evaluate", "folder") == "folder is not a run folder: there is no config.json in it."
    assert mistake("data", "folder").startswith("folder has no pictures: ")
    assert "there is no folder" not in mistake("evaluate", "folder")


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "x.png"], ["data"]])
def test_a_run_without_a_checkpoint_is_refused(mistake: Callable[..., str], run: Path, command: list[str]) -> None:
    (run / "report.json").unlink()
    (run / "checkpoint").unlink()
    assert mistake(command[0], "run", *command[1:]) == (
        "run is a run that did not finish (resume it with `ssgan train DATA --out RUN --resume`): there is no "
        "report.json in it."
    )


def test_data_refuses_unfinished_run(mistake: Callable[..., str], run: Path) -> None:
    (run / "report.json").unlink()
    assert "resume it with `ssgan train DATA --out RUN --resume`" in mistake("data", "run")


@pytest.mark.parametrize("name", ["config.json", "report.json"])
def test_a_damaged_file_of_a_run_is_refused(mistake: Callable[..., str], run: Path, name: str) -> None:
    (run / name).write_bytes((run / name).read_bytes()[:-20])
    assert mistake("evaluate", "run") == f"run/{name} cannot be read: it is damaged or in another format."


def test_a_run_of_another_version_is_refused(mistake: Callable[..., str], run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "weight_of_tomorrow": 1.0}))
    sentence = mistake("evaluate", "run")
    assert "settings that this version" in sentence
    assert "weight_of_tomorrow" in sentence


def test_a_damaged_checkpoint_is_refused(mistake: Callable[..., str], run: Path) -> None:
    whole = (run / "checkpoint").read_bytes()
    (run / "checkpoint").write_bytes(whole[: len(whole) // 2])
    expected = "run/checkpoint cannot be read as a checkpoint: it is damaged or in another format."
    assert mistake("evaluate", "run") == expected
    (run / "checkpoint").unlink()
    assert (
        mistake("evaluate", "run") == "There is no run/checkpoint: the run did not finish, or this is not a run folder."
    )


def test_a_checkpoint_of_other_networks_is_refused(mistake: Callable[..., str], run: Path) -> None:
    state = torch.load(run / "checkpoint", weights_only=True)
    weights = state["networks"]["D"]["parameters"]
    name = next(iter(weights))
    weights[name] = weights[name][..., :-1]
    torch.save(state, run / "checkpoint")
    sentence = mistake("evaluate", "run")
    assert name in sentence
    assert "do not fit" in sentence


def test_a_run_with_a_changed_split_is_refused(mistake: Callable[..., str], run: Path) -> None:
    content = json.loads((run / "split.json").read_text())
    content["splits"][1]["y"][0] = 9 - content["splits"][1]["y"][0]
    (run / "split.json").write_text(json.dumps(content))
    assert mistake("data", "run") == (
        "run/split.json does not match its own SHA-256: it was changed after it was written."
    )


def test_data_and_evaluate_refuse_invalid_options(mistake: Callable[..., str], run: Path) -> None:
    assert "omit --labels" in mistake("data", "run", "--labels", "20")
    assert "omit --draw-seed" in mistake("data", "run", "--draw-seed", "3")
    assert "--draw-seed 7 has no effect" in mistake("data", "digits", "--draw-seed", "7")
    assert "'nodata'" in mistake("evaluate", "run", "--data", "nodata")
    assert "'tpu'" in mistake("evaluate", "run", "--device", "tpu")
    assert "labels is 'abc'" in mistake("data", "digits", "--labels", "abc")
    assert "between 10 (one for each class) and 1257" in mistake("data", "digits", "--labels", "5000")
    assert "draw_seed is -1" in mistake("data", "digits", "--labels", "20", "--draw-seed", "-1")
    for command, argument in (("evaluate", "RUN"), ("data", "DATA|RUN")):
        assert mistake(command) == f"Missing argument '{argument}'. See `ssgan {command} --help`."


def test_error_names_value_refused_by_typer(mistake: Callable[..., str]) -> None:
    assert "abc" in mistake("train", "digits", "--seeds", "abc")


def test_labels_none_is_not_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    status = status_of("train", "digits", "--labels", "none", "--dry-run", "--json")
    assert status == 2 or last_object(capsys.readouterr().out)["labels"] is None


def test_config_that_is_not_an_object_is_refused(mistake: Callable[..., str], run: Path) -> None:
    (run / "config.json").write_text("null")
    assert "config.json" in mistake("evaluate", "run")


def test_empty_report_is_refused(mistake: Callable[..., str], run: Path) -> None:
    (run / "report.json").write_text("{}")
    assert "report.json" in mistake("evaluate", "run")


def test_checkpoint_without_state_is_refused(mistake: Callable[..., str], run: Path) -> None:
    torch.save({"format_version": 1}, run / "checkpoint")
    assert "checkpoint" in mistake("evaluate", "run")


def test_a_checkpoint_with_a_changed_weight_is_refused(mistake: Callable[..., str], run: Path) -> None:
    path = run / "checkpoint"
    content, weights = path.read_bytes(), torch.load(path, weights_only=True)["average"]["sums"]
    at = content.index(max(weights.values(), key=torch.numel).numpy().tobytes())
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert "checkpoint" in mistake("evaluate", "run")
