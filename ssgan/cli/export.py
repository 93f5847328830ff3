"""``ssgan export``: write the classifier of a run as one file for use without this package."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ssgan import runs
from ssgan.cli import terminal
from ssgan.cli.completion import among
from ssgan.cli.options import Json, RunArgument, parse_integer
from ssgan.errors import UserError, did_you_mean
from ssgan.files import check_output

__all__ = ["SUFFIXES", "export"]

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}


def export(
    run: RunArgument,
    format: Annotated[
        str,
        typer.Option(
            help="onnx; torch, for torch.export.load; or safetensors, the weights only.",
            autocompletion=among(SUFFIXES),
        ),
    ] = "onnx",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file. [default: model.onnx and so on in RUN]")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="S", help="Only the model of this seed. [default: as predict]")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check", help="Compare the outputs of the file with those of predict on a few images."
        ),
    ] = True,
    as_json: Json = False,
) -> None:
    """Write the classifier as one file for use without ssgan: from pictures to class probabilities."""
    if format not in SUFFIXES:
        raise UserError(
            f"--format is {format}, but must be one of {', '.join(SUFFIXES)}.{did_you_mean(format, SUFFIXES)}"
        )
    model_seed = None if model is None else parse_integer("--model", model)
    runs.check_usable(run)
    path = _export_path(run, format, out)
    from ssgan.inference.export import export_run

    result = export_run(run, path, format, model_seed, check)
    if result["progress"]:
        terminal.warn(result["progress"])
    if as_json:
        print(json.dumps(result))
    else:
        _show(result, check)


def _export_path(run: Path, format: str, out: Path | None) -> Path:
    """Return the file to write, after checking it before any work is done."""
    suffix = SUFFIXES[format]
    path = run / f"model{suffix}" if out is None else out
    if path.suffix.lower() != suffix:
        raise UserError(f"--out is {path}, but with --format {format} must end in {suffix}.")
    check_output("--out", path)
    return path


def _show(result: Mapping[str, Any], asked_to_check: bool) -> None:
    """Print the result of :func:`ssgan.inference.export.export_run`: the file, its input and output, and the check."""
    metadata, check = result["metadata"], result["check"]
    kind = {"onnx": f"ONNX, opset {metadata.get('opset')}", "torch": "torch.export", "safetensors": "weights only"}
    terminal.say(f"{result['out']}: {kind[result['format']]}, {result['bytes'] / 1000:,.0f} kB")
    note = f" ({result['note']})" if result["note"] else ""
    terminal.say(f"by {result['predictions_of']}{note}")
    shapes = {"images": metadata["input"]["shape"], **metadata["outputs"]}
    texts = {name: f"{name} [{', '.join(map(str, shape))}]" for name, shape in shapes.items()}
    terminal.say(f"{metadata['input']['dtype']} {texts.pop('images')} to {' and '.join(texts.values())}")
    if check is not None:
        terminal.say(f"Checked in {check['engine']} on {check['images']} {check['from']}: the same classes,")
        terminal.say(f"probabilities differ from those of predict by at most {check['largest_difference']:.1g}")
    elif asked_to_check and result["format"] == "onnx":
        terminal.say("Not checked: onnxruntime is not installed (pip install 'ssgan[onnx]')", style="yellow")
