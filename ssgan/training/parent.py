"""Start a training from the weights of another run, its parent.

A model starts from its parent's last weights, of G and D. The average of D, the moments of the optimisers, the learning
rate and the order of the images start afresh; until the first step, the average is that of the parent. Rows of D's
output layer belong to classes by their names: those of classes that the parent does not know start from random weights.

The weights hold what the parent learned from labels. So images whose labels they learned from are not tested on, and
are labelled in the new run too, if it holds them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssgan import runs
from ssgan.data.dataset import Data, image_ids
from ssgan.data.datasets import load
from ssgan.data.feature_map import FeatureMap
from ssgan.data.splits import Split
from ssgan.data.splits import load as load_splits
from ssgan.errors import UserError, counted
from ssgan.files import path_from_text, path_to_text
from ssgan.inference.models import Models, open_checkpoint
from ssgan.nn.stack import Stack, finite_seeds
from ssgan.settings import fields
from ssgan.settings.config import Config
from ssgan.settings.options import FEATURE_SETTINGS

__all__ = ["Parent", "check_parent", "find_parent", "inherited_map", "open_parent"]

OUTPUT = "output."  # D's layer with one row for each class
# Settings that determine the parameters of a network, by network.
_SHAPES = {
    "D": ("network", "discriminator_widths", "minibatch_kernels", "minibatch_kernel_dim"),
    "G": ("generator_widths", "latent_size", "generator_norm", "latent_distribution"),
}
_FEATURES = ("backbone", "image_size", *FEATURE_SETTINGS)


@dataclass(frozen=True, eq=False)
class Parent:
    """A run whose weights another one starts from.

    Attributes
    ----------
    run : Path
    models : Models
        Models of its last checkpoint, finished or not.
    sums : dict of str to Tensor [S, ...]
        The average of D, not debiased.
    mass : float
        The weight of the steps so far in the average.
    dataset : str
    images, labels : int
        Number of images it has seen, and number of labels that each model had.
    learned : list of list of str, or None
        The images whose labels each model learned from, by :func:`ssgan.data.dataset.image_ids`; None if that is
        not known.
    """

    run: Path
    models: Models
    sums: dict[str, Tensor]
    mass: float
    dataset: str
    images: int
    labels: int
    learned: list[list[str]] | None

    @classmethod
    def of_models(cls, models: Models, seeds: Sequence[int]) -> "Parent":
        """Create a parent from models without a run folder, one for each of these seeds to start from."""
        models = replace(models, seeds=list(seeds))
        return cls(Path("the last fit"), models, models.averaged, 1.0, "", images=0, labels=0, learned=None)

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self.models.config

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of all values of its networks and of its average."""
        stacks = {"D": self.models.D, "G": self.models.G}
        named = {f"average.{name}": value for name, value in self.sums.items()}
        for net, stack in stacks.items():
            for kind, values in ({} if stack is None else stack.state()).items():
                named |= {f"{net}.{kind}.{name}": value for name, value in values.items()}
        digest = hashlib.sha256()
        for name in sorted(named):
            digest.update(f"{name} {tuple(named[name].shape)}".encode())
            digest.update(named[name].cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def record(self, config: Config) -> dict[str, Any]:
        """Return the content of ``parent.json`` of a run with these settings that starts here."""
        indices = self._indices(config)
        return {
            "run": path_to_text(self.run.absolute()),
            "weights_sha256": self.weights_sha256,
            "dataset": self.dataset,
            "images": self.images,
            "labels": self.labels,
            "seeds": [self.models.seeds[i] for i in indices],
            "labeled": None if self.learned is None else [self.learned[i] for i in indices],
        }

    @property
    def learned_images(self) -> frozenset[str]:
        """The images whose labels any of the models learned from."""
        return frozenset(image for images in self.learned or [] for image in images)

    @torch.no_grad()
    def fill(self, stacks: Mapping[str, Stack], average: Mapping[str, Tensor], config: Config, data: Data) -> None:
        """Copy the weights into stacks of models with these settings, and the average into theirs.

        Rows of new classes keep their values, and their average starts from these. Buffers of another shape, the
        reference batches of another ``batch_size``, are kept too.
        """
        indices, rows = self._indices(config), self._rows(config, data.classes)
        for net, stack in stacks.items():
            parent = self.models.D if net == "D" else self.models.G
            if parent is None:
                continue
            parent = parent.select(indices)
            for values, saved in ((stack.parameters, parent.parameters), (stack.buffers, parent.buffers)):
                for name, value in values.items():
                    if net == "D" and name.startswith(OUTPUT):
                        _copy_rows(value, saved[name], rows)
                    elif values is stack.parameters or value.shape == saved[name].shape:
                        value.copy_(saved[name])
        for name, value in average.items():
            if name.startswith(OUTPUT):
                value.copy_(stacks["D"].parameters[name] * self.mass)
                _copy_rows(value, self.sums[name][indices], rows)
            else:
                value.copy_(self.sums[name][indices])

    def new_classes(self, classes: Sequence[str]) -> list[str]:
        """Return the classes that this run does not know."""
        return [name for name in classes if name not in self.models.classes]

    def lost_classes(self, classes: Sequence[str]) -> list[str]:
        """Return the classes of this run that are not among these."""
        return [name for name in self.models.classes if name not in classes]

    def _indices(self, config: Config) -> list[int]:
        """Return the model from which each model starts: the one of its seed, or the only one."""
        seeds = self.models.seeds
        return [0 if len(seeds) == 1 else seeds.index(seed) for seed in config.all_seeds]

    def _rows(self, config: Config, classes: Sequence[str]) -> list[tuple[int, int]]:
        """Return the rows of D's output layer and the rows of this run's that they start from."""
        if config.unconditional:
            return [(0, 0)]
        return [(i, self.models.classes.index(name)) for i, name in enumerate(classes) if name in self.models.classes]


def _copy_rows(value: Tensor, saved: Tensor, rows: Sequence[tuple[int, int]]) -> None:
    """Copy rows of an output layer, [S, K, ...]."""
    ours, theirs = (list(side) for side in zip(*rows, strict=True))
    value[:, ours] = saved[:, theirs].to(value)


def open_parent(run: Path) -> Parent:
    """Open the last checkpoint of a run, finished or not, to start from it.

    Raises
    ------
    UserError
        If ``run`` is not a run folder, has no checkpoint yet, or its files are damaged or of different runs.
    """
    if run.is_file():
        raise UserError(f"{run} is a file: --from needs a run folder of `ssgan train`, which keeps the weights.")
    config = runs.read_config(run)
    if not (run / "checkpoint").exists():
        raise UserError(f"{run} has no checkpoint yet, so there are no weights to start from.")
    models, state = open_checkpoint(run, torch.device("cpu"))
    splits = load_splits(run / "split.json")
    if [split.sha256 for split in splits] != models.split_sha256:
        raise UserError(f"The checkpoint and split.json of {run} are not of the same run.")
    earlier = runs.read_parent(run)
    learned = _learned(run, config, splits)
    if earlier is not None and learned is not None:
        before = earlier["labeled"]
        learned = None if before is None else [sorted({*a, *b}) for a, b in zip(before, learned, strict=True)]
    return Parent(
        run=run,
        models=models,
        sums=state["average"]["sums"],
        mass=state["average"]["mass"],
        dataset=state["dataset"]["name"],
        images=state["steps_done"] * config.images_per_step,
        labels=len(splits[0].y),
        learned=learned,
    )


def _learned(run: Path, config: Config, splits: Sequence[Split]) -> list[list[str]] | None:
    """Return the labelled images of each model; of a run that did not keep them, from its data, if unchanged."""
    if all(len(split.ids) == len(split.y) for split in splits):
        return [list(split.ids) for split in splits]
    try:
        report = runs.read_report(run)
        data = load(*runs.data_source(run, report, config))
    except UserError:
        return None
    if data.sha256 != report["dataset_sha256"]:
        return None
    return [image_ids(data.x_train[split.indices]) for split in splits]


def check_parent(parent: Parent, config: Config, data: Data | None = None, splits: Sequence[Split] = ()) -> None:
    """Check that a run with these settings can start from a parent, and with these data, if they are known.

    Raises
    ------
    UserError
        If it cannot; the message names both sides.
    """
    run, models = parent.run, parent.models
    if config.folds:
        raise UserError(
            f"folds is {config.folds}, but the weights of {run} have already seen the images of every fold: omit "
            f"--folds, or omit --from."
        )
    if len(models.seeds) > 1 and not set(config.all_seeds) <= set(models.seeds):
        raise UserError(
            f"{run} has models of the seeds {fields.show(models.seeds)}, and this run would have "
            f"{fields.show(config.all_seeds)}: a model starts from that of its seed, or every model from a single one."
        )
    if config.unconditional != models.config.unconditional:
        kinds = ("a GAN without classes" if c.unconditional else "a classifier" for c in (models.config, config))
        raise UserError(f"{run} is {next(kinds)}, and this run would be {next(kinds)}: neither starts from the other.")
    shapes = [*_SHAPES["D"], *(_SHAPES["G"] if config.trains_generator and models.G is not None else ())]
    for name in [*_FEATURES, *shapes] if config.backbone or models.config.backbone else shapes:
        old, new = getattr(models.config, name), getattr(config, name)
        if old != new:
            raise UserError(
                f"{name} of {run} is {fields.show(old)}, and this run would have {fields.show(new)}: its weights fit "
                f"only what they were trained with, so omit {name}."
            )
    _check_finite(parent, config)
    if data is not None:
        _check_data(parent, config, data, splits)


def _check_finite(parent: Parent, config: Config) -> None:
    """Check that no model to start from has diverged."""
    networks = [stack.parameters for stack in (parent.models.D, parent.models.G) if stack is not None]
    finite = finite_seeds(value for named in (*networks, parent.sums) for value in named.values()).tolist()
    lost = [parent.models.seeds[i] for i in dict.fromkeys(parent._indices(config)) if not finite[i]]
    if lost:
        raise UserError(
            f"{parent.run} diverged (seed {fields.show(lost)}), so its weights cannot be used: train from scratch."
        )


def _check_data(parent: Parent, config: Config, data: Data, splits: Sequence[Split]) -> None:
    """Check that images and classes fit, and that no label that the parent learned from is hidden or tested on."""
    run, models, source = parent.run, parent.models, data.source
    if source.image_shape != models.input_shape:
        hint = (
            "" if len(models.input_shape) == 1 else ": --image-size and --set image_mode= change the shape of pictures"
        )
        raise UserError(
            f"{run} learned from images of shape {list(models.input_shape)}, and {data.name} holds "
            f"{list(source.image_shape)}{hint}."
        )
    if models.feature_map is not None and source.scale != models.input_scale:
        raise UserError(
            f"{run} learned from images with full intensity {models.input_scale:g}, and {data.name} has "
            f"{source.scale:g}: rescale its pixels."
        )
    if models.classes and not set(models.classes) & set(data.classes):
        raise UserError(
            f"{run} knows the classes {_few(models.classes)}, and {data.name} has {_few(data.classes)}: no class is "
            f"the same, so train from scratch."
        )
    if parent.learned is None:
        return
    pool = image_ids(source.x_train)
    for i, seed, split in zip(parent._indices(config), config.all_seeds, splits, strict=True):
        learned = set(parent.learned[i])
        labelled = {pool[row] for row in split.indices}
        hidden = {pool[row] for row in (data.y_train >= 0).nonzero()[0] if pool[row] in learned} - labelled
        if hidden:
            raise UserError(
                f"{run} learned from {counted(len(learned), 'label')}, of which this run would hide {len(hidden):,} "
                f"(seed {seed}), so that it would know more labels than it reports: use at least as many, of the same "
                f"draw (--draw-seed), or all."
            )
    tested = {one for one in image_ids(source.x_test) if one in parent.learned_images} - set(pool)
    if tested:
        raise UserError(
            f"{run} learned from the labels of {counted(len(tested), 'test image')} of {data.name}: leave them out of "
            f"the test set."
        )


def _few(names: Sequence[str], most: int = 4) -> str:
    """Join names, at most ``most`` of them."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def find_parent(folder: Path, parent: Parent | None = None) -> Parent | None:
    """Return the parent whose weights the run in a folder has yet to start from; None if it has a checkpoint.

    Parameters
    ----------
    folder : Path
    parent : Parent, optional
        Already opened; otherwise the one that ``parent.json`` names is opened.

    Raises
    ------
    UserError
        If there is no such run any more, or it has other weights now.
    """
    record = runs.read_parent(folder)
    if record is None or (folder / "checkpoint").exists():
        return None
    run = Path(path_from_text(record["run"]))
    try:
        parent = parent or open_parent(run)
    except UserError as mistake:
        raise UserError(f"{folder} has not started from its parent yet: {mistake}") from None
    if parent.weights_sha256 != record["weights_sha256"]:
        raise UserError(
            f"{folder} was to start from {run}, whose weights have changed since: start another run with --from {run}."
        )
    return parent


def inherited_map(folder: Path, config: Config, parent: Parent | None) -> FeatureMap | None:
    """Return the map of features of a run that started from another one, or is to start from this one.

    None for other runs, which fit a map to their own pool.
    """
    if config.backbone is None or runs.read_parent(folder) is None:
        return None
    if parent is not None:
        return parent.models.feature_map
    return open_checkpoint(folder, torch.device("cpu"))[0].feature_map
