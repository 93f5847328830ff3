"""Short trainings: their weights, gradients and passes."""

from typing import Any

import pytest
import torch

from ssgan.data import splits
from ssgan.data.dataset import Data
from ssgan.nn import noise
from ssgan.nn.stack import Net
from ssgan.settings.config import Config
from ssgan.training.batches import Batches
from ssgan.training.monitor import Run
from ssgan.training.trainer import Trainer

QUIET = {"noise_input_std": 0.0, "noise_hidden_std": 0.0}


def weights(run: Run) -> dict[str, torch.Tensor]:
    stacks = {f"{net}.{k}": v for net, stack in run.trainer.stacks.items() for k, v in stack.parameters.items()}
    return {**stacks, **{f"averaged.{k}": v for k, v in run.models.averaged.items()}}


def same_bits(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def trainer(data: Data, config: Config) -> Trainer:
    found = labeled_splits(data, config)
    torch.manual_seed(0)
    batches = Batches(data.x_train, data.scale, found, config.all_seeds, config, torch.device("cpu"))
    return Trainer(batches, data.image_shape, len(data.classes), config)


def labeled_splits(data: Data, config: Config, indices: Any = None, held_out: Any = None) -> list[splits.Split]:
    """The splits that a configuration draws, or those of given rows, the same for every model or a list for each."""
    return splits.make_splits(data.y_train, config.labels, config.draw_seeds, indices, held_out)


# Weight 0


def gradients_of_d(data: Data, config: Config) -> list[torch.Tensor]:
    """D's gradients on the first batch, with noise from a fixed seed."""
    ours = trainer(data, config)
    (batch,) = ours.batches.from_batch(0, 1)
    (part,) = ours.parts
    states = {**part.frozen, "D": part.trained["D"]}
    with noise.use_generator(torch.Generator().manual_seed(3)):
        loss, _ = part.losses[0](states, type(batch)(*(tensor[0] for tensor in batch)))
    return list(torch.autograd.grad(loss, part.optimizers["D"].parameters))


def rows_through_d(ours: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each batch that goes through D in one step."""
    seen: list[int] = []
    run = Net._pass

    def counting(self: Net, x: torch.Tensor, **options: bool) -> Any:
        seen.extend([len(x)] if self.module is ours.parts[0].modules["D"] else [])
        return run(self, x, **options)

    monkeypatch.setattr(Net, "_pass", counting)
    ours.step(list(ours.batches.from_batch(0, 1)))
    return seen
