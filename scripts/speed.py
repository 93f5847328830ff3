#!/usr/bin/env python3
"""Time one training step of the preset mnist-paper beside plain PyTorch and the matrix products alone.

    python scripts/speed.py --seeds 1,10 --json speed.jsonl

The contenders take turns in one process, so whatever slows the machine slows them all; the first round warms up
and is not counted. ``ssgan`` is the trainer with its batches, for one model or a stack. ``plain PyTorch`` is the
same mathematics as an ordinary eager program, below, with batches of its own; ``--check`` compares the two in
float64 without noise. ``products`` are the float32 matrix products that a step cannot do without.

GFLOP/s counts those products alone. ``x plain`` is model steps a second over those of plain PyTorch. ``share``,
of the ceiling, is the time of the products alone over the time of the step; for a stack the products of its
models run one after another (torch.mm) or side by side (torch.bmm), whichever is faster.
"""

import argparse
import functools
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from ssgan import load, runs
from ssgan.batches import Batches
from ssgan.config import Config, parse, resolve
from ssgan.data import IDX_FILES, Data, default_root
from ssgan.devices import device_name, select
from ssgan.splits import for_seeds
from ssgan.trainer import Trainer

# A matrix product of a dense layer: output, or gradient of input or weight; rows, inputs, outputs.
Product = tuple[str, int, int, int]

PRESET = "mnist-paper"
SIZES = ("batch_size", "discriminator_widths", "generator_widths", "init_images", "labels", "latent_size")
SQUARE = 4096
TOLERANCE = 1e-9


def dense(inputs: int, outputs: int, train_scale: bool) -> nn.Module:
    """A dense layer with weight norm."""
    layer = weight_norm(nn.Linear(inputs, outputs))
    layer.parametrizations.weight.original0.requires_grad_(train_scale)
    return layer


def torch_name(name: str) -> str:
    """What the plain program calls one of our weights."""
    module, _, leaf = name.rpartition(".")
    leaves = {"v": "parametrizations.weight.original1", "g": "parametrizations.weight.original0", "b": "bias"}
    return f"{module}.{leaves.get(leaf, leaf)}"


class Noise(nn.Module):
    """Gaussian noise."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return x + self.std * torch.randn_like(x)


class BatchNorm(nn.Module):
    """Normalisation by the statistics of the batch at hand, with a bias and no gain."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, bias=self.beta, training=True, eps=1e-6)


class Discriminator(nn.Module):
    """Images to logits, and to the features of the last hidden layer."""

    def __init__(self, inputs: int, classes: int, config: Config) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size, width in itertools.pairwise([inputs, *config.discriminator_widths]):
            std = config.noise_hidden_std if layers else config.noise_input_std
            layers += [Noise(std), dense(size, width, train_scale=False), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.noise = Noise(config.noise_hidden_std)
        self.output = dense(config.discriminator_widths[-1], classes, train_scale=True)

    def features(self, x: Tensor) -> Tensor:
        """Rows of images to rows of features."""
        return self.trunk(x.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.noise(self.features(x)))


class Generator(nn.Module):
    """Noise to images in [0, 1]."""

    def __init__(self, outputs: int, config: Config) -> None:
        super().__init__()
        sizes = [config.latent_size, *config.generator_widths]
        self.hidden = nn.ModuleList(nn.Linear(*pair, bias=False) for pair in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(BatchNorm(width) for width in config.generator_widths)
        self.output = dense(sizes[-1], outputs, train_scale=True)

    def forward(self, z: Tensor) -> Tensor:
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            z = F.softplus(norm(linear(z)))
        return self.output(z).sigmoid()


class Adam:
    """Adam with epsilon inside the root, by torch's foreach functions."""

    def __init__(self, parameters: list[Tensor], learning_rate: float, config: Config) -> None:
        self.parameters, self.learning_rate, self.epsilon = parameters, learning_rate, config.adam_epsilon
        self.beta1, self.beta2 = config.adam_beta1, config.adam_beta2
        self.first, self.second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
        self.steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients and drop them."""
        self.steps += 1
        gradients = [p.grad for p in self.parameters]
        torch._foreach_lerp_(self.first, gradients, 1 - self.beta1)
        torch._foreach_mul_(self.second, self.beta2)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - self.beta2)
        root = torch._foreach_div(self.second, 1 - self.beta2**self.steps)
        torch._foreach_add_(root, self.epsilon)
        torch._foreach_sqrt_(root)
        torch._foreach_addcdiv_(self.parameters, self.first, root, -self.learning_rate / (1 - self.beta1**self.steps))
        for p in self.parameters:
            p.grad = None


class Plain:
    """The step as an ordinary eager program, from the weights that one model of a trainer has now."""

    def __init__(self, trainer: Trainer, data: Data, model: int = 0) -> None:
        self.config, self.source = trainer.config, trainer.batches
        inputs = math.prod(data.image_shape)
        self.D, self.G = Discriminator(inputs, len(data.classes), self.config), Generator(inputs, self.config)
        for net, stack in ((self.D, trainer.stacks["D"]), (self.G, trainer.stacks["G"])):
            net.to(self.source.device, self.source.dtype)
            state = net.state_dict()
            weights = {torch_name(name): value[model] for name, value in {**stack.parameters, **stack.buffers}.items()}
            net.load_state_dict({name: value.view_as(state[name]) for name, value in weights.items()})
        self.trained = {name: p for name, p in self.D.named_parameters() if p.requires_grad}
        self.adam_D = Adam(list(self.trained.values()), self.config.learning_rate_d, self.config)
        self.adam_G = Adam(list(self.G.parameters()), self.config.learning_rate_g, self.config)
        self.average = {name: torch.zeros_like(p) for name, p in self.trained.items()}
        self.decay = 0.5 ** (self.config.batch_size / self.config.ema_half_life_images)

    def step(self, *batch: Tensor) -> dict[str, Tensor]:
        """One step of D and one of G; returns the terms of the losses."""
        x_lab, y_lab, x_unl, x_unl2, z, z2 = batch
        with torch.no_grad():
            x_fake = self.G(z)
        L = F.cross_entropy(self.D(x_lab), y_lab)
        U = F.softplus(-self.D(x_unl).logsumexp(dim=1)).mean()
        V = F.softplus(self.D(x_fake).logsumexp(dim=1)).mean()
        weights = self.config.weight_labeled, self.config.weight_unlabeled, self.config.weight_fake
        (weights[0] * L + weights[1] * U + weights[2] * V).backward()
        self.adam_D.step()
        for p in self.trained.values():
            p.requires_grad_(False)
        difference = self.D.features(x_unl2).mean(dim=0) - self.D.features(self.G(z2)).mean(dim=0)
        distance = difference.square().mean()
        (self.config.weight_feature_matching * distance).backward()
        self.adam_G.step()
        for p in self.trained.values():
            p.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.trained.values()), 1 - self.decay)
        return {"L": L.detach(), "U": U.detach(), "V": V.detach(), "feature_matching": distance.detach()}

    def averaged(self) -> dict[str, Tensor]:
        """The debiased average of D."""
        return {name: value / (1 - self.decay**self.adam_D.steps) for name, value in self.average.items()}

    def batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Endless batches of the first model: the pool lies on the device as floats, shuffled every epoch."""
        size, labels = self.config.batch_size, self.source.labels[0]
        pool = self.source.pool.to(self.source.dtype) / self.source.scale
        labeled = pool[self.source.labeled_rows[0]]
        while True:
            orders = [torch.randperm(len(pool), device=pool.device).split(size) for _ in range(3)]
            for rows, unlabeled, unlabeled2 in zip(*orders, strict=True):
                rows = rows % len(labels)
                z, z2 = torch.rand(2, size, self.config.latent_size, device=pool.device, dtype=pool.dtype)
                yield labeled[rows], labels[rows], pool[unlabeled], pool[unlabeled2], z, z2


def build(config: Config, data: Data) -> Trainer:
    """The trainer of a configuration."""
    splits = for_seeds(data.y_train, config.labels, config.draw_seeds)
    batches = Batches(data.x_train, data.scale, splits, config.all_seeds, config, select(config.device))
    return Trainer(batches, data.image_shape, len(data.classes), config)


def check_equal(config: Config, data: Data, steps: int = 5) -> float:
    """The largest relative difference of losses, weights and averages of both programs, in float64 without noise."""
    trainer = build(config.replace(noise_input_std=0.0, noise_hidden_std=0.0, dtype="float64"), data)
    plains = [Plain(trainer, data, model) for model in range(config.seeds)]
    pairs: list[tuple[Tensor, Tensor]] = []
    for batch in trainer.batches.from_batch(0, steps):
        trainer.step([batch])
        logs = trainer.read_logs(1)
        for model, plain in enumerate(plains):
            terms = plain.step(*(tensor[model] for tensor in batch[:6]))  # no strong views
            pairs += [(torch.tensor(logs[name][model]), term.cpu()) for name, term in terms.items()]
    for model, plain in enumerate(plains):
        for ours, theirs in (
            (trainer.stacks["D"].parameters, plain.D.state_dict()),
            (trainer.stacks["G"].parameters, plain.G.state_dict()),
            (trainer.ema, plain.average),
            (trainer.averaged(), plain.averaged()),
        ):
            pairs += [(value[model], theirs[torch_name(name)]) for name, value in ours.items()]
    return torch.stack([((a.view_as(b) - b).abs().max() / b.abs().max()).cpu() for a, b in pairs]).max().item()


def products(config: Config, inputs: int, classes: int) -> list[Product]:
    """What one step of one model cannot do without: D on three batches in its phase, on two in that of G.

    Left out: gradients of images in D's phase, of D's weights in G's phase and of G's noise; logits in G's phase.
    """
    rows = config.batch_size
    D = list(itertools.pairwise([inputs, *config.discriminator_widths, classes]))
    G = list(itertools.pairwise([config.latent_size, *config.generator_widths, inputs]))
    phase_D = [("output", rows, G), ("output", 3 * rows, D), ("input", 3 * rows, D[1:]), ("weight", 3 * rows, D)]
    phase_G = [("output", rows, G), ("output", 2 * rows, D[:-1]), ("input", rows, D[:-1])]
    phase_G += [("input", rows, G[1:]), ("weight", rows, G)]
    return [(kind, count, *layer) for kind, count, layers in phase_D + phase_G for layer in layers]


def gigaflop(products: list[Product]) -> float:
    """Operations in 10^9, a multiplication and an addition for each term of each sum."""
    return sum(2 * rows * inputs * outputs for _, rows, inputs, outputs in products) / 1e9


def multiplier(products: list[Product], models: int, device: torch.device) -> Callable[[], None]:
    """A function that computes these products for so many models: by torch.mm for one, by torch.bmm for more."""

    @functools.cache
    def operand(role: str, *shape: int) -> Tensor:
        return torch.randn(*shape if models == 1 else (models, *shape), device=device)

    triples = []
    for kind, rows, inputs, outputs in products:
        x, y, W = operand("x", rows, inputs), operand("y", rows, outputs), operand("W", outputs, inputs)
        left, right = {"output": (x, W.mT), "input": (y, W), "weight": (y.mT, x)}[kind]
        triples.append((left, right, left @ right))
    multiply = torch.mm if models == 1 else torch.bmm

    def run() -> None:
        for left, right, out in triples:
            multiply(left, right, out=out)

    return run


def seconds(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Wall-clock time of one call, the device's work included."""
    began = time.perf_counter()
    for _ in range(repeats):
        run()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return (time.perf_counter() - began) / repeats


def measure(config: Config, data: Data, stacks: list[int], rounds: int, steps: int) -> dict[str, Any]:
    """Time the contenders in turns; the row of results."""
    device = select(config.device)
    needed = products(config, math.prod(data.image_shape), len(data.classes))
    contenders: dict[tuple[str, int], Callable[[], object]] = {}
    for models in stacks:
        trainer = build(config.replace(seeds=models), data)
        stream = trainer.batches.from_batch(0, sys.maxsize)
        contenders["ssgan", models] = lambda t=trainer, s=stream: t.step([next(s)])
    plain = Plain(trainer, data)
    plain_stream = plain.batches()
    contenders["plain PyTorch", 1] = lambda: plain.step(*next(plain_stream))
    for models in sorted({1, *stacks}):
        contenders["products", models] = multiplier(needed, models, device)
    square = [("output", SQUARE, SQUARE, SQUARE)]
    multiply_square = multiplier(square, 1, device)

    torch.manual_seed(0)
    times: dict[tuple[str, int], list[float]] = {key: [] for key in contenders}
    square_times = []
    for _ in range(rounds + 1):
        for key, run in contenders.items():
            times[key].append(seconds(run, steps, device))
        square_times.append(seconds(multiply_square, 1, device))

    quartiles = {key: np.percentile(values[1:], [25, 50, 75]).tolist() for key, values in times.items()}
    median = {key: values[1] for key, values in quartiles.items()}
    rows = []
    for (name, models), own in median.items():
        row = {"contender": name, "models": models, "ms_quartiles": [1e3 * s for s in quartiles[name, models]]}
        row["images_per_second"] = config.batch_size / own
        row["gflop_per_second"] = models * gigaflop(needed) / own
        row["times_plain"] = models * median["plain PyTorch", 1] / own
        row["share"] = min(median["products", models], models * median["products", 1]) / own
        rows.append(row)
    result = {"config_sha256": config.sha256, "dataset": data.name, "gflop": gigaflop(needed)}
    result |= {"rounds": rounds, "steps": steps, "contenders": rows}
    result |= {"square": SQUARE, "square_gflop_per_second": gigaflop(square) / min(square_times)}
    result |= {"device": device_name(device), "threads": torch.get_num_threads()}
    return {**result, "precision": torch.get_float32_matmul_precision(), **runs.provenance()}


def table(result: dict[str, Any]) -> str:
    """A result for people, 80 columns wide."""
    lines = [
        "{preset} on {dataset}: {gflop:.3g} GFLOP a step; {rounds} rounds of {steps} steps".format(**result),
        *[f"  with {setting}" for setting in result["set"]],
        "",
        f"{'contender':22}{'ms a step':>9}{'quartiles':>18}{'images/s':>9}{'GFLOP/s':>8}{'x plain':>8}{'share':>6}",
    ]
    for row in result["contenders"]:
        name = f"{row['contender']}, {row['models']} model{'s' * (row['models'] > 1)}"
        low, median, high = row["ms_quartiles"]
        lines.append(
            f"{name:22}{median:9.2f}{f'{low:.2f}-{high:.2f}':>18}{row['images_per_second']:9.0f}"
            f"{row['gflop_per_second']:8.0f}{row['times_plain']:8.2f}{row['share']:6.0%}"
        )
    lines += [
        "",
        "images/s: of each model.",
        "Best product of two matrices of {square}: {square_gflop_per_second:.0f} GFLOP/s.".format(**result),
        result["device"],
        "CPU threads {threads}, float32 precision {precision}, commit {commit}".format(**result),
        ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
    ]
    return "\n".join(lines)


def images() -> Data:
    """MNIST where it lies on this machine, else random images of its shape."""
    if all((default_root() / "MNIST" / "raw" / file).is_file() for file in IDX_FILES):
        return load("mnist")
    x = np.random.default_rng(0).integers(0, 256, (60_000, 28, 28), np.uint8)
    return Data(x, np.arange(len(x)) % 10, x[:0], np.arange(0), tuple("0123456789"), name="random images")


def main(arguments: list[str] | None = None) -> None:
    """Measure or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1", help="models of each stack, such as 1,10")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=16, help="of each contender in a round")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help=f"one of {', '.join(SIZES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the result to it as a line of JSON")
    parser.add_argument("--check", action="store_true", help="compare both programs instead, and measure nothing")
    args = parser.parse_args(arguments)
    stacks, sizes = [int(models) for models in args.seeds.split(",")], dict(map(parse, args.set))
    if not sizes.keys() <= set(SIZES):
        parser.error(f"--set takes {', '.join(SIZES)}")
    data, config = images(), resolve(PRESET, {**sizes, "device": args.device})
    if not args.check:
        timed = measure(config, data, stacks, args.rounds, args.steps)
        result = {"preset": PRESET, "set": args.set, **timed}
        print(table(result))
        if args.json:
            runs.append_rows(args.json, [result])
        return
    for models in stacks:
        difference = check_equal(config.replace(seeds=models), data)
        print(f"ssgan and plain PyTorch, models {models}: largest relative difference {difference:.1e}")
        if not difference < TOLERANCE:
            sys.exit(f"The programs differ: more than {TOLERANCE:g} is not rounding.")


if __name__ == "__main__":
    main()
