"""Train by the preset mnist-paper with a plain eager PyTorch program, from the weights of a trainer."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from ssgan import load
from ssgan.cache import default_root
from ssgan.data.dataset import Data
from ssgan.data.datasets import IDX_FILES
from ssgan.data.splits import make_splits
from ssgan.devices import select
from ssgan.settings.config import Config
from ssgan.training.batches import Batches
from ssgan.training.trainer import Trainer


def dense(inputs: int, outputs: int, train_scale: bool) -> nn.Module:
    """Build a dense layer with weight norm."""
    layer = weight_norm(nn.Linear(inputs, outputs))
    layer.parametrizations.weight.original0.requires_grad_(train_scale)
    return layer


def torch_name(name: str) -> str:
    """Convert the name of a weight of the package to its name in the plain program."""
    module, _, leaf = name.rpartition(".")
    leaves = {"v": "parametrizations.weight.original1", "g": "parametrizations.weight.original0", "b": "bias"}
    return f"{module}.{leaves.get(leaf, leaf)}"


class Noise(nn.Module):
    """Add Gaussian noise."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return x + self.std * torch.randn_like(x)


class BatchNorm(nn.Module):
    """Normalise by the statistics of the batch, with a bias and no gain."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, bias=self.beta, training=True, eps=1e-6)


class Discriminator(nn.Module):
    """Map images to logits, and to the features of the last hidden layer."""

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
        """Compute features [B, F] of images."""
        return self.trunk(x.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.noise(self.features(x)))


class Generator(nn.Module):
    """Map noise to images in [0, 1]."""

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
        """Take one step along the gradients and clear them."""
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
    """Train one model in plain eager PyTorch, from its current weights in a trainer."""

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
        """Take one step of D and one of G; return the terms of the losses."""
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
        """Return the debiased average of D."""
        return {name: value / (1 - self.decay**self.adam_D.steps) for name, value in self.average.items()}

    def batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield endless batches of the first model; the pool is on the device as floats, shuffled every epoch."""
        labeled_source, size = self.source.labeled, self.config.batch_size
        labels = torch.from_numpy(labeled_source.y[0]).to(self.source.device)
        pool = self.source.pool.to(self.source.dtype) / self.source.scale
        labeled = pool[labeled_source.rows[0]]
        while True:
            orders = [torch.randperm(len(pool), device=pool.device).split(size) for _ in range(3)]
            for rows, unlabeled, unlabeled2 in zip(*orders, strict=True):
                rows = rows % len(labels)
                z, z2 = torch.rand(2, size, self.config.latent_size, device=pool.device, dtype=pool.dtype)
                yield labeled[rows], labels[rows], pool[unlabeled], pool[unlabeled2], z, z2


def build(config: Config, data: Data) -> Trainer:
    """Build the trainer of a configuration."""
    splits = make_splits(data.y_train, config.labels, config.draw_seeds)
    batches = Batches(data.x_train, data.scale, splits, config.all_seeds, config, select(config.device))
    return Trainer(batches, data.image_shape, len(data.classes), config)


def check_equal(config: Config, data: Data, steps: int = 5) -> float:
    """Return the largest relative difference of both programs' losses, weights and averages, in float64, no noise."""
    trainer = build(config.replace(noise_input_std=0.0, noise_hidden_std=0.0, dtype="float64"), data)
    plains = [Plain(trainer, data, model) for model in range(config.seeds)]
    pairs: list[tuple[Tensor, Tensor]] = []
    for batch in trainer.batches.from_batch(0, steps):
        trainer.step([batch])
        logs = trainer.pop_logs(1)
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


def images() -> Data:
    """Load MNIST if it is on this machine, or make random images of its shape."""
    if all((default_root() / "MNIST" / "raw" / file).is_file() for file in IDX_FILES):
        return load("mnist")
    x = np.random.default_rng(0).integers(0, 256, (60_000, 28, 28), np.uint8)
    return Data(x, np.arange(len(x)) % 10, x[:0], np.arange(0), tuple("0123456789"), name="random images")
