"""The speed benchmark: two programs with the same computation, and the matrix products that both need."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import ceiling
import plain as plain_program
import pytest
import speed
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssgan import losses
from ssgan.data.dataset import Data
from ssgan.nn import noise
from ssgan.nn.stack import Net
from ssgan.settings.presets import resolve
from ssgan.training.optimizers import Adam

SCRIPTS = Path(__file__).parents[2] / "scripts" / "benchmarks"
SETTINGS = {
    "labels": 20,
    "batch_size": 20,
    "discriminator_widths": (16, 12),
    "generator_widths": (10, 9),
    "latent_size": 6,
    "init_images": 50,
    "device": "cpu",
}
ARGUMENTS = ["--device=cpu"] + [
    f"--set={name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
    for name, value in SETTINGS.items()
    if name != "device"
]


CONFIG = resolve(speed.PRESET, SETTINGS)


def test_test_configuration_changes_only_sizes_of_the_preset() -> None:
    assert set(CONFIG.diff(resolve(speed.PRESET, {}))) == set(SETTINGS)


@pytest.mark.parametrize("models", [1, 2])
def test_both_programs_compute_the_same(few_digits: Data, models: int) -> None:
    assert plain_program.check_equal(CONFIG.replace(seeds=models), few_digits) < speed.TOLERANCE


@pytest.mark.parametrize(
    ("true", "false"),
    [
        ("** (self.config.batch_size /", "** (1.01 * self.config.batch_size /"),
        ("self.decay**self.adam_D.steps", "self.decay**(self.adam_D.steps + 1)"),
        (
            "torch._foreach_add_(root, self.epsilon)\n        torch._foreach_sqrt_(root)",
            "torch._foreach_sqrt_(root)\n        torch._foreach_add_(root, self.epsilon)",
        ),
        ("1 - self.beta1**self.steps", "1"),
        ("weights[1] * U", "weights[0] * U"),
        ("self.D.features(x_unl2)", "self.D.features(x_unl)"),
        ("self.D.features(self.G(z2))", "self.D.features(self.G(z))"),
        ("difference.square().mean()", "difference.abs().mean()"),
        ("difference.square().mean()", "difference.sqrt().mean()"),
        ("dense(size, width, train_scale=False)", "dense(size, width, train_scale=True)"),
        ("p.requires_grad_(False)", "p.requires_grad_(True)"),
        ("eps=1e-6", "eps=1e-5"),
    ],
)
def test_check_detects_a_change_of_the_plain_program(few_digits: Data, true: str, false: str) -> None:
    source = (SCRIPTS / "plain.py").read_text(encoding="utf-8")
    assert source.count(true) == 1
    mutant = ModuleType("mutant")
    exec(source.replace(true, false), mutant.__dict__)
    assert not mutant.check_equal(CONFIG, few_digits) < 1e3 * speed.TOLERANCE


def test_check_detects_a_change_of_the_package(few_digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(losses, "fake", losses.unlabeled_real)
        assert not plain_program.check_equal(CONFIG, few_digits) < 1e3 * speed.TOLERANCE
    step = Adam.step
    monkeypatch.setattr(Adam, "step", lambda self, gradients, rate: step(self, gradients, 1.001 * rate))
    assert not plain_program.check_equal(CONFIG, few_digits) < 1e3 * speed.TOLERANCE


def test_both_programs_add_the_same_noise(few_digits: Data) -> None:
    trainer = plain_program.build(CONFIG.replace(dtype="float64"), few_digits)
    stack, plain = trainer.stacks["D"], plain_program.Plain(trainer, few_digits)
    x_unl = next(trainer.batches.from_batch(0, 1)).x_unl[0]
    with noise.use_generator(torch.Generator().manual_seed(3)):
        logits, _ = Net(stack.training, stack.state(0))(x_unl)
    torch.manual_seed(3)
    torch.testing.assert_close(plain.D(x_unl), logits)
    assert (plain.D(x_unl) - logits).abs().max() > 0.1


def test_both_programs_use_batches_of_the_same_form(few_digits: Data) -> None:
    trainer = plain_program.build(CONFIG, few_digits)
    ours, theirs = next(trainer.batches.from_batch(0, 1)), next(plain_program.Plain(trainer, few_digits).batches())
    assert [(t.dtype, t.shape) for t in theirs] == [(t.dtype, t.shape[1:]) for t in ours[:6]]
    labels = {tuple(x.flatten().tolist()): y for x, y in zip(ours.x_lab[0], ours.y_lab[0].tolist(), strict=True)}
    rows = zip(theirs[0], theirs[1].tolist(), strict=True)
    assert all(labels[tuple(x.flatten().tolist())] == y for x, y in rows)


def test_operations_of_tiny_networks_match_a_hand_count() -> None:
    config = CONFIG.replace(batch_size=10, discriminator_widths=(5, 3), generator_widths=(4,), latent_size=2)
    # Terms a row: D 7*5 + 5*3 + 3*2 = 56, of which 21 behind the first layer and 50 before the logits;
    # G 2*4 + 4*7 = 36, of which 28 behind the first layer.
    terms_D = 10 * 36 + 30 * 56 + 30 * 21 + 30 * 56
    terms_G = 10 * 36 + 20 * 50 + 10 * 50 + 10 * 28 + 10 * 36
    assert ceiling.gigaflop(ceiling.products(config, 7, 2)) * 1e9 == pytest.approx(2 * (terms_D + terms_G))


def test_a_step_of_the_preset_takes_3_76_gflop() -> None:
    assert round(ceiling.gigaflop(ceiling.products(resolve(speed.PRESET, {}), 784, 10)), 2) == 3.76


@pytest.mark.parametrize("models", [1, 3])
def test_timed_products_have_the_counted_operations(models: int) -> None:
    needed = ceiling.products(CONFIG, 64, 10)
    run = ceiling.multiplier(needed, models, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        run()
    assert counter.get_total_flops() == pytest.approx(models * 1e9 * ceiling.gigaflop(needed))


def test_plain_program_computes_only_the_counted_products(few_digits: Data) -> None:
    plain = plain_program.Plain(plain_program.build(CONFIG, few_digits), few_digits)
    with FlopCounterMode(display=False) as counter:
        plain.step(*next(plain.batches()))
    assert counter.get_total_flops() == pytest.approx(1e9 * ceiling.gigaflop(ceiling.products(CONFIG, 64, 10)))


@pytest.fixture
def no_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random images in every process, even if MNIST is on this machine, and small benchmarks of the machine."""
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr(speed, "SQUARE", 64)
    monkeypatch.setattr(speed, "COPY_MEGABYTES", 1)


@pytest.mark.slow
@pytest.mark.usefixtures("no_mnist")
def test_the_table_is_printed_and_the_row_added(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "speed.jsonl"
    speed.main([*ARGUMENTS, "--seeds=1,2", "--rounds=2", "--steps=2", "--busy", f"--json={file}"])
    (row,) = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    assert row["config_sha256"] == CONFIG.sha256
    assert row.keys() >= {"commit", "versions", "device", "threads", "square_gflop_per_second"}
    contenders = {(r["contender"], r["models"]): r for r in row["contenders"]}
    assert list(contenders) == [("ssgan", 1), ("ssgan", 2), ("plain", 1), ("products", 1), ("products", 2)]
    for (name, models), own in contenders.items():
        low, median, high = own["ms_quartiles"]
        assert 0 < low <= median <= high
        assert own["images_per_second"] == pytest.approx(20e3 / median)
        assert own["gflop_per_second"] == pytest.approx(models * row["gflop"] * 1e3 / median)
        assert ("ms_busy" in own) == (name in ("ssgan", "plain"))
        assert 50e6 < own["peak_bytes"] < 5e9
        assert 0 < own["first_step_seconds"] < 100
    plain, products = contenders["plain", 1], contenders["products", 1]
    assert plain["times_plain"] == products["share"] == 1
    ratio = products["ms_quartiles"][1] / plain["ms_quartiles"][1]
    assert plain["share"] == pytest.approx(ratio)
    assert products["times_plain"] == pytest.approx(1 / ratio)
    assert row["start_seconds"].keys() == set(speed.STARTS)
    assert 0 < row["copy_gigabytes_per_second"] < 1e5

    lines = capsys.readouterr().out.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("contender"))
    shown = ["ssgan 1", "ssgan 2", "plain 1", "products 1", "products 2"]
    assert [" ".join(line[:20].split()) for line in lines[header + 1 : header + 6]] == shown
    assert {len(line) for line in lines[header : header + 6]} == {80}


@pytest.mark.slow
@pytest.mark.usefixtures("no_mnist")
def test_other_presets_are_timed_without_the_plain_program(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--set=discriminator_widths=4,4,4", "--set=batch_size=5", "--set=init_images=10", "--device=cpu"]
    speed.main(["--preset=mnist-fast", *small, "--rounds=2", "--steps=1"])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("ssgan ") and line[14:20].strip() == "1" for line in lines) == 1
    assert not any(line.startswith(("plain", "products")) for line in lines)


@pytest.mark.usefixtures("no_mnist")
def test_benchmark_stops_if_a_process_exits() -> None:
    with pytest.raises(SystemExit, match="ssgan, 1 models: the process ended with status"):
        speed.Contender("ssgan", 1, {"preset": "no-such-preset"})


def test_plain_program_runs_without_the_openmp_settings_of_the_package() -> None:
    """The package sets the spin count of OpenMP, which must apply only to its own processes."""
    clean = {key: value for key, value in os.environ.items() if "OMP" not in key}
    code = "import os, speed; print('GOMP_SPINCOUNT' in os.environ, 'GOMP_SPINCOUNT' in speed.PARENT_ENVIRONMENT)"
    environment = {**clean, "PYTHONPATH": os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parents[1])])}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "False"]


def test_help_is_nearly_as_fast_as_an_import_of_typer() -> None:
    """Within four times a bare import of typer, with room for a busy machine."""
    seconds = speed.start_times()
    assert seconds["ssgan --help"] < 4 * seconds["import typer"]


def test_check_option_runs_the_comparison(
    few_digits: Data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plain_program, "images", lambda: few_digits)
    speed.main([*ARGUMENTS, "--check"])
    assert "largest relative difference" in capsys.readouterr().out
    monkeypatch.setattr(plain_program, "check_equal", lambda config, data: float("nan"))
    with pytest.raises(SystemExit, match="differ"):
        speed.main([*ARGUMENTS, "--check"])


def test_a_setting_that_the_plain_program_lacks_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speed.main(["--set=minibatch_kernels=3"])
    assert "discriminator_widths" in capsys.readouterr().err


def test_without_mnist_the_images_are_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path))
    data = plain_program.images()
    assert data.name == "random images"
    assert data.x_train.shape == (60_000, 28, 28)
    assert list(tmp_path.iterdir()) == []
