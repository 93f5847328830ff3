"""What ``ssgan sample`` is asked for: one kind of picture and its numbers, checked before anything is read.

``ssgan sample``: words for the user around :mod:`ssgan.inference.sample`.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ssgan import runs
from ssgan.cli import output, terminal
from ssgan.errors import UserError

__all__ = ["KINDS", "Request", "parse_expression", "sample", "whole_between"]


# What each kind takes, with its default where it has one.
KINDS: dict[str, dict[str, int | str | None]] = {
    "grid": {"rows": 10, "columns": 10, "seed": None, "model": None, "numbered": None},
    "interpolate": {"rows": 8, "columns": 9, "path": None, "seed": None, "model": None},
    "arithmetic": {"seed": None, "model": None},
    "nearest": {"rows": 8, "columns": 6, "samples": 100, "seed": None, "model": None, "data": None, "data_dir": None},
    "per-class": {"columns": 10, "samples": 1000, "seed": None, "model": None},
    "animate": {},
}
RANGES = {"rows": (1, 100), "columns": (1, 100), "samples": (1, 10_000), "seed": (0, 2**31), "model": (0, 2**32)}
LEAST = {("interpolate", "columns"): 2}
LARGEST_INDEX = 9999
SUFFIXES = {"animate": (".gif", ".webp")}
PICTURE_SUFFIXES = (".png",)


@dataclass(frozen=True)
class Request:
    """One picture to make of a run.

    Attributes
    ----------
    kind : str
        One of ``KINDS``.
    out : Path
    rows, columns : int
        Tiles of the picture; for ``interpolate`` pairs and steps, for ``nearest`` samples and their neighbours.
    samples : int
        Generated images that are measured.
    seed : int or None
        Of the noise; None: the run's first.
    model : int or None
        Seed of the model; None: the first that did not diverge.
    path : str or None
        Of :data:`ssgan.inference.latents.PATHS`; None: by the latents.
    terms : list of (sign, indices)
        Of an arithmetic.
    numbered : bool
    data : str or None
        Where the run's data lie now.
    data_dir : Path or None
    """

    kind: str
    out: Path
    rows: int = 0
    columns: int = 0
    samples: int = 0
    seed: int | None = None
    model: int | None = None
    path: str | None = None
    terms: tuple[tuple[int, tuple[int, ...]], ...] = ()
    numbered: bool = False
    data: str | None = None
    data_dir: Path | None = None

    @classmethod
    def of(
        cls,
        run: Path,
        kinds: dict[str, bool],
        expression: str | None,
        out: Path | None,
        given: dict[str, str | Path | bool | None],
    ) -> "Request":
        """A request from the options of the command line.

        Parameters
        ----------
        run : Path
        kinds : dict of str to bool
            Which kinds were asked for; none is a grid.
        expression : str or None
            The value of ``--arithmetic``.
        out : Path or None
            None: ``sample-<kind>.png`` in the run folder, or ``.gif``.
        given : dict of str to value
            The other options, None or False where they were not given.

        Raises
        ------
        UserError
            For two kinds at once, an option that the kind does not take, and values out of their range.
        """
        asked = [kind for kind, chosen in kinds.items() if chosen]
        if len(asked) > 1:
            raise UserError(f"--{asked[0]} and --{asked[1]} are two pictures: ask for one at a time.")
        kind = asked[0] if asked else "grid"
        takes = KINDS[kind]
        values: dict[str, int | str | Path | bool | None] = dict(takes)
        for name, value in given.items():
            if value is None or value is False:
                continue
            if name not in takes:
                others = " or ".join(f"--{other}" for other, names in KINDS.items() if name in names)
                raise UserError(f"{_option(name)} does nothing with --{kind}: it goes with {others}.")
            if name in RANGES:
                low, high = RANGES[name]
                values[name] = whole_between(_option(name), str(value), LEAST.get((kind, name), low), high)
            else:
                values[name] = value
        values["numbered"] = bool(values.get("numbered"))
        path = values.get("path")
        if path is not None and path not in ("straight", "spherical"):
            raise UserError(f"--path is {path}, but must be straight or spherical.")
        terms = () if expression is None else parse_expression(expression)
        return cls(kind=kind, out=_checked(run, kind, out), terms=terms, **values)  # type: ignore[arg-type]


def parse_expression(text: str) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Read ``0,1,2 - 3,4,5 + 6,7,8``: terms (sign, indices), each the mean of some images of the grid.

    Raises
    ------
    UserError
        Where it is not of that form.
    """
    form = "write numbers of the grid with commas, and + or - between the terms, such as '0,1,2 - 3,4,5 + 6,7,8'"
    pieces = re.split(r"([+-])", text)
    terms = []
    for sign, piece in zip(["+", *pieces[1::2]], pieces[::2], strict=True):
        indices = [index.strip() for index in piece.split(",")]
        for index in indices:
            if not re.fullmatch(r"[0-9]+", index):
                what = f"{index!r} where a number should be" if index else "a number missing"
                raise UserError(f"--arithmetic is {text!r}, with {what}: {form}.")
            if len(index) > len(str(LARGEST_INDEX)):
                raise UserError(f"--arithmetic names image {index}, but the largest number is {LARGEST_INDEX}.")
        terms.append((1 if sign == "+" else -1, tuple(map(int, indices))))
    return tuple(terms)


def whole_between(option: str, text: str, low: int, high: int) -> int:
    """The whole number in a range that was given to an option."""
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise UserError(f"{option} is {text}, but must be a whole number from {low} to {high}.")
    return number


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _checked(run: Path, kind: str, out: Path | None) -> Path:
    suffixes = SUFFIXES.get(kind, PICTURE_SUFFIXES)
    if out is None:
        return run / f"sample-{kind}{suffixes[0]}"
    if out.suffix.lower() not in suffixes:
        raise UserError(f"--out is {out}, but with --{kind} must end in {' or '.join(suffixes)}.")
    if out.is_dir() or not out.parent.is_dir():
        what = "is a folder" if out.is_dir() else f"lies in {out.parent}, which is no folder"
        raise UserError(f"--out is {out}, which {what}: choose another file.")
    return out


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `ssgan train`, finished or not.")],
    grid: Annotated[bool, typer.Option("--grid", help="Images of fixed noise. [default]")] = False,
    interpolate: Annotated[bool, typer.Option("--interpolate", help="Images on the way between two latents.")] = False,
    arithmetic: Annotated[
        str | None,
        typer.Option(metavar="TERMS", help="Sum of means of latents, such as '0,1,2 - 3,4,5 + 6,7,8'."),
    ] = None,
    nearest: Annotated[bool, typer.Option("--nearest", help="Beside the most similar training images.")] = False,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="By the class that the discriminator gives them, and how even it is.")
    ] = False,
    animate: Annotated[bool, typer.Option("--animate", help="The grid through training, as GIF or WebP.")] = False,
    numbered: Annotated[bool, typer.Option("--numbered", help="Numbers below the images of --grid.")] = False,
    rows: Annotated[str | None, typer.Option(metavar="N", help="Rows of images.")] = None,
    columns: Annotated[str | None, typer.Option(metavar="N", help="Columns of images.")] = None,
    samples: Annotated[
        str | None, typer.Option(metavar="N", help="Images measured by --per-class (1000) and --nearest (100).")
    ] = None,
    path: Annotated[str | None, typer.Option(help="straight or spherical. [default: by the latents]")] = None,
    seed: Annotated[str | None, typer.Option(metavar="S", help="Of the noise. [default: the run's first]")] = None,
    model: Annotated[str | None, typer.Option(metavar="S", help="Seed of the model. [default: the first]")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="[default: RUN/sample-<kind>.png, or .gif]")] = None,
    data: Annotated[str | None, typer.Option(help="Where the run's data lie now, for --nearest.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where downloaded sets lie, for --nearest.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")
    ] = False,
) -> None:
    """Generate images with a run: a grid, ways between images, sums, nearest training images, classes, a film."""
    kinds = {
        "grid": grid,
        "interpolate": interpolate,
        "arithmetic": arithmetic is not None,
        "nearest": nearest,
        "per-class": per_class,
        "animate": animate,
    }
    runs.read_config(run)
    request = Request.of(
        run,
        kinds,
        arithmetic,
        out,
        {
            "numbered": numbered,
            "rows": rows,
            "columns": columns,
            "samples": samples,
            "path": path,
            "seed": seed,
            "model": model,
            "data": data,
            "data_dir": data_dir,
        },
    )
    from ssgan.inference import sample as sampling

    with terminal.reading(quiet=as_json) as progress:
        result = sampling.sample_run(run, request, device, progress)
    if as_json:
        print(json.dumps(result))
    else:
        output.show_samples(result)
