#!/usr/bin/env python3
"""Train the examples of docs/gan.md, and update its pictures and numbers: `scripts/experiments/walk.py`.

Every step runs the commands of the page in `runs/walk/`; a finished run is not trained again. The picture of a step is
saved in `docs/pictures/`, and its results in `results/rows/walk.jsonl`. `--page` writes the page from these rows and
trains nothing. `scripts/experiments/walk.py 2 4` runs steps 2 and 4.
"""

import argparse
import itertools
import json
import os
import re
import shlex
import shutil
import statistics
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import results
from ssgan import cli
from ssgan.files import write_atomic
from ssgan.inference.metrics import Diversity

ROOT = Path(__file__).resolve().parents[2]
PAGE, ROWS = ROOT / "docs" / "gan.md", results.ROWS / "walk.jsonl"
SCRATCH, PICTURES = ROOT / "runs" / "walk", ROOT / "docs" / "pictures"
KEPT = (
    *("dataset", "labels", "method", "preset", "settings", "images", "seconds", "device_name", "versions", "commit"),
    *("seeds", "error_mean", "diversity", "ks", "wasserstein"),
)


def split_command(command: str) -> list[str]:
    """Split a command into words; a backslash at the end of a line continues the command on the next line."""
    return shlex.split(command.replace("\\\n", " "))


class Step(NamedTuple):
    """One step of the page.

    Attributes
    ----------
    commands : tuple of str
        Commands of the step; the first one trains.
    picture : str
        The picture in the run's folder that the page shows.
    describe : callable
        Writes the text of the page from the row of a training.
    """

    commands: tuple[str, ...]
    picture: str
    describe: Callable[[Mapping[str, Any]], str]

    @property
    def run(self) -> str:
        """Return the run folder of the first command."""
        arguments = split_command(self.commands[0])
        return arguments[arguments.index("--out") + 1]


def _samples_text(row: Mapping[str, Any]) -> str:
    diversity = row["diversity"]
    verdict = ""
    if row["judged"]:
        real, fake = (f"{100 * row['judged'][kind]:.0f} %" for kind in ("real", "fake"))
        shares = f"classified {real} of real images as real and {fake} of generated ones as generated"
        verdict = f"In the last quarter of the training D {shares}. "
    return (
        f"{verdict}Collapse {diversity['collapse']:.2f}, where as many real images have "
        f"{diversity['real']['collapse']:.2f}; spread {diversity['spread']:.2f}."
    )


def _classifier_text(row: Mapping[str, Any]) -> str:
    return f"**Test error {row['error_mean']:.2f} % with {row['labels']} labels.** {_samples_text(row)}"


def _density_text(row: Mapping[str, Any]) -> str:
    return (
        f"The largest difference of the two distribution functions (Kolmogorov-Smirnov) is {row['ks'][0]:.3f}, the "
        f"mean difference of the quantiles (Wasserstein) {row['wasserstein'][0]:.3f}."
    )


STEPS = {
    1: Step(("ssgan train gaussian --out gaussian",), "density.png", _density_text),
    2: Step(("ssgan train mnist --preset gan-mlp --out gan-mlp",), "samples.png", _samples_text),
    3: Step(
        (
            "ssgan train mnist --preset dcgan --set total_images=60000 --set batch_size=64 --set grid_side=5 \\\n"
            "    --set discriminator_widths=16 --set generator_widths=16 --set learning_rate_g=1e-3 --out dcgan",
        ),
        "samples.png",
        _samples_text,
    ),
    4: Step(
        (
            "ssgan train mnist --preset images --labels 100 --set total_images=40000 --out classifier",
            "ssgan sample classifier --per-class",
        ),
        "sample-per-class.png",
        _classifier_text,
    ),
}


def rows() -> dict[int, dict[str, Any]]:
    """Read the row of each step."""
    return {row["step"]: row for row in results.rows(ROWS)}


def block(number: int, row: Mapping[str, Any]) -> str:
    """Write the block of one step: its commands, its picture and its results."""
    step = STEPS[number]
    commands = "\n".join(f"$ {command}" for command in step.commands)
    minutes = f"{row['seconds'] / 60:.1f} minutes on {row['device_name']}, on a busy machine."
    duration = f"{row['images']:,} {'numbers' if number == 1 else 'images'} took {minutes}"
    return (
        f"```console\n{commands}\n```\n\n![What step {number} generates](pictures/walk-{number}.png)\n\n"
        f"{_wrap(f'{step.describe(row)} {duration}')}"
    )


def _wrap(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def dcgan_block() -> str:
    """Write the block of a wider network on Fashion-MNIST."""
    (row,) = results.rows(results.ROWS / "dcgan.jsonl")
    minutes = f"{row['seconds'] / 60:.1f} minutes"
    return "![Generated clothes](pictures/dcgan-samples.png)\n\n" + _wrap(
        f"Fashion-MNIST by the same preset with {row['settings']['generator_widths'][0]} channels, {row['images']:,} "
        f"images, {minutes} on {row['device_name']} on a busy machine: coverage "
        f"{row['coverage']:.2f}, spread {row['spread']:.2f}. [Its way there](pictures/dcgan.webp)."
    )


def collapse_table() -> str:
    """Write the table of remedies against a collapse, with the mean over the seeds and each of them."""
    every_row = results.rows(results.ROWS / "collapse.jsonl")
    remedies = [
        json.loads(json.dumps({**results.NARROW_DCGAN, **settings, "grid_side": 4}))
        for settings in results.COLLAPSE_REMEDIES.values()
    ]
    cells = [{row["seed"]: row for row in every_row if row["settings"] == settings} for settings in remedies]
    seeds = sorted(set.intersection(*map(set, cells)))  # seeds that every remedy has
    fields = sorted(Diversity._fields, key=lambda name: name != "collapse")
    header = ["remedy", *fields, "samples of the first seed"]
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for i, (name, cell) in enumerate(zip(results.COLLAPSE_REMEDIES, cells, strict=True)):
        columns = []
        for field in fields:
            each = ", ".join("diverged" if cell[seed][field] is None else f"{cell[seed][field]:.2f}" for seed in seeds)
            finite = [cell[seed][field] for seed in seeds if cell[seed][field] is not None]
            columns.append(f"{statistics.mean(finite):.2f} ({each})" if finite else each)
        lines.append(f"| {' | '.join([name, *columns, f'![{name}](pictures/collapse-samples/{i}.png)'])} |")
    one = cells[0][seeds[0]]
    width, batch = one["settings"]["generator_widths"][0], one["settings"]["batch_size"]
    caption = (
        f"Fashion-MNIST, {one['images']:,} images by `dcgan` with {width} channels and batches of {batch}; the mean of "
        f"{len(seeds)} seeds and each of them, against 1,000 images of the pool. Every seed is a row of "
        f"[results/rows/collapse.jsonl](../results/rows/collapse.jsonl)."
    )
    return "\n".join([*lines, "", _wrap(caption)])


def page(text: str) -> str:
    """Regenerate every block of the page."""
    blocks = {f"step {number}": block(number, row) for number, row in rows().items()}
    blocks |= {name: render() for name, render in TABLES.items() if (results.ROWS / f"{name}.jsonl").exists()}
    for name, content in blocks.items():
        pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
        before, after = pattern.split(text, maxsplit=1)
        text = f"{before}<!-- {name} -->\n\n{content}\n\n<!-- /{name} -->{after}"
    return text


TABLES = {"dcgan": dcgan_block, "collapse": collapse_table}


def discriminator_accuracy(run: Path) -> dict[str, float] | None:
    """Compute the accuracy of D over the last quarter of a training from the log; None with classes.

    In evaluation a D with batch norm is normalised by real images, and classifies more generated images as real.
    """
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    if "accuracy_fake" not in lines[-1]:
        return None
    steps = [line["step"] for line in lines]
    counts = [after - before for before, after in itertools.pairwise([0, *steps])]
    late_lines = [(line, count) for line, count in zip(lines, counts, strict=True) if line["step"] > 0.75 * steps[-1]]
    total = sum(count for _, count in late_lines)
    kinds = ("real", "fake")
    return {kind: sum(line[f"accuracy_{kind}"][0] * count for line, count in late_lines) / total for kind in kinds}


def run_step(number: int) -> None:
    """Run the commands of a step that have not run yet, and save its picture and results."""
    step = STEPS[number]
    SCRATCH.mkdir(parents=True, exist_ok=True)
    PICTURES.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    os.chdir(SCRATCH)
    try:
        for command in step.commands:
            _, *arguments = split_command(command)
            if arguments[0] == "train" and Path(step.run, "report.json").exists():
                continue
            if arguments[0] == "train" and Path(step.run).exists():
                arguments.append("--resume")
            try:
                cli.main(arguments)
            except SystemExit as end:
                if end.code:
                    raise
        shutil.copyfile(Path(step.run, step.picture), PICTURES / f"walk-{number}.png")
        report = json.loads(Path(step.run, "report.json").read_text(encoding="utf-8"))
        accuracy = discriminator_accuracy(Path(step.run))
    finally:
        os.chdir(before)
    row = {"step": number, **{key: report[key] for key in KEPT if key in report}, "judged": accuracy}
    every_row = {**rows(), number: row}
    lines = [json.dumps(every_row[n]) for n in sorted(every_row)]
    write_atomic(ROWS, "".join(f"{line}\n" for line in lines).encode())


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen steps and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", type=int, metavar="STEP", help="steps to run; by default all")
    parser.add_argument("--page", action="store_true", help="only write the page")
    args = parser.parse_args(arguments)
    if unknown := set(args.steps) - set(STEPS):
        parser.error(f"there is no step {min(unknown)}: choose from {', '.join(map(str, STEPS))}")
    for number in [] if args.page else args.steps or STEPS:
        run_step(number)
    write_atomic(PAGE, page(PAGE.read_text(encoding="utf-8")).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
