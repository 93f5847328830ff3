"""Fast paths compute the same: the step of every preset against a plain step, and replayed against eager steps."""

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from repeated_noise import pattern
from running import status_of
from small_configs import tiny
from small_trainings import same_bits, weights
from torch import Tensor, nn

from ssgan import devices
from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.devices import own_precision
from ssgan.errors import UserError
from ssgan.nn import noise
from ssgan.settings.catalog import METHOD_NAMES
from ssgan.settings.config import Config
from ssgan.settings.presets import PRESETS, resolve
from ssgan.training import methods, trainer
from ssgan.training.batches import Batches
from ssgan.training.methods import Batch, Nets, Phase, phases
from ssgan.training.step import EAGER_STEPS, CapturedPart, Part
from ssgan.training.trainer import Trainer, train

STEPS = 100
SMALL = {
    "batch_size": 8,
    "labels": 20,
    "init_images": 20,
    "dtype": "float64",
    "device": "cpu",
    "total_images": 8 * STEPS,
    "ema_half_life_images": 100.0,
}
WIDTHS = {
    "mlp": {"discriminator_widths": (12, 9), "generator_widths": (10, 9)},
    "paper-conv": {"discriminator_widths": (3, 4), "generator_widths": (6, 5, 4)},
    "compact-conv": {"discriminator_widths": (4, 5, 6), "generator_widths": (6, 5)},
    "whitened-conv": {"discriminator_widths": (4, 5, 6), "generator_widths": (6, 5)},
    "features": {"discriminator_widths": (12, 9), "generator_widths": (10, 9)},
}
SHAPES = {"paper-conv": (16, 16), "whitened-conv": (16, 16, 3)}


def random_images(*shape: int) -> Data:
    random = np.random.default_rng(0)
    y = np.arange(60) % 10
    x = random.integers(0, 256, (60, *shape), np.uint8)
    return Data(x, y, x[:10], y[:10], tuple("0123456789"), name="random")


def random_vectors() -> Data:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((60, 7)).astype(np.float32), np.arange(60) % 10
    return Data(x, y, x[:10], y[:10], tuple("0123456789"), name="random", normal=(0.0, 1.0))


class PlainNet:
    """A network of one seed as an ordinary module that computes every weight at every pass by the formula."""

    couples_rows = True  # one pass for each batch: batches are not merged

    def __init__(self, module: nn.Module, parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> None:
        self.module = copy.deepcopy(module).to_empty(device="cpu").double()
        self.module.load_state_dict({**parameters, **buffers})
        for layer in self.module.modules():
            if hasattr(layer, "normalized"):
                layer.normalized = lambda v, g, axis=layer.out_axis: normalized_by_formula(v, g, axis)
        self.history: dict[str, Tensor] = {}

    def __call__(self, x: Tensor) -> Any:
        return self.module(x)

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.module(x)[1]
        return features

    @property
    def parameters(self) -> dict[str, Tensor]:
        return dict(self.module.named_parameters())


def normalized_by_formula(v: Tensor, g: Tensor, axis: int) -> Tensor:
    others = [i for i in range(v.dim()) if i != axis]
    shape = [-1 if i == axis else 1 for i in range(v.dim())]
    return v * g.view(shape) / v.square().sum(dim=others, keepdim=True).sqrt()


def muon_rotated(v: Tensor, update: Tensor, rate: float) -> Tensor:
    """Units v rotated by Muon, with the published iterations."""
    X = update.flatten(1)
    X = X.T if len(X) > len(X.T) else X
    X = X / X.norm()
    for _ in range(5):
        A = X @ X.T
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    X = X if len(X) == len(v) and X.shape == update.flatten(1).shape else X.T
    lengths = v.flatten(1).norm(dim=1, keepdim=True)
    turned = v.flatten(1) / lengths - rate * X / X.norm(dim=1).mean()
    return (turned / turned.norm(dim=1, keepdim=True) * lengths).view_as(v)


class Plain:
    """A plain implementation of the training step of one seed."""

    def __init__(self, ours: Trainer, seed: int) -> None:
        self.config, self.steps, self.updates = ours.config, 0, {"D": 0, "G": 0}
        self.nets = {
            name: PlainNet(
                stack.training,
                {k: v[seed] for k, v in stack.parameters.items()},
                {k: v[seed] for k, v in stack.buffers.items()},
            )
            for name, stack in ours.stacks.items()
        }
        self.moments = {
            name: [(torch.zeros_like(p), torch.zeros_like(p)) for p in net.module.parameters()]
            for name, net in self.nets.items()
        }
        self.average = {k: torch.zeros_like(v) for k, v in self.nets["D"].parameters.items()}

    def teacher(self) -> PlainNet | None:
        """D with its debiased average; at the first step D itself."""
        if not self.config.weight_mean_teacher:
            return None
        mass = 1.0 - 0.5 ** (self.config.images_per_step / self.config.ema_half_life_images * (self.steps - 1))
        values = {k: v / mass for k, v in self.average.items()} if self.steps > 1 else self.nets["D"].parameters
        return PlainNet(self.nets["D"].module, values, dict(self.nets["D"].module.named_buffers()))

    def ramp(self) -> float:
        length = self.config.ramp_up_fraction * self.config.steps
        return math.exp(-5.0 * max(0.0, 1.0 - (self.steps - 1) / length) ** 2) if length else 1.0

    def step(self, batches: list[Batch]) -> dict[str, float]:
        """D on every batch, with generated images on the first ones; then G on the first."""
        logs: dict[str, list[float]] = {}
        self.steps += 1
        config = self.config
        tail = config.decay_last_fraction
        left = min(1.0, (1.0 - (self.steps - 1) / config.steps) / tail) if tail else 1.0
        for phase, batch in self.updates_of(batches):
            net = self.nets[phase.net]
            nets = Nets(self.nets["D"], self.nets.get("G"), self.teacher())
            value, own = phase.loss(nets, batch, config, self.ramp())
            for name, one in own.items():
                logs.setdefault(name, []).append(float(one))
            self.updates[phase.net] += 1
            t = self.updates[phase.net]
            names, parameters = zip(*net.module.named_parameters(), strict=True)
            gradients = torch.autograd.grad(value, parameters)
            rate = left * getattr(config, f"learning_rate_{phase.net.lower()}")
            has_muon = phase.net == "D" and config.optimizer_d == "muon"
            for name, theta, g, (m, v) in zip(names, parameters, gradients, self.moments[phase.net], strict=True):
                if has_muon and name.endswith(".v") and name != "output.v":
                    m.copy_(config.momentum_d * m + g)
                    theta.data.copy_(muon_rotated(theta, g + config.momentum_d * m, left * config.learning_rate_muon))
                    continue
                m.copy_(config.adam_beta1 * m + (1.0 - config.adam_beta1) * g)
                v.copy_(config.adam_beta2 * v + (1.0 - config.adam_beta2) * g * g)
                m_hat, v_hat = m / (1.0 - config.adam_beta1**t), v / (1.0 - config.adam_beta2**t)
                epsilon = config.adam_epsilon
                root = (v_hat + epsilon).sqrt() if config.adam_epsilon_inside_root else v_hat.sqrt() + epsilon
                theta.data -= rate * m_hat / root
        decay = 0.5 ** (config.images_per_step / config.ema_half_life_images)
        for name, value in self.nets["D"].parameters.items():
            self.average[name] = decay * self.average[name] + (1.0 - decay) * value.detach()
        return {name: float(np.mean(values)) for name, values in logs.items()}

    def updates_of(self, batches: list[Batch]) -> Iterator[tuple[Phase, Batch]]:
        found = {(phase.net, phase.first): phase for phase in phases(self.config)}
        with_fakes = self.config.adversarial_steps or len(batches)
        for place, batch in enumerate(batches):
            yield found["D", 0 if place < with_fakes else with_fakes], batch
        if "G" in self.nets:
            yield found["G", 0], batches[0]


def trainer_of(data: Data, config: Config) -> Trainer:
    found = splits.make_splits(data.y_train, config.labels, config.draw_seeds)
    batches = Batches(data.x_train, data.scale, found, config.all_seeds, config, torch.device("cpu"))
    return Trainer(batches, data.image_shape, len(data.classes), config)


def compare(preset: str, strategy: str, steps: int = STEPS, **settings: Any) -> float:
    """The largest relative difference of losses and weights during training."""
    stack = {"seeds": 1 if strategy == "direct" else 2, "seed_strategy": strategy}
    config = resolve(preset, {**SMALL, **stack, **settings})
    config = config.replace(latent_size=5, **WIDTHS[config.network])
    shape = SHAPES.get(config.network, (28, 28))
    data = random_vectors() if config.network == "features" else random_images(*shape)
    ours = trainer_of(data, config)
    plains = [Plain(ours, place) for place in range(config.seeds)]
    worst = 0.0
    for batches in itertools.islice(ours.remaining_batches(), steps):
        ours.step(batches)
        logs = ours.pop_logs(1)
        for place, plain in enumerate(plains):
            theirs = plain.step([Batch(*(tensor[place] for tensor in batch)) for batch in batches])
            assert theirs.keys() == logs.keys()
            worst = max([worst, *(abs(logs[k][place] - v) / max(1.0, abs(v)) for k, v in theirs.items())])
    for place, plain in enumerate(plains):
        pairs = [(ours.ema[k][place], v) for k, v in plain.average.items()]
        for name, net in plain.nets.items():
            pairs += [(ours.stacks[name].parameters[k][place], v.detach()) for k, v in net.parameters.items()]
        worst = max([worst, *(float((a - b).abs().max()) for a, b in pairs)])
    return worst


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize(
    ("preset", "strategy"),
    [
        # Presets without classes are compared with a textbook loop in test_unconditional.py.
        *((preset, "direct") for preset in PRESETS if PRESETS[preset].get("labels") != 0),
        *(("mnist-paper", strategy) for strategy in ("loop", "vmap")),
        *(
            pytest.param(preset, strategy, marks=pytest.mark.slow)
            for preset in ("images", "cifar10-paper")
            for strategy in ("loop", "vmap")
        ),
    ],
)
def test_hundred_steps_of_every_preset_equal_a_plain_implementation(preset: str, strategy: str) -> None:
    assert compare(preset, strategy) < 1e-7


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize("strategy", ["direct", "loop", "vmap"])
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_fifty_steps_of_every_method_equal_a_plain_implementation(method: str, strategy: str) -> None:
    """With the ramp-up, and also with minibatch discrimination."""
    views = {"augmentation": "digits"} if method == "fixmatch" else {}
    assert compare("digits", strategy, 50, method=method, **views) < 1e-7
    if method not in ("gan", "supervised"):
        assert compare("digits", strategy, 10, method=method, minibatch_kernels=2, **views) < 1e-7


@pytest.mark.usefixtures("fixed_noise")
@pytest.mark.parametrize(
    ("where", "name", "broken"),
    [
        (methods.losses, "fake", lambda logits: 1.001 * methods.losses.unlabeled_real(-logits)),
        (torch, "_foreach_lerp_", lambda *arguments: None),
        (torch, "_weight_norm_interface", lambda v, g, dim: (v * g, g)),
        (torch, "_foreach_add_", lambda *arguments: None),
        (noise, "normal_like", lambda x: 1.01 * pattern(x, "standard_normal")),
    ],
    ids=["a loss", "the average", "the norm", "epsilon", "noise"],
)
def test_comparison_detects_a_wrong_fast_path(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, broken: Any
) -> None:
    """Each function is broken only in our step, not in the plain one."""
    whole, step = getattr(where, name), Trainer.step

    def breaking(self: Trainer, batches: Any) -> None:
        setattr(where, name, broken)
        try:
            step(self, batches)
        finally:
            setattr(where, name, whole)

    monkeypatch.setattr(Trainer, "step", breaking)
    assert compare("mnist-paper", "direct", steps=10) > 1e-6


# Steps recorded as CUDA graphs


class Recorder:
    """Acts like a CUDA graph: runs nothing while it records, and replays the same function on the same tensors."""

    def __init__(self, fails: bool = False) -> None:
        self.recordings, self.replays, self.fails = 0, 0, fails

    def __call__(self, function: Callable[[], None]) -> Callable[[], None]:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.recordings += 1

        def replay() -> None:
            self.replays += 1
            function()

        return replay


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """Train on a CPU as if it could record CUDA graphs."""
    recorders: list[Recorder] = []
    build = Trainer.__init__

    def building(self: Trainer, *arguments: Any) -> None:
        build(self, *arguments)
        recorders.append(Recorder())
        self.runners = [CapturedPart(part, torch.device("cpu"), recorders[-1]) for part in self.parts]

    monkeypatch.setattr(Trainer, "__init__", building)
    return recorders


CAPTURED: list[dict[str, Any]] = [
    {},
    {"seeds": 2, "seed_strategy": "vmap", "weight_historical_averaging": 0.01, "decay_last_fraction": 1.0},
    {"discriminator_steps": 2, "weight_pseudo_label": 1.0, "augmentation": "digits"},
    {"method": "mean-teacher", "ramp_up_fraction": 0.7},
    {"method": "vat", "seeds": 2, "seed_strategy": "vmap"},
    # Wider and at the learning rate of digits, these steps amplify the last bits of a rate a millionfold.
    {"network": "gan-mlp", "discriminator_widths": (16, 12), "generator_widths": (10,), "learning_rate_g": 1e-4},
]


@pytest.mark.parametrize(
    "settings",
    CAPTURED,
    ids=["gan", "stacked", "two batches", "mean teacher", "vat", "running statistics"],
)
def test_replayed_steps_equal_eager_steps(
    few_digits: Data, request: pytest.FixtureRequest, settings: dict[str, Any]
) -> None:
    plain = train(few_digits, tiny(**settings))
    recorders = request.getfixturevalue("recorded")
    replayed = train(few_digits, tiny(**settings))
    (recorder,) = recorders
    assert recorder.recordings == 1
    assert recorder.replays == tiny(**settings).steps - EAGER_STEPS
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(replayed)[name], value, rtol=1e-4, atol=1e-5)
    for net, stack in plain.trainer.stacks.items():
        for name, value in stack.buffers.items():
            torch.testing.assert_close(replayed.trainer.stacks[net].buffers[name], value, rtol=1e-4, atol=1e-5)


def test_replayed_steps_use_the_current_learning_rates(few_digits: Data, recorded: list[Recorder]) -> None:
    falling = weights(train(few_digits, tiny(decay_last_fraction=1.0)))
    constant = weights(train(few_digits, tiny(decay_last_fraction=0.0)))
    assert not same_bits(falling, constant)


def test_replayed_steps_keep_no_tensor_of_a_batch(few_digits: Data, recorded: list[Recorder]) -> None:
    """A graph reads from fixed buffers: later changes of the caller's tensors must have no effect."""
    config = tiny()
    once = weights(train(few_digits, config))
    stream = Batches.from_batch

    def wiping(self: Batches, first: int, stop: int) -> Iterator[Batch]:
        for batch in stream(self, first, stop):
            yield batch
            for tensor in batch:
                tensor.zero_()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batches, "from_batch", wiping)
        assert same_bits(once, weights(train(few_digits, config)))


def test_step_that_cannot_be_recorded_runs_eagerly_with_a_warning(
    few_digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, build = train(few_digits, tiny()), Trainer.__init__

    def building(self: Trainer, *arguments: Any) -> None:
        build(self, *arguments)
        self.runners = [CapturedPart(part, torch.device("cpu"), Recorder(fails=True)) for part in self.parts]

    monkeypatch.setattr(Trainer, "__init__", building)
    run = train(few_digits, tiny())
    assert run.warnings == [
        "The step could not be recorded as a CUDA graph, so it runs eagerly: operation not permitted when stream is "
        "capturing"
    ]
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(run)[name], value, rtol=1e-4, atol=1e-5)


# Reduced precision


def test_bfloat16_precision_trains_and_its_first_step_is_close_to_float32(few_digits: Data) -> None:
    exact, rounded = (train(few_digits, tiny(total_images=20, precision=p)) for p in ("float32", "bfloat16"))
    for name, value in weights(exact).items():
        other = weights(rounded)[name]
        assert other.dtype == torch.float32
        torch.testing.assert_close(other, value, rtol=0.05, atol=0.02)
    assert not same_bits(weights(exact), weights(rounded))
    run = train(few_digits, tiny(precision="bfloat16", seeds=2, seed_strategy="vmap"))
    assert not run.diverged


def test_tf32_is_refused_on_a_cpu(few_digits: Data) -> None:
    with pytest.raises(UserError, match="precision is tf32, which cpu does not have"):
        train(few_digits, tiny(precision="tf32"))


def test_a_refused_precision_leaves_no_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "digits", "--set", "precision=tf32", "--device", "cpu", "--out", "run"]
    assert status_of(*arguments) == status_of(*arguments, "--dry-run") == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("precision", "inside"), [("tf32", "tf32"), ("float32", "ieee")])
def test_cuda_precision_is_set_temporarily(precision: str, inside: str) -> None:
    """The switches exist without a GPU."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    if not all(hasattr(switch, "fp32_precision") for switch in switches):
        pytest.skip("an older torch")
    before = [switch.fp32_precision for switch in switches]
    with own_precision(precision, torch.device("cuda:0")):
        assert [switch.fp32_precision for switch in switches] == [inside, inside]
    assert [switch.fp32_precision for switch in switches] == before
    with own_precision("tf32", torch.device("cpu")):
        assert [switch.fp32_precision for switch in switches] == before


# Seeds on threads


def test_error_in_one_thread_is_raised_after_the_others_finish() -> None:
    threads, done = torch.get_num_threads(), []

    def fail() -> None:
        raise ValueError("one seed")

    def slow() -> None:
        time.sleep(0.2)
        done.append(1)

    try:
        torch.set_num_threads(3)
        with pytest.raises(ValueError, match="one seed"):
            devices.run_in_threads([fail, slow, slow, slow])
        assert done == [1, 1, 1]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


# Compiled losses


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "strategy"), [("digits", "vmap"), ("mnist-fast", "loop"), ("vat", "vmap")])
def test_compiled_losses_give_the_same_weights(monkeypatch: pytest.MonkeyPatch, preset: str, strategy: str) -> None:
    """As on CUDA, noise is from torch's generator; only the compiler's front end is used, with torch's kernels."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compiler(f, backend="aot_eager", **options))
    method = {"method": "vat"} if preset == "vat" else {}
    name = "digits" if preset == "vat" else preset
    shape = (8, 8) if name == "digits" else (17, 17)
    wanted = {**SMALL, **WIDTHS[Config(**PRESETS[name]).network], **method, "seed_strategy": strategy, "seeds": 2}
    config, data = resolve(name, wanted, optional=["generator_widths"]), random_images(*shape)
    breaks = torch._dynamo.utils.counters["graph_break"]
    results = []
    for compiled in (False, True):
        torch._dynamo.reset()
        breaks.clear()
        part = lambda *given, compiled=compiled: Part(*given[:6], None, compiled)  # noqa: E731
        monkeypatch.setattr(trainer, "Part", part)
        results.append(weights(train(data, config.replace(total_images=8 * 12))))
        assert not breaks
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-9, atol=1e-11)
