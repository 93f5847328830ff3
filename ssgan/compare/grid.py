"""The parts of the GAN, and the settings that take them away one at a time.

A comparison as a plan: methods, numbers of labels and seeds, the cells that follow, and what of them is done.
"""

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
from ssgan.settings.options import Options
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
NOISES = ("noise_input_std", "noise_hidden_std", "dropout_input", "dropout_hidden")


class Ablation(NamedTuple):
    """A part that is taken away: what the row is called, by which settings, and whether the last D is evaluated."""

    name: str
    settings: Mapping[str, Any]
    last: bool = False


def ablations(config: Config) -> tuple[list[Ablation], list[str]]:
    """What can be taken away from a GAN with these settings, and the names of the parts that it does not have."""
    found, absent = [], []
    for part, settings_without in PARTS.items():
        settings = settings_without(config)
        if settings is None:
            absent.append(part)
        else:
            words = " (same run's last D)" if part == AVERAGE else ""
            found.append(Ablation(f"without {part}{words}", settings, part == AVERAGE))
    return found, absent


def _feature_matching(config: Config) -> dict[str, Any] | None:
    """G learns by the non-saturating objective instead, unless it has another one already."""
    if not (config.trains_generator and config.weight("feature_matching")):
        return None
    others = config.has("minimax", "non_saturating")
    return {"weight_feature_matching": 0.0, **({} if others else {"weight_non_saturating": 1.0})}


def _initialisation(config: Config) -> dict[str, Any] | None:
    """Scales of 1 and biases of 0; what compares images with stored ones needs the images."""
    there = config.init_images and NETWORKS[config.network].weight_norm and not config.minibatch_kernels
    return {"init_images": 0} if there else None


def _noise(config: Config) -> dict[str, Any] | None:
    """Gaussian noise and dropout in D."""
    return {name: 0.0 for name in NOISES if getattr(config, name)} or None


def _generator(config: Config) -> dict[str, Any] | None:
    """And V with it; what D learns from unlabelled images stays."""
    return {"weight_fake": 0.0} if config.trains_generator else None


AVERAGE = "averaging D"
PARTS: dict[str, Callable[[Config], dict[str, Any] | None]] = {
    "feature matching": _feature_matching,
    "initialisation by images": _initialisation,
    "noise": _noise,
    AVERAGE: lambda config: {},
    "a generator": _generator,
}

DEFAULT_METHODS = ("gan", "supervised", *BASELINES)
ENSEMBLE = " (ensemble)"
# What a grid decides for each cell.
FIXED = ("method", "labels", "seed", "seeds", "draw_seed", "preset", "folds")


@dataclass(frozen=True)
class GridCell:
    """One method, or the GAN without a part, with one number of labels.

    Attributes
    ----------
    labels : int or "all"
        As it was asked for.
    count : int
        Labelled images.
    config : Config or None
        Of all seeds; None for a classical method, and where settings are refused.
    refusal : str
        Why there can be no training; empty where there can.
    """

    method: str
    labels: int | str
    count: int
    config: Config | None = None
    ablation: Ablation | None = None
    refusal: str = ""

    @property
    def name(self) -> str:
        """The method, and the part that is taken away."""
        return self.method if self.ablation is None else f"{self.method} {self.ablation.name}"

    @property
    def classical(self) -> bool:
        """Whether scikit-learn fits it, seed by seed."""
        return self.method in BASELINES


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells on the same data and seeds; every cell of one number of labels has the same labelled images.

    Attributes
    ----------
    seeds : list of int
    splits : mapping
        From (labels as asked for, seed) to the labelled images, drawn once.
    draws : mapping
        And to the seed of the draw; None where all labels are taken.
    notes : list of str
        What was left out of what was asked for, in sentences.
    """

    data: Data
    cells: Sequence[GridCell]
    seeds: list[int]
    splits: Mapping[tuple[int | str, int], Split]
    draws: Mapping[tuple[int | str, int], int | None]
    notes: list[str]

    def results(self, cell: GridCell, rows: Iterable[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
        """The rows of a cell that have a result, by seed; a training that diverged has one."""
        own = (row for row in rows if row.get("failed") is None and not row.get("members") and self._holds(cell, row))
        return {row["seed"]: row for row in own}

    def failures(self, cell: GridCell, rows: Iterable[Mapping[str, Any]]) -> dict[int, str]:
        """Why trainings of a cell that have no result failed, the last time."""
        rows = [row for row in rows if self._holds(cell, row)]
        done = self.results(cell, rows)
        return {r["seed"]: r["failed"] for r in rows if r.get("failed") is not None and r["seed"] not in done}

    def ensembles(self, cell: GridCell, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The rows of a cell's ensembles."""
        own = [{**row, "method": row["method"].removesuffix(ENSEMBLE)} for row in rows if row.get("members")]
        return [row for row in own if self._holds(cell, row) and {*row["members"]} <= {*self.seeds}]

    def outstanding(self, cell: GridCell, rows: Iterable[Mapping[str, Any]]) -> list[list[int]]:
        """The stacks that are to be trained: runs of seeds without a result, or single ones of a classical method."""
        done, stacks = self.results(cell, rows), list[list[int]]()
        for seed in self.seeds:
            if seed in done:
                continue
            if stacks and stacks[-1][-1] == seed - 1 and not cell.classical:
                stacks[-1].append(seed)
            else:
                stacks.append([seed])
        return stacks

    def others(self, rows: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
        """How many rows are of other data, and how many of these cells with other settings or draws."""
        rows = list(rows)
        foreign = sum(row.get("dataset_sha256", self.data.sha256) != self.data.sha256 for row in rows)
        alike = {(cell.name, cell.count, seed) for cell in self.cells for seed in self.seeds}
        ours = {
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
            changed += key in alike and (*key, row["config_sha256"], row["split_sha256"]) not in ours
        return foreign, changed

    def _holds(self, cell: GridCell, row: Mapping[str, Any]) -> bool:
        """Whether a row is one of a cell's, whatever became of it."""
        place = (cell.labels, row["seed"])
        ablation = None if cell.ablation is None else cell.ablation.name
        said = (row["method"], row["labels"], row.get("ablation"), row.get("dataset_sha256"))
        return (
            place in self.splits
            and said == (cell.method, cell.count, ablation, self.data.sha256)
            and (row["draw_seed"], row.get("split_sha256")) == (self.draws[place], self.splits[place].sha256)
            and (cell.classical or row.get("config_sha256") == (cell.config and cell.config.sha256))
        )


def parse_methods(text: str | None) -> list[str]:
    """The methods that are named, with commas between them; without a text the usual ones.

    Raises
    ------
    UserError
        For an unknown one, and one that is named twice.
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
    """The numbers of labels that are named, with commas between them, or ``all``.

    Raises
    ------
    UserError
        For what is no number above 0, and for one that is named twice.
    """
    found: list[int | str] = []
    for part in (part.strip() for part in text.split(",")):
        one: int | str = part if part == "all" else int(part) if part.isdecimal() and part.isascii() else 0
        if part.isdecimal() and not one:
            raise UserError(
                f"--labels is {text}, but 0 is a GAN without classes, which has no error to compare: leave 0 away."
            )
        if not one:
            near = did_you_mean(part, ["all"])
            raise UserError(f"--labels is {text}, but must be numbers above 0 with commas, or 'all': 20,50,100.{near}")
        if one in found:
            raise UserError(f"--labels names {part} twice: name each once.")
        found.append(one)
    return found


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
    """The cells of a comparison, number of labels by number of labels.

    Parameters
    ----------
    data : Data
    preset : str
    methods : sequence of str
        Of :data:`ssgan.settings.catalog.METHOD_NAMES` and :data:`ssgan.compare.baselines.BASELINES`.
    labels : sequence of int or "all"
    seeds : sequence of int
        One after the other.
    draw_seed : int, optional
        One draw of labelled images for all seeds; otherwise each has that of its own number.
    settings : mapping, optional
        For every network; a method for which one would do nothing goes without it.
    ablate : bool
        Whether the GAN is also trained without each of its parts.

    Raises
    ------
    UserError
        Where settings suit no network, the labels cannot be drawn, or there are no test images.
    """
    settings = settings or {}
    _check(data, methods, settings, ablate)
    networks = [name for name in methods if name not in BASELINES]
    splits: dict[tuple[int | str, int], Split] = {}
    draws: dict[tuple[int | str, int], int | None] = {}
    cells: list[GridCell] = []
    absent: dict[str, None] = {}
    for number in labels:
        drawn = [seed if draw_seed is None else draw_seed for seed in seeds]
        for seed, draw, split in zip(seeds, drawn, make_splits(data.y_train, number, drawn), strict=True):
            splits[number, seed] = split
            draws[number, seed] = None if number == "all" else draw
        count = len(splits[number, seeds[0]].indices)
        fixed = {"labels": number, "seed": seeds[0], "seeds": len(seeds)}
        fixed |= {} if draw_seed is None or number == "all" else {"draw_seed": draw_seed}
        for method in methods:
            cell = GridCell(method, number, count)
            if method in BASELINES:
                cells.append(cell)
                continue
            cells.append(_settled(cell, data, preset, settings, {**fixed, "method": method}))
            if ablate and method == ABLATED and cells[-1].config is not None:
                found, missing = ablations(cells[-1].config)
                absent |= dict.fromkeys(missing)
                for one in found:
                    without = GridCell(method, number, count, ablation=one)
                    cells.append(_settled(without, data, preset, settings, {**fixed, "method": method}))
    _check_twice(labels, splits, seeds[0])
    _check_settings(cells, preset, settings, networks)
    notes = [f"{preset} trains without {part}, so there is no ablation of it." for part in absent]
    return Grid(data, cells, [*seeds], splits, draws, notes)


def _settled(
    cell: GridCell, data: Data, preset: str, settings: Mapping[str, Any], fixed: Mapping[str, Any]
) -> GridCell:
    """A cell with its configuration, or with the reason why there is none."""
    without = {} if cell.ablation is None else cell.ablation.settings
    optional = settings.keys() - without.keys()
    try:
        config = resolve(preset, {**settings, **without, **fixed}, optional=optional)
        check_image_shape(config.network, data.image_shape)
    except UserError as mistake:
        return GridCell(cell.method, cell.labels, cell.count, None, cell.ablation, str(mistake))
    return GridCell(cell.method, cell.labels, cell.count, config, cell.ablation)


def _check(data: Data, methods: Sequence[str], settings: Mapping[str, Any], ablate: bool) -> None:
    for name in FIXED:
        if name in settings:
            raise UserError(f"{name}={settings[name]} cannot be set for a comparison: each cell has its own.")
    if ablate and ABLATED not in methods:
        raise UserError(f"--ablate takes parts away from {ABLATED}, which --methods does not name.")
    if not len(data.x_test):
        raise UserError(f"{data.name} has no test images, and errors on them are what is compared.")


def _check_twice(labels: Sequence[int | str], splits: Mapping[tuple[int | str, int], Split], seed: int) -> None:
    counts = [len(splits[number, seed].indices) for number in labels]
    if len(set(counts)) < len(counts):
        twice = next(count for count in counts if counts.count(count) > 1)
        raise UserError(f"--labels names {twice} twice, once as 'all': leave one of them away.")


def _check_settings(
    cells: Sequence[GridCell], preset: str, settings: Mapping[str, Any], networks: Sequence[str]
) -> None:
    """A setting that suits no network of the grid is the user's mistake; one that suits some is not."""
    plain = [cell for cell in cells if cell.method in networks and cell.ablation is None]
    configs = [cell.config for cell in plain if cell.config is not None]
    if plain and not configs:
        raise UserError(plain[0].refusal)
    for name, value in settings.items():
        if not networks and name not in (*Options.settings(), "device"):
            raise UserError(f"{name}={show(value)} would do nothing: --methods names no network.")
        if len(configs) == len(plain) > 0 and all(getattr(config, name) != value for config in configs):
            kept = {other: v for other, v in settings.items() if getattr(configs[0], other) == v}
            resolve(preset, {**kept, name: value, "method": configs[0].method})
