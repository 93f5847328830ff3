"""``ssgan sample``: generate images with a run, as a picture in a file."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssgan import runs
from ssgan.cli import output, terminal
from ssgan.cli.completion import complete_run
from ssgan.cli.options import Device, Json
from ssgan.errors import UserError
from ssgan.files import check_output

if TYPE_CHECKING:
    from ssgan.inference.sample import Request

__all__ = ["KINDS", "build_request", "parse_expression", "sample"]

# The options of each kind of picture, with their defaults; 0 rows or columns stand for `grid_side` of the run.
KINDS: dict[str, dict[str, int | str | bool | None]] = {
    "grid": {"rows": 0, "columns": 0, "seed": None, "model": None, "numbered": False},
    "interpolate": {"rows": 8, "columns": 9, "path": None, "seed": None, "model": None},
    "arithmetic": {"seed": None, "model": None},
    "nearest": {"rows": 8, "columns": 6, "samples": 100, "seed": None, "model": None, "data": None, "data_dir": None},
    "per-class": {"columns": 10, "samples": 1000, "seed": None, "model": None},
    "animate": {},
}
RANGES = {"rows": (1, 100), "columns": (1, 100), "samples": (1, 10_000), "seed": (0, 2**31), "model": (0, 2**32)}
LOWEST = {("interpolate", "columns"): 2}
LARGEST_INDEX = 9999
SUFFIXES = {"animate": (".gif", ".webp")}
PICTURE_SUFFIXES = (".png",)


def sample(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run folder of `ssgan train`, finished or not.", autocompletion=complete_run
        ),
    ],
    grid: Annotated[bool, typer.Option("--grid", help="Images of fixed noise. [default]")] = False,
    interpolate: Annotated[bool, typer.Option("--interpolate", help="Interpolate between two latents.")] = False,
    arithmetic: Annotated[
        str | None,
        typer.Option(metavar="TERMS", help="Arithmetic on mean latents, such as '0,1,2 - 3,4,5 + 6,7,8'."),
    ] = None,
    nearest: Annotated[bool, typer.Option("--nearest", help="Each next to the most similar training images.")] = False,
    per_class: Annotated[
        bool,
        typer.Option(
            "--per-class", help="Sort by the class that the discriminator predicts; show how even the classes are."
        ),
    ] = False,
    animate: Annotated[bool, typer.Option("--animate", help="The grid through training, as GIF or WebP.")] = False,
    numbered: Annotated[bool, typer.Option("--numbered", help="Number the images of --grid.")] = False,
    rows: Annotated[
        str | None, typer.Option(metavar="N", help="Rows of images. [default of --grid: grid_side]")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="N", help="Columns of images. [default of --grid: grid_side]")
    ] = None,
    samples: Annotated[
        str | None, typer.Option(metavar="N", help="Images measured by --per-class (1000) and --nearest (100).")
    ] = None,
    path: Annotated[str | None, typer.Option(help="straight or spherical. [default: by the latents]")] = None,
    seed: Annotated[str | None, typer.Option(metavar="S", help="Seed of the noise. [default: the run's first]")] = None,
    model: Annotated[str | None, typer.Option(metavar="S", help="Seed of the model. [default: the first]")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="[default: RUN/sample-<kind>.png, or .gif]")] = None,
    data: Annotated[str | None, typer.Option(help="New location of the run's data, for --nearest.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of downloaded data sets, for --nearest.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Generate images: a grid, interpolations, latent arithmetic, nearest training images, classes, an animation."""
    runs.read_config(run)
    chosen = {
        "grid": grid,
        "interpolate": interpolate,
        "arithmetic": arithmetic is not None,
        "nearest": nearest,
        "per-class": per_class,
        "animate": animate,
    }
    request = build_request(
        run,
        [kind for kind, is_chosen in chosen.items() if is_chosen],
        out=out,
        arithmetic=arithmetic,
        numbered=numbered,
        rows=rows,
        columns=columns,
        samples=samples,
        path=path,
        seed=seed,
        model=model,
        data=data,
        data_dir=data_dir,
    )
    from ssgan.inference.sample import sample_run

    with terminal.reading_progress(quiet=as_json) as progress:
        result = sample_run(run, request, device, progress)
    if as_json:
        print(json.dumps(result))
    else:
        output.show_samples(result)


def build_request(
    run: Path,
    kinds: Sequence[str],
    *,
    out: Path | None = None,
    arithmetic: str | None = None,
    **options: str | Path | bool | None,
) -> "Request":
    """Check the options of the command and build the request for one picture.

    Parameters
    ----------
    run : Path
    kinds : sequence of str
        The kinds that were chosen; empty for a grid.
    out : Path, optional
        None: ``sample-<kind>.png`` in the run folder, or ``.gif``.
    arithmetic : str, optional
        The expression of ``--arithmetic``.
    **options : str, Path, bool or None
        The other options by name; None or False if not given.

    Raises
    ------
    UserError
        For two kinds at once, an option that the kind does not take, and values out of their range.
    """
    if len(kinds) > 1:
        raise UserError(f"--{kinds[0]} and --{kinds[1]} are two pictures: choose one of them.")
    kind = kinds[0] if kinds else "grid"
    values = _parse_options(kind, options)
    values["out"] = _picture_path(run, kind, out)
    values["terms"] = () if arithmetic is None else parse_expression(arithmetic)
    from ssgan.inference.sample import Request  # imports torch, so only after the checks

    return Request(kind=kind, **values)


def _parse_options(kind: str, options: dict[str, str | Path | bool | None]) -> dict[str, Any]:
    """Parse the options of a kind, over its defaults."""
    values: dict[str, Any] = dict(KINDS[kind])
    for name, value in options.items():
        if value is None or value is False:
            continue
        if name not in KINDS[kind]:
            others = " or ".join(f"--{other}" for other, names in KINDS.items() if name in names)
            raise UserError(f"{_flag(name)} does nothing with --{kind}: it is for {others}.")
        if name in RANGES:
            low, high = RANGES[name]
            values[name] = _parse_integer(_flag(name), str(value), LOWEST.get((kind, name), low), high)
        else:
            values[name] = value
    path = values.get("path")
    if path is not None and path not in ("straight", "spherical"):
        raise UserError(f"--path is {path}, but must be straight or spherical.")
    return values


def parse_expression(text: str) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Parse ``0,1,2 - 3,4,5 + 6,7,8``: terms (sign, indices), each the mean of some images of the grid.

    Raises
    ------
    UserError
        If the expression does not have this form.
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


def _parse_integer(option: str, text: str, low: int, high: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise UserError(f"{option} is {text}, but must be an integer from {low} to {high}.")
    return number


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _picture_path(run: Path, kind: str, out: Path | None) -> Path:
    """Return the file of the picture; check it if the user named it."""
    suffixes = SUFFIXES.get(kind, PICTURE_SUFFIXES)
    if out is None:
        return run / f"sample-{kind}{suffixes[0]}"
    if out.suffix.lower() not in suffixes:
        raise UserError(f"--out is {out}, but with --{kind} must end in {' or '.join(suffixes)}.")
    check_output("--out", out)
    return out
