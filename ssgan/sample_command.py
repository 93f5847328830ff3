"""``ssgan sample``: words for the user around :mod:`ssgan.inference.sample`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ssgan import answers, runs, screen
from ssgan.requested import Request

__all__ = ["sample"]


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

    with screen.reading(quiet=as_json) as progress:
        result = sampling.sample_run(run, request, device, progress)
    if as_json:
        print(json.dumps(result))
    else:
        answers.samples(result)
