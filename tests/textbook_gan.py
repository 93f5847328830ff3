"""A textbook GAN in plain torch, for comparison with the trainer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.settings.config import Config
from ssgan.training.batches import Batches
from ssgan.training.methods import Batch
from ssgan.training.trainer import Trainer, train


def textbook_order(name: str, parameters: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Our parameters of one seed in the order of the textbook networks, whose norms are between the layers."""
    ours = {k: v[0].detach().clone() for k, v in parameters.items()}
    if name == "D":
        return list(ours.values())
    hidden = [v for k, v in ours.items() if k.startswith("hidden")]
    norms = [v for k, v in ours.items() if k.startswith("norms")]
    last = [v for k, v in ours.items() if k.startswith("output")]
    return [t for i, kernel in enumerate(hidden) for t in (kernel, *norms[2 * i : 2 * i + 2])] + last


def textbook_steps(
    nets: dict[str, nn.Sequential], optimizers: dict[str, torch.optim.Optimizer], batches: list[list[Batch]]
) -> None:
    """The loop of every tutorial: D by binary cross-entropy, then G against the flipped target."""
    criterion = nn.BCEWithLogitsLoss()
    for group in batches:
        for batch in group:
            real, z = batch.x_unl[0], batch.z[0]
            optimizers["D"].zero_grad()
            judged = nets["D"](real), nets["D"](nets["G"](z).detach())
            loss = criterion(judged[0], torch.ones_like(judged[0])) + criterion(judged[1], torch.zeros_like(judged[1]))
            loss.backward()
            optimizers["D"].step()
        optimizers["G"].zero_grad()
        judged_fake = nets["D"](nets["G"](group[0].z2[0]))
        criterion(judged_fake, torch.ones_like(judged_fake)).backward()
        optimizers["G"].step()


def assert_training_equals_textbook(
    data: Data,
    config: Config,
    nets: dict[str, nn.Sequential],
    optimizer: Callable[[str, Any], torch.optim.Optimizer],
    channels: bool,
) -> None:
    """Train both from the same weights and batches, and compare every parameter."""
    found = splits.make_splits(data.y_train, 0, [0])
    batches = Batches(data.x_train, data.scale, found, [0], config, torch.device("cpu"))
    begun = Trainer(batches, data.image_shape, len(data.classes), config)
    with torch.no_grad():
        for name, stack in begun.stacks.items():
            for theirs, ours in zip(nets[name].parameters(), textbook_order(name, stack.parameters), strict=True):
                theirs.copy_(ours)
    per_step = config.discriminator_steps
    stream = list(batches.from_batch(0, config.steps * per_step))
    if channels:
        stream = [batch._replace(x_unl=batch.x_unl[:, :, None]) for batch in stream]
    groups = [stream[i : i + per_step] for i in range(0, len(stream), per_step)]
    textbook_steps(nets, {name: optimizer(name, net.parameters()) for name, net in nets.items()}, groups)
    run = train(data, config)
    assert run.trainer.steps_done == 50
    for name, stack in run.trainer.stacks.items():
        moved = 0.0
        pairs = zip(nets[name].parameters(), textbook_order(name, stack.parameters), strict=True)
        for (theirs, ours), before in zip(pairs, textbook_order(name, begun.stacks[name].parameters), strict=True):
            torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-10)
            moved = max(moved, float((ours - before).abs().max()))
        assert moved > 1e-3, "nothing was trained"
