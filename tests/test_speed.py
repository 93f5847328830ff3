"""The yardstick of speed: two programs of the same mathematics, and the products that neither can do without."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssgan import losses
from ssgan.data import Data
from ssgan.optimizers import Adam
from ssgan.stacks import Net

PATH = Path(__file__).parents[1] / "scripts" / "speed.py"
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


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("speed", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


speed = script()
CONFIG = speed.resolve(speed.PRESET, SETTINGS)


def test_sizes_of_the_tests_are_the_only_change() -> None:
    assert set(CONFIG.diff(speed.resolve(speed.PRESET, {}))) == set(SETTINGS)


@pytest.mark.parametrize("models", [1, 2])
def test_both_programs_compute_the_same(few_digits: Data, models: int) -> None:
    assert speed.check_equal(CONFIG.replace(seeds=models), few_digits) < speed.TOLERANCE


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
def test_a_change_of_the_plain_program_is_seen(few_digits: Data, true: str, false: str) -> None:
    source = PATH.read_text(encoding="utf-8")
    assert source.count(true) == 1
    mutant = ModuleType("mutant")
    exec(source.replace(true, false), mutant.__dict__)
    assert not mutant.check_equal(CONFIG, few_digits) < 1e3 * speed.TOLERANCE


def test_a_change_of_ours_is_seen(few_digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(losses, "fake", losses.unlabeled_real)
        assert not speed.check_equal(CONFIG, few_digits) < 1e3 * speed.TOLERANCE
    step = Adam.step
    monkeypatch.setattr(Adam, "step", lambda self, gradients, rate: step(self, gradients, 1.001 * rate))
    assert not speed.check_equal(CONFIG, few_digits) < 1e3 * speed.TOLERANCE


def test_both_programs_add_the_same_noise(few_digits: Data) -> None:
    trainer = speed.build(CONFIG.replace(dtype="float64"), few_digits)
    stack, plain = trainer.stacks["D"], speed.Plain(trainer, few_digits)
    state = {kind: {k: v[0] for k, v in values.items()} for kind, values in stack.state(trained=False).items()}
    x_unl = next(trainer.batches.from_batch(0, 1)).x_unl[0]
    torch.manual_seed(3)
    logits, _ = Net(stack.training, state)(x_unl)
    torch.manual_seed(3)
    torch.testing.assert_close(plain.D(x_unl), logits)
    assert (plain.D(x_unl) - logits).abs().max() > 0.1


def test_both_programs_learn_from_batches_of_one_kind(few_digits: Data) -> None:
    trainer = speed.build(CONFIG, few_digits)
    ours, theirs = next(trainer.batches.from_batch(0, 1)), next(speed.Plain(trainer, few_digits).batches())
    assert [(t.dtype, t.shape) for t in theirs] == [(t.dtype, t.shape[1:]) for t in ours[:6]]
    labels = {tuple(x.flatten().tolist()): y for x, y in zip(ours.x_lab[0], ours.y_lab[0].tolist(), strict=True)}
    rows = zip(theirs[0], theirs[1].tolist(), strict=True)
    assert all(labels[tuple(x.flatten().tolist())] == y for x, y in rows)


def test_operations_of_tiny_networks_are_those_counted_by_hand() -> None:
    config = CONFIG.replace(batch_size=10, discriminator_widths=(5, 3), generator_widths=(4,), latent_size=2)
    # Terms a row: D 7*5 + 5*3 + 3*2 = 56, of which 21 behind the first layer and 50 before the logits;
    # G 2*4 + 4*7 = 36, of which 28 behind the first layer.
    terms_D = 10 * 36 + 30 * 56 + 30 * 21 + 30 * 56
    terms_G = 10 * 36 + 20 * 50 + 10 * 50 + 10 * 28 + 10 * 36
    assert speed.gigaflop(speed.products(config, 7, 2)) * 1e9 == pytest.approx(2 * (terms_D + terms_G))


def test_a_step_of_the_preset_takes_3_76_gflop() -> None:
    assert round(speed.gigaflop(speed.products(speed.resolve(speed.PRESET, {}), 784, 10)), 2) == 3.76


@pytest.mark.parametrize("models", [1, 3])
def test_the_products_timed_are_those_counted(models: int) -> None:
    needed = speed.products(CONFIG, 64, 10)
    run = speed.multiplier(needed, models, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        run()
    assert counter.get_total_flops() == pytest.approx(models * 1e9 * speed.gigaflop(needed))


def test_the_plain_program_computes_no_other_products(few_digits: Data) -> None:
    plain = speed.Plain(speed.build(CONFIG, few_digits), few_digits)
    with FlopCounterMode(display=False) as counter:
        plain.step(*next(plain.batches()))
    assert counter.get_total_flops() == pytest.approx(1e9 * speed.gigaflop(speed.products(CONFIG, 64, 10)))


def test_the_table_is_printed_and_the_row_added(
    few_digits: Data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(speed, "images", lambda: few_digits)
    monkeypatch.setattr(speed, "SQUARE", 32)
    for _ in range(2):
        speed.main([*ARGUMENTS, "--seeds=1,2", "--rounds=3", "--steps=2", f"--json={tmp_path / 'speed.jsonl'}"])
    first, row = map(json.loads, (tmp_path / "speed.jsonl").read_text(encoding="utf-8").splitlines())
    assert first["config_sha256"] == row["config_sha256"] == CONFIG.sha256
    assert row.keys() >= {"commit", "versions", "device", "threads", "square_gflop_per_second"}
    contenders = {(r["contender"], r["models"]): r for r in row["contenders"]}
    assert list(contenders) == [("ssgan", 1), ("ssgan", 2), ("plain PyTorch", 1), ("products", 1), ("products", 2)]
    for (_, models), own in contenders.items():
        low, median, high = own["ms_quartiles"]
        assert 0 < low <= median <= high
        assert own["images_per_second"] == pytest.approx(20e3 / median)
        assert own["gflop_per_second"] == pytest.approx(models * row["gflop"] * 1e3 / median)
    plain, products = contenders["plain PyTorch", 1], contenders["products", 1]
    assert plain["times_plain"] == products["share"] == 1
    ratio = products["ms_quartiles"][1] / plain["ms_quartiles"][1]
    assert plain["share"] == pytest.approx(ratio)
    assert products["times_plain"] == pytest.approx(1 / ratio)

    lines = capsys.readouterr().out.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("contender"))
    assert [line[:22].strip() for line in lines[header + 1 : header + 6]] == [
        "ssgan, 1 model",
        "ssgan, 2 models",
        "plain PyTorch, 1 model",
        "products, 1 model",
        "products, 2 models",
    ]
    assert {len(line) for line in lines[header : header + 6]} == {80}


def test_the_check_is_run_on_request(
    few_digits: Data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "images", lambda: few_digits)
    speed.main([*ARGUMENTS, "--check"])
    assert "largest relative difference" in capsys.readouterr().out
    monkeypatch.setattr(speed, "check_equal", lambda config, data: float("nan"))
    with pytest.raises(SystemExit, match="differ"):
        speed.main([*ARGUMENTS, "--check"])


def test_a_setting_that_the_plain_program_lacks_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speed.main(["--set=minibatch_kernels=3"])
    assert "discriminator_widths" in capsys.readouterr().err


def test_without_mnist_the_images_are_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path))
    data = speed.images()
    assert data.name == "random images"
    assert data.x_train.shape == (60_000, 28, 28)
    assert list(tmp_path.iterdir()) == []
