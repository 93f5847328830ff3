"""Plan a comparison: its cells by method and number of labels, the ablations of the GAN, and what is still to train."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ssgan.compare.baselines import BASELINES
from ssgan.data.dataset import Data
from ssgan.data.splits import Split, make_splits
from ssgan.errors import UserError, did_you_mean
from ssgan.settings.catalog import METHOD_NAMES, NETWORKS, check_image_shape
from ssgan.settings.config import Config
from ssgan.settings.fields import show
from ssgan.settings.options import FEATURE_SETTINGS, Options
from ssgan.settings.presets import resolve

__all__ = [
    "ABLATED",
    "ENSEMBLE",
    "Ablation",
    "Grid",
    "GridCell",
    "ablations",
    "build_grid",
    "parse_labels",
    "parse_methods",
]


ABLATED = "gan"
LONGEST_NUMBER = 4000  # digits, which Python converts
NOISES = ("noise_input_std", "noise_hidden_std", "dropout_input", "dropout_hidden")


class Ablation(NamedTuple):
    """The GAN without one of its parts.

    Attributes
    ----------
    name : str
        Name in its rows, such as ``without noise``.
    settings : mapping
        The settings that remove the part.
    last : bool
        Whether the last D of the same run is evaluated instead of the average, without a separate training.
    """

    name: str
    settings: Mapping[str, Any]
    last: bool = False


def ablations(config: Config) -> tuple[list[Ablation], list[str]]:
    """List the ablations of a GAN with these settings, and the names of the parts that it does not have."""
    possible, absent = [], []
    for part, settings_without in PARTS.items():
        settings = settings_without(config)
        if settings is None:
            absent.append(part)
        else:
            suffix = " (same run's last D)" if part == AVERAGE else ""
            possible.append(Ablation(f"without {part}{suffix}", settings, part == AVERAGE))
    if config.batches_with_spread_labels:  # few presets have it, so its absence is not reported
        possible.append(Ablation("without label spreading", {"label_spreading_fraction": 0.0}))
    return possible, absent


def _without_feature_matching(config: Config) -> dict[str, Any] | None:
    """Remove feature matching; G then needs another objective, the non-saturating one if it has none."""
    if not (config.trains_generator and config.weight("feature_matching")):
        return None
    others = config.has("minimax", "non_saturating")
    return {"weight_feature_matching": 0.0, **({} if others else {"weight_non_saturating": 1.0})}


def _without_initialisation(config: Config) -> dict[str, Any] | None:
    """Keep scales of 1 and biases of 0, except with minibatch discrimination, which stores images from it."""
    possible = config.init_images and NETWORKS[config.network].weight_norm and not config.minibatch_kernels
    return {"init_images": 0} if possible else None


def _without_noise(config: Config) -> dict[str, Any] | None:
    """Remove Gaussian noise and dropout from D."""
    return {name: 0.0 for name in NOISES if getattr(config, name)} or None


def _without_generator(config: Config) -> dict[str, Any] | None:
    """Remove G and the loss V with it; D still learns from unlabelled images."""
    return {"weight_fake": 0.0} if config.trains_generator else None


AVERAGE = "averaging D"
# By part: the settings that remove it, or None if a configuration does not have it.
PARTS: dict[str, Callable[[Config], dict[str, Any] | None]] = {
    "feature matching": _without_feature_matching,
    "initialisation by images": _without_initialisation,
    "noise": _without_noise,
    AVERAGE: lambda config: {},
    "a generator": _without_generator,
}

DEFAULT_METHODS = ("gan", "supervised", *BASELINES)
ENSEMBLE = " (ensemble)"
# Settings that a grid sets for each cell, and the options for them.
FIXED = {
    "method": "--methods",
    "labels": "--labels",
    "seed": "--seed",
    "seeds": "--seeds",
    "draw_seed": "--draw-seed",
    "preset": "--preset",
    "folds": None,
}


@dataclass(frozen=True)
class GridCell:
    """One method, or the GAN without a part, with one number of labels.

    Attributes
    ----------
    labels : int or "all"
        As requested.
    count : int
        Number of labelled images.
    config : Config or None
        Configuration of all seeds together; None for a classical method, and if its settings are invalid.
    ablation : Ablation or None
    refusal : str
        Why it cannot be trained; empty if it can.
    """

    method: str
    labels: int | str
    count: int
    config: Config | None = None
    ablation: Ablation | None = None
    refusal: str = ""

    @property
    def name(self) -> str:
        """Name of the method and of the ablation."""
        return self.method if self.ablation is None else f"{self.method} {self.ablation.name}"

    @property
    def classical(self) -> bool:
        """Whether scikit-learn fits it, seed by seed."""
        return self.method in BASELINES


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells on the same data and seeds; all cells with one number of labels share their labelled images.

    Attributes
    ----------
    seeds : list of int
    splits : mapping
        From (labels as requested, seed) to the split, drawn once.
    draw_seeds : mapping
        From the same keys to the seed of the draw; None if all labels are used.
    notes : list of str
        Sentences about requested ablations that are left out.
    """

    data: Data
    cells: Sequence[GridCell]
    seeds: list[int]
    splits: Mapping[tuple[int | str, int], Split]
    draw_seeds: Mapping[tuple[int | str, int], int | None]
    notes: list[str]

    def results(self, cell: GridCell, rows: Iterable[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
        """Select the rows of a cell that have a result, by seed; a diverged training has one."""
        done = (row for row in rows if row.get("failed") is None and not row.get("members"))
        return {row["seed"]: row for row in done if self._is_of(cell, row)}

    def failures(self, cell: GridCell, rows: Iterable[Mapping[str, Any]]) -> dict[int, str]:
        """Return by seed why the trainings of a cell without a result failed the last time."""
        rows = [row for row in rows if self._is_of(cell, row)]
        done = self.results(cell, rows)
        return {r["seed"]: r["failed"] for r in rows if r.get("failed") is not None and r["seed"] not in done}

    def ensembles(self, cell: GridCell, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Select the rows of the ensembles of a cell that have every one of its models that did not diverge.

        Models that were trained in several parts, because seeds were added later, have no such ensemble.
        """
        rows = list(rows)
        members = {seed for seed, row in self.results(cell, rows).items() if row["diverged"] is None} & {*self.seeds}
        ensembles = [
            {**row, "method": row["method"].removesuffix(ENSEMBLE)}
            for row in rows
            if isinstance(row.get("members"), list)
        ]
        return [row for row in ensembles if self._is_of(cell, row) and {*row["members"]} == members]

    def outstanding(self, cell: GridCell, rows: Iterable[Mapping[str, Any]]) -> list[list[int]]:
        """List the stacks still to train: consecutive seeds without a result, or single seeds of a classical method."""
        done, stacks = self.results(cell, rows), list[list[int]]()
        for seed in self.seeds:
            if seed in done:
                continue
            if stacks and stacks[-1][-1] == seed - 1 and not cell.classical:
                stacks[-1].append(seed)
            else:
                stacks.append([seed])
        return stacks

    def count_other_rows(self, rows: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
        """Count the rows of other data, and the rows of these cells with other settings or draws."""
        rows = list(rows)
        foreign = sum(row.get("dataset_sha256", self.data.sha256) != self.data.sha256 for row in rows)
        keys = {(cell.name, cell.count, seed) for cell in self.cells for seed in self.seeds}
        counted = {
            (cell.name, cell.count, seed, row["config_sha256"], row["split_sha256"])
            for cell in self.cells
            for seed, row in self.results(cell, rows).items()
        }
        changed = 0
        for row in rows:
            if row.get("failed") is not None or row.get("members") or row["dataset_sha256"] != self.data.sha256:
                continue
            name = " ".join(filter(None, (row["method"], row.get("ablation"))))
            key = (name, row["labels"], row["seed"])
            changed += key in keys and (*key, row["config_sha256"], row["split_sha256"]) not in counted
        return foreign, changed

    def _is_of(self, cell: GridCell, row: Mapping[str, Any]) -> bool:
        """Return whether a row belongs to a cell, with or without a result."""
        key = (cell.labels, row["seed"])
        ablation = None if cell.ablation is None else cell.ablation.name
        identity = (row["method"], row["labels"], row.get("ablation"), row.get("dataset_sha256"))
        return (
            key in self.splits
            and identity == (cell.method, cell.count, ablation, self.data.sha256)
            and (row["draw_seed"], row.get("split_sha256")) == (self.draw_seeds[key], self.splits[key].sha256)
            and all(row.get(key) == self.data.backbone_entries.get(key) for key in ("backbone", "backbone_sha256"))
            and (cell.classical or row.get("config_sha256") == (cell.config and cell.config.sha256))
        )


def parse_methods(text: str | None) -> list[str]:
    """Parse a comma-separated list of methods; None is the default list.

    Raises
    ------
    UserError
        For an unknown method, and for one that is named twice.
    """
    if text is None:
        return [*DEFAULT_METHODS]
    names, known = [part.strip() for part in text.split(",")], (*METHOD_NAMES, *BASELINES)
    for name in names:
        if name not in known:
            raise UserError(f"Unknown method {name!r}: choose from {', '.join(known)}.{did_you_mean(name, known)}")
        if names.count(name) > 1:
            raise UserError(f"--methods names {name} twice: name each once.")
    return names


def parse_labels(text: str) -> list[int | str]:
    """Parse a comma-separated list of numbers of labels; a number may be ``all``.

    Raises
    ------
    UserError
        For anything but numbers above 0, and for one that is named twice.
    """
    labels: list[int | str] = []
    for part in (part.strip() for part in text.split(",")):
        is_number = part.isdecimal() and part.isascii() and len(part) <= LONGEST_NUMBER
        number: int | str = part if part == "all" else int(part) if is_number else 0
        if is_number and not number:
            raise UserError(
                f"--labels is {text}, but 0 is a GAN without classes, which has no error to compare: omit 0."
            )
        if not number:
            near = did_you_mean(part, ["all"])
            raise UserError(
                f"--labels is {text}, but must be comma-separated numbers above 0, or 'all': 20,50,100.{near}"
            )
        if number in labels:
            raise UserError(f"--labels names {part} twice: name each once.")
        labels.append(number)
    return labels


def build_grid(
    data: Data,
    preset: str,
    methods: Sequence[str],
    labels: Sequence[int | str],
    seeds: Sequence[int],
    draw_seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    ablate: bool = False,
) -> Grid:
    """Plan the cells of a comparison, one number of labels after the other.

    Parameters
    ----------
    data : Data
    preset : str
    methods : sequence of str
        Names in :data:`ssgan.settings.catalog.METHOD_NAMES` and :data:`ssgan.compare.baselines.BASELINES`.
    labels : sequence of int or "all"
    seeds : sequence of int
        Consecutive.
    draw_seed : int, optional
        One draw of labelled images for all seeds; by default the draw seed of each seed is the seed itself.
    settings : mapping, optional
        Settings of every network; one that has no effect on a method is left out for it.
    ablate : bool
        Whether to add the ablations of the GAN.

    Raises
    ------
    UserError
        If settings suit no network, the labels cannot be drawn, or there are no test images.
    """
    settings = settings or {}
    _check_request(data, methods, settings, ablate)
    networks = [name for name in methods if name not in BASELINES]
    splits: dict[tuple[int | str, int], Split] = {}
    draw_seeds: dict[tuple[int | str, int], int | None] = {}
    cells: list[GridCell] = []
    absent: dict[str, None] = {}
    for number in labels:
        draws = [seed if draw_seed is None else draw_seed for seed in seeds]
        for seed, draw, split in zip(seeds, draws, make_splits(data.y_train, number, draws), strict=True):
            splits[number, seed] = split
            draw_seeds[number, seed] = None if number == "all" else draw
        count = len(splits[number, seeds[0]].indices)
        fixed = {"labels": number, "seed": seeds[0], "seeds": len(seeds)}
        fixed |= {} if draw_seed is None or number == "all" else {"draw_seed": draw_seed}
        for method in methods:
            cell = GridCell(method, number, count)
            if method in BASELINES:
                cells.append(cell)
                continue
            cells.append(_with_config(cell, data, preset, settings, {**fixed, "method": method}))
            if ablate and method == ABLATED and cells[-1].config is not None:
                possible, missing = ablations(cells[-1].config)
                absent |= dict.fromkeys(missing)
                for ablation in possible:
                    cell = GridCell(method, number, count, ablation=ablation)
                    cells.append(_with_config(cell, data, preset, settings, {**fixed, "method": method}))
    _check_label_counts(labels, splits, seeds[0])
    notes = _check_settings(cells, preset, settings, networks)
    notes += [f"{preset} trains without {part}, so there is no ablation of it." for part in absent]
    return Grid(data, cells, [*seeds], splits, draw_seeds, notes)


def _with_config(
    cell: GridCell, data: Data, preset: str, settings: Mapping[str, Any], fixed: Mapping[str, Any]
) -> GridCell:
    """Return a cell with its configuration, or with the reason why it has none."""
    changes = {} if cell.ablation is None else cell.ablation.settings
    optional = settings.keys() - changes.keys()
    try:
        config = resolve(preset, {**settings, **changes, **fixed}, optional=optional)
        if data.image_depth is not None:  # so that its runs read other files of 16 bits in the same way
            config = config.replace(image_depth=data.image_depth)
        if config.backbone is None:  # otherwise the pictures become vectors
            check_image_shape(config.network, data.image_shape)
    except UserError as mistake:
        return GridCell(cell.method, cell.labels, cell.count, None, cell.ablation, str(mistake))
    return GridCell(cell.method, cell.labels, cell.count, config, cell.ablation)


def _check_request(data: Data, methods: Sequence[str], settings: Mapping[str, Any], ablate: bool) -> None:
    """Check settings, ablations and data before the cells are planned."""
    for name, option in FIXED.items():
        if name in settings:
            why = f"use {option}" if option else "its error is that of the test images, without folds"
            raise UserError(f"{name}={settings[name]} cannot be set for a comparison: {why}.")
    if ablate and ABLATED not in methods:
        raise UserError(f"--ablate removes parts from {ABLATED}, which --methods does not name.")
    if not len(data.x_test):
        raise UserError(f"{data.name} has no test images, so there is no error to compare.")


def _check_label_counts(labels: Sequence[int | str], splits: Mapping[tuple[int | str, int], Split], seed: int) -> None:
    """Check that 'all' is not the same number of labels as another one."""
    counts = [len(splits[number, seed].indices) for number in labels]
    if len(set(counts)) < len(counts):
        twice = next(count for count in counts if counts.count(count) > 1)
        raise UserError(f"--labels names {twice} twice, once as 'all': omit one of them.")


def _check_settings(
    cells: Sequence[GridCell], preset: str, settings: Mapping[str, Any], networks: Sequence[str]
) -> list[str]:
    """Raise a UserError for a setting that suits no network of the grid; one that suits some is left out for others.

    If a network is refused, it may be the one that a setting was meant for: then a note is returned instead.
    """
    notes: list[str] = []
    full = [cell for cell in cells if cell.method in networks and cell.ablation is None]
    configs = [cell.config for cell in full if cell.config is not None]
    if full and not configs:
        raise UserError(full[0].refusal)
    for name, value in settings.items():
        if not networks and name not in (*Options.settings(), *FEATURE_SETTINGS, "device"):
            raise UserError(f"{name}={show(value)} has no effect: --methods names no network.")
        if not configs or any(getattr(config, name) == value for config in configs):
            continue
        if len(configs) < len(full):
            notes.append(f"{name}={show(value)} has no effect on the methods that can be trained.")
        else:
            # Resolved as a required setting, it raises the error that says why it has no effect.
            effective = {other: v for other, v in settings.items() if getattr(configs[0], other) == v}
            resolve(preset, {**effective, name: value, "method": configs[0].method})
    return notes
