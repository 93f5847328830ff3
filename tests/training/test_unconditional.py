"""A GAN without classes, ``labels`` 0: equality with a textbook loop, no use of labels, and all commands."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import last_object, status_of
from small_configs import tiny
from small_trainings import labeled_splits
from textbook_gan import assert_training_equals_textbook
from torch import nn

from ssgan import result_rows
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.errors import UserError
from ssgan.inference.models import Models
from ssgan.report import loader
from ssgan.settings.config import Config
from ssgan.settings.presets import PRESETS, resolve
from ssgan.training.experiment import run_experiment
from ssgan.training.methods import Batch, Nets, phases
from ssgan.training.monitor import Run
from ssgan.training.trainer import train

GAN = {"labels": 0, "weight_unlabeled": 1.0, "weight_fake": 1.0}
NON_SATURATING = {**GAN, "weight_feature_matching": 0.0, "weight_non_saturating": 1.0}


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {f"{net}.{k}": v for net, stack in run.trainer.stacks.items() for k, v in stack.parameters.items()}


def same_bits(left: Run, right: Run) -> bool:
    ours, theirs = weights(left), weights(right)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


# Equality with a textbook GAN


def pictures(count: int = 64) -> Data:
    """Random 32x32 images, brighter at the bottom, so that there is something to learn."""
    random, slope = np.random.default_rng(0), np.linspace(0, 200, 32)[:, None]
    images = (slope + random.integers(0, 56, (count, 32, 32))).astype(np.uint8)
    return Data(images, np.full(count, -1), images[:16], np.zeros(16, np.int64), ("image",))


def textbook_dcgan() -> dict[str, nn.Sequential]:
    """A plain pair of torch layers, 4 channels wide."""

    def down(inputs: int, outputs: int) -> list[nn.Module]:
        norm = nn.BatchNorm2d(outputs, eps=1e-6)
        return [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), norm, nn.LeakyReLU(0.2)]

    def up(inputs: int, outputs: int, *place: int) -> list[nn.Module]:
        norm = nn.BatchNorm2d(outputs, eps=1e-6)
        return [nn.ConvTranspose2d(inputs, outputs, 4, *place, bias=False), norm, nn.ReLU()]

    D = [nn.Conv2d(1, 4, 4, 2, 1), nn.LeakyReLU(0.2), *down(4, 8), *down(8, 16), nn.Flatten(), nn.Linear(256, 1)]
    G = [nn.Unflatten(1, (6, 1, 1)), *up(6, 16), *up(16, 8, 2, 1), *up(8, 4, 2, 1)]
    G += [nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Tanh()]
    return {"D": nn.Sequential(*D).double(), "G": nn.Sequential(*G).double()}


@pytest.mark.parametrize("discriminator_steps", [1, 2])
def test_training_equals_a_textbook_gan_loop(discriminator_steps: int) -> None:
    """Fifty steps of Adam with the non-saturating loss and batch norm give the same weights as a plain torch loop."""
    config = Config(
        **NON_SATURATING,
        network="dcgan",
        discriminator_widths=(4,),
        generator_widths=(4,),
        latent_size=6,
        latent_distribution="normal",
        batch_size=8,
        discriminator_steps=discriminator_steps,
        total_images=50 * 8 * discriminator_steps,
        learning_rate_d=2e-4,
        learning_rate_g=3e-4,
        adam_epsilon_inside_root=False,
        dtype="float64",
        device="cpu",
    )
    rates = {"D": 2e-4, "G": 3e-4}

    def adam(name: str, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, rates[name], betas=(0.5, 0.999), eps=1e-8)

    assert_training_equals_textbook(pictures(), config, textbook_dcgan(), adam, channels=True)


def test_discriminator_loss_without_classes_is_binary_cross_entropy() -> None:
    class IdentityDiscriminator:
        """A discriminator whose logit is its input."""

        couples_rows = False

        def __call__(self, x: torch.Tensor) -> Any:
            return x, x

    random = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(7, 1, generator=random, dtype=torch.float64) for _ in range(2))
    nothing = real[:0]
    batch = Batch(nothing, nothing[:, 0].long(), real, real, fake, fake, nothing, nothing)
    (d_phase, _) = phases(Config(**GAN))
    value, logs = d_phase.loss(Nets(IdentityDiscriminator(), lambda z: z), batch, Config(**GAN), 1.0)
    expected = nn.BCEWithLogitsLoss(reduction="sum")(
        torch.cat([real, fake]), torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
    )
    torch.testing.assert_close(value, expected / 7)
    assert set(logs) == {"U", "V", "p_real_unlabeled", "p_real_fake", "accuracy_real", "accuracy_fake"}
    assert logs["accuracy_real"].item() == pytest.approx((real > 0).double().mean().item())
    assert logs["accuracy_fake"].item() == pytest.approx((fake < 0).double().mean().item())


# Labels are not used


def test_labels_of_the_data_do_not_change_the_weights(few_digits: Data) -> None:
    config = tiny(**GAN)
    other = dataclasses.replace(few_digits, y_train=np.random.default_rng(0).permutation(few_digits.y_train))
    none = dataclasses.replace(few_digits, y_train=np.full(len(few_digits.y_train), -1))
    plain = train(few_digits, config)
    assert same_bits(plain, train(other, config))
    assert same_bits(plain, train(none, config))
    assert plain.trainer.stacks["D"].parameters["output.v"].shape[1] == 1
    assert [len(split.y) for split in plain.splits] == [0]
    assert plain.errors == plain.errors_raw == plain.ece == plain.nll == [None]
    assert plain.warnings == []


def test_indices_are_refused_with_labels_0(few_digits: Data) -> None:
    with pytest.raises(UserError, match=r"^indices names labelled images, but labels is 0"):
        train(few_digits, tiny(**GAN), labeled_splits(few_digits, tiny(**GAN), [0, 1, 2]))


@pytest.mark.parametrize("network", ["paper-conv", "compact-conv", "whitened-conv", "wide-resnet", "dcgan"])
def test_every_network_has_one_logit(network: str) -> None:
    small = {
        "paper-conv": (4, 6),
        "compact-conv": (4, 6, 8),
        "whitened-conv": (4, 6, 8),
        "wide-resnet": (4, 6, 8),
        "dcgan": (4,),
    }
    base = {"labels": 0, "network": network, "discriminator_widths": small[network], "device": "cpu"}
    widths = {"dcgan": (4,)}.get(network, (8, 6, 4) if network != "compact-conv" else (6, 4))
    config = Config(
        **base, generator_widths=widths, batch_size=8, latent_size=6, init_images=16, total_images=24, seeds=2
    )
    run = train(pictures(), config)
    assert [shape[-1] for shape in [run.models.logits(pictures().x_test).shape]] == [1]
    assert run.models.classes == ()
    for name in ("accuracy_real", "accuracy_fake", "accuracy_real_raw", "accuracy_fake_raw"):
        assert all(share is not None and 0 <= share <= 1 for share in run.judgements[name])


# Seeds and sessions


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_stacked_training_equals_separate_training(few_digits: Data, strategy: str) -> None:
    quiet = {"noise_input_std": 0.0, "noise_hidden_std": 0.0, "dtype": "float64"}
    together = train(few_digits, tiny(**GAN, **quiet, seeds=2, seed_strategy=strategy))
    for place in (0, 1):
        alone = weights(train(few_digits, tiny(**GAN, **quiet, seed=place)))
        for name, value in weights(together).items():
            torch.testing.assert_close(value[place], alone[name][0], rtol=0, atol=0 if strategy == "loop" else 1e-12)


def test_run_resumes_to_the_same_bits(few_digits: Data) -> None:
    config, states = tiny(**GAN, seeds=2, checkpoint_every_seconds=0), []
    whole = train(few_digits, config, on_report=lambda report: states.append(_copied(report.state())))
    again = train(few_digits, config, state=states[1])
    assert states[1]["steps_done"] < config.steps
    assert same_bits(whole, again)
    assert again.judgements == whole.judgements


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list) else value


# Accuracy of D instead of an error


@pytest.mark.parametrize(("bias", "real", "fake"), [(50.0, 1.0, 0.0), (-50.0, 0.0, 1.0)])
def test_accuracy_of_a_constant_discriminator_is_1_on_one_side(
    few_digits: Data, bias: float, real: float, fake: float
) -> None:
    models = train(few_digits, tiny(**GAN)).models
    models.averaged["output.b"] = torch.full_like(models.averaged["output.b"], bias)
    found = models.judgements(few_digits.x_test)
    assert (found["accuracy_real"], found["accuracy_fake"]) == ([real], [fake])
    # The model of the last step is unchanged.
    logits = models.logits(few_digits.x_test, averaged=False)
    assert found["accuracy_real_raw"] == [float((logits > 0).mean())]


def test_diverged_model_has_no_accuracy(few_digits: Data) -> None:
    models: Models = train(few_digits, tiny(**GAN, seeds=2)).models
    models.averaged["output.b"][0] = float("nan")
    found = models.judgements(few_digits.x_test)
    assert found["accuracy_real"][0] is None
    assert found["accuracy_real"][1] is not None
    assert models.judgements(few_digits.x_test[:0])["accuracy_real"] == [None, None]


# Settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "supervised"}, "but method supervised learns classes"),
        ({"method": "vat"}, "but method vat learns classes"),
        ({"weight_entropy": 0.1}, "but weight_entropy is 0.1 and needs class probabilities"),
        ({"weight_self_label": 1.0}, "but weight_self_label is 1 and needs class"),
        ({"weight_fake": 0.0, "weight_unlabeled": 1.0}, "but weight_fake is 0, so it would learn nothing"),
        ({"weight_unlabeled": 0.0}, "but weight_unlabeled is 0, so it would learn nothing"),
        ({"folds": 5, "draw_seed": 0}, "but folds is 5 and splits labelled images"),
        ({"weight_labeled": 2.0}, "weight_labeled=2 has no effect: it needs classes to learn"),
        ({"draw_seed": 3}, "draw_seed=3 has no effect: it needs a number of labels"),
        (
            {"discriminator_steps": 4, "adversarial_steps": 1},
            "adversarial_steps is 1 of 4, but D's loss is only U and V, so the other steps would learn nothing",
        ),
        ({"evaluate_every_images": 100}, "evaluate_every_images=100 has no effect: it needs classes"),
    ],
)
def test_settings_that_need_classes_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refused:
        resolve("digits", {"labels": 0, **settings})
    assert words in str(refused.value)


def test_labels_0_drops_the_class_settings_of_a_preset() -> None:
    config = resolve("mnist-fast", {"labels": 0})
    assert config.unconditional
    assert (config.weight_unlabeled, config.weight_fake) == (0.5, 0.5)
    assert (config.weight_entropy, config.weight_pseudo_label, config.augmentation) == (0.0, 0.0, "none")
    assert config.network == PRESETS["mnist-fast"]["network"]
    assert (PRESETS["mnist-fast"]["adversarial_steps"], config.adversarial_steps) == (1, 0)


def test_preset_without_classes_refuses_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "plain", {"labels": 0, "network": "dcgan"})
    assert resolve("plain", {}).unconditional
    for settings, earlier in (({"labels": 100}, None), ({}, {"labels": 100}), ({"labels": "all"}, None)):
        with pytest.raises(UserError, match=r"preset plain is a GAN without classes .*--set network=dcgan") as refused:
            resolve("plain", settings, earlier)
        assert str(refused.value).count(". ") == 0


# Through the command line


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of a second with two seeds."""
    folder = tmp_path_factory.mktemp("unconditional") / "run"
    small = {"total_images": 200, "batch_size": 20, "discriminator_widths": "16,12", "generator_widths": 10}
    small |= {"latent_size": 6, "init_images": 50}
    settings = [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    assert status_of("train", "digits", "--labels", "0", "--seeds", "2", *settings, "--out", folder) == 0
    return folder, ""


def test_run_folder_records_no_labels(a_run: tuple[Path, str]) -> None:
    folder, _ = a_run
    report = json.loads((folder / "report.json").read_text())
    assert not (folder / "labeled.png").exists()
    assert (folder / "samples.png").exists()
    assert [len(split.y) for split in splits.load(folder / "split.json")] == [0, 0]
    assert (report["labels"], report["classes"], report["errors"]) == (0, [], [None, None])
    assert {"accuracy_mean", "error_mean", "error_std", "errors_raw"} <= report.keys()
    assert all(0 <= row["accuracy_real"] <= 1 and row["draw_seed"] is None for row in report["rows"])
    assert report["warnings"] == []
    logged = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    assert {"p_real_unlabeled", "p_real_fake", "accuracy_real", "accuracy_fake"} <= logged.keys()


def test_evaluate_reproduces_the_accuracies_of_the_report(
    a_run: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = a_run
    report = json.loads((folder / "report.json").read_text())
    capsys.readouterr()
    assert status_of("evaluate", folder, "--json") == 0
    found = last_object(capsys.readouterr().out)
    keys = [key for key in report["rows"][0] if key.startswith("accuracy")]
    assert len(keys) == 4
    assert [[row[key] for key in keys] for row in found["rows"]] == [[r[key] for key in keys] for r in report["rows"]]
    assert (found["errors"], found["confusion"]) == ([None, None], None)
    assert status_of("evaluate", folder) == 0
    printed = capsys.readouterr().out
    assert "how many D judges correctly" in printed
    assert max(map(len, printed.splitlines())) <= 80 + len(str(folder))


def test_predict_gives_p_generated_and_no_class(a_run: tuple[Path, str], tmp_path: Path, few_digits: Data) -> None:
    folder, _ = a_run
    np.savez(tmp_path / "x.npz", x=few_digits.x_test[:3])
    assert status_of("predict", folder, tmp_path / "x.npz", "--out", tmp_path / "p.json", "--probabilities") == 0
    found = json.loads((tmp_path / "p.json").read_text())
    assert len(found) == 3
    assert all(row["class"] is None and 0 <= row["p_generated"] <= 1 for row in found)
    assert all(row["note"] == ("looks generated" if row["p_generated"] > 0.5 else None) for row in found)


def test_data_sample_and_resume_work_on_a_finished_run(
    a_run: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = a_run
    assert status_of("data", folder) == 0
    assert "seed 0: no labelled images" in capsys.readouterr().out
    assert status_of("sample", folder, "--out", tmp_path / "grid.png") == 0
    assert status_of("train", "digits", "--resume", "--out", folder) == 0
    assert "nothing was left to train" in capsys.readouterr().out


def test_commands_that_need_classes_are_refused(a_run: tuple[Path, str], mistake: Callable[..., str]) -> None:
    folder, _ = a_run
    assert "has none to sort by" in mistake("sample", folder, "--per-class")
    assert "have no classes to vote on" in mistake("evaluate", folder, "--ensemble")
    assert "0 is a GAN without classes" in mistake("compare", "digits", "--labels", "0,20", "--out", folder / "r.jsonl")


def test_compare_refuses_a_preset_without_classes(
    mistake: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "plain", {"labels": 0})
    message = mistake("compare", "digits", "--preset", "plain", "--out", tmp_path / "r.jsonl")
    assert message.startswith("Preset plain is a GAN without classes")


def test_report_loader_skips_rows_without_classes(a_run: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = a_run
    own = json.loads((folder / "report.json").read_text())["rows"]
    with pytest.raises(result_rows.RowError, match="GAN without classes"):
        result_rows.parse_row(json.dumps(own[0]).encode())
    usable = {**own[0], "labels": 20, "error": 3.0, "error_raw": 3.0, "ece": 0.1, "nll": 0.2}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (*own, usable)))
    found = loader.load_rows([path])
    assert [row["labels"] for row in found.rows] == [20]
    assert [one.line for one in found.skipped] == [1, 2]


def test_paused_run_resumes_with_the_same_accuracies(few_digits: Data, tmp_path: Path) -> None:
    from ssgan import runs
    from ssgan.training.experiment import Paused

    config = tiny(**GAN, checkpoint_every_seconds=0)
    folder = runs.create_run_folder(tmp_path / "run", "digits", config)
    with pytest.raises(Paused):
        run_experiment(few_digits, config, folder, pause_after_seconds=0)
    report = run_experiment(few_digits, config, folder)
    straight = run_experiment(few_digits, config, runs.create_run_folder(tmp_path / "other", "digits", config))
    keys = [key for key in report["rows"][0] if key.startswith("accuracy")]
    assert [report["rows"][0][key] for key in keys] == [straight["rows"][0][key] for key in keys]


@pytest.mark.parametrize("place", ["", "only/", "train/", "unlabeled/"])
def test_a_folder_needs_no_class_folders(tmp_path: Path, place: str) -> None:
    from PIL import Image

    from ssgan.data.datasets import load
    from ssgan.settings.options import Options

    folder, random = tmp_path / "pictures", np.random.default_rng(0)
    for name in [f"{place}{i}.png" for i in range(5)] + ["test/a.png", "test/b.png"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(folder / name)
    found = load(folder, None, Options.of(Config(labels=0)))
    assert (len(found.x_train), len(found.x_test)) == (5, 2)
    assert (found.y_train == -1).all()
    run = train(found, tiny(**GAN, total_images=40))
    assert run.judgements["accuracy_real"][0] in (0.0, 0.5, 1.0)
    # With labels, class folders are required.
    with pytest.raises(UserError, match="class folder"):
        load(folder, None, Options.of(Config(labels=2)))
    with pytest.raises(UserError, match=r"test_share=0\.5 has no effect"):
        load(folder, None, Options.of(Config(labels=0, test_share=0.5)))
