#!/usr/bin/env python3
"""Time one training step, plain PyTorch and the matrix products alone: the source of the published times.

    python scripts/benchmarks/speed.py --seeds 1,10 --busy --json results/rows/speed.jsonl

Every contender is a separate process and they take turns, so other load on the machine slows all of them, and each has
its own settings and memory; the first round warms up and is not counted. ``ssgan`` is the trainer with its batches, for
one model or a stack. ``plain PyTorch`` is the same computation as an eager program with separate batches,
`scripts/benchmarks/plain.py`; ``--check`` compares the two in float64 without noise. ``products`` are the float32
matrix products that a step needs.

GFLOP/s counts those products alone. ``x plain`` is model steps a second over those of plain PyTorch. ``share`` is
the time of the products alone over the time of the step; for a stack the products of its models run one
after another (torch.mm) or side by side (torch.bmm), whichever is faster. ``busy`` is the time of a step beside
one other process that keeps a core busy. Other presets have no plain program: their rows hold only ssgan.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PARENT_ENVIRONMENT = dict(os.environ)  # read before ssgan sets how OpenMP waits, which a plain program does not do

from ssgan.settings import parse, resolve  # noqa: E402

SCRIPTS = Path(__file__).resolve().parent
PRESET = "mnist-paper"
SIZE_SETTINGS = ("batch_size", "discriminator_widths", "generator_widths", "init_images", "labels", "latent_size")
OTHER_SETTINGS = ("seed_strategy", "precision", "cuda_graph", "compile_losses", "dtype")
TOLERANCE = 1e-9
START_ROUNDS = 7
BUSY_LOOP = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"  # ends with the parent process
SQUARE = 4096
COPY_MEGABYTES = 256
STARTS = {"import typer": "import typer", "ssgan --help": "from ssgan.cli import main; main(['--help'])"}


class Contender:
    """A program in a separate process, which waits for its turn."""

    def __init__(self, name: str, models: int, settings: dict[str, Any]) -> None:
        self.name, self.models, self.times, self.busy_times = name, models, [], []
        self.peaks: dict[str, int] = {}
        command = [sys.executable, str(SCRIPTS / "contender.py"), name, str(models), json.dumps(settings)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=PARENT_ENVIRONMENT)
        self.first_step = self._answer()["first_step"]

    def turn(self, steps: int) -> float:
        """Run a number of steps; return the seconds of one step."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.peaks = {key: value for key, value in answer.items() if key.startswith("peak")}
        return answer["seconds"] / steps

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}, {self.models} models: the process ended with status {self.process.wait()}.")
        return json.loads(line)


def start_times() -> dict[str, float]:
    """Time whole processes in turn; return the shortest wall-clock time of each."""
    times: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(START_ROUNDS):
        for name, code in STARTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
            times[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in times.items()}


def quartiles(seconds: list[float]) -> list[float]:
    """Compute the first quartile, median and third quartile in milliseconds."""
    ordered = statistics.quantiles(seconds, n=4, method="inclusive")
    return [1e3 * value for value in ordered]


def measure(
    preset: str, settings: dict[str, Any], stacks: list[int], rounds: int, steps: int, busy: bool
) -> dict[str, Any]:
    """Time the contenders in turn; return the row of results."""
    programs = [("ssgan", models) for models in stacks]
    if preset == PRESET:
        programs += [("plain", 1), *(("products", models) for models in sorted({1, *stacks}))]
    programs += [("square", SQUARE), ("copy", COPY_MEGABYTES)]
    contenders = [Contender(name, models, {**settings, "preset": preset}) for name, models in programs]
    for quiet in (True, False) if busy else (True,):
        busy_process = None if quiet else subprocess.Popen([sys.executable, "-c", BUSY_LOOP])
        for _ in range(rounds + 1):
            for contender in contenders:
                if quiet or contender.name in ("ssgan", "plain"):
                    (contender.times if quiet else contender.busy_times).append(
                        contender.turn(steps if contender.name != "square" else 1)
                    )
        if busy_process is not None:
            busy_process.kill()
            busy_process.wait()
    for contender in contenders:
        contender.close()
    return result(preset, settings, contenders, rounds, steps)


def result(
    preset: str, settings: dict[str, Any], contenders: list[Contender], rounds: int, steps: int
) -> dict[str, Any]:
    """Compute the row of results from the times."""
    import ceiling
    import torch

    from ssgan import runs
    from ssgan.devices import device_name, select

    config = resolve(preset, settings)
    device = select(config.device)
    median = {(contender.name, contender.models): statistics.median(contender.times[1:]) for contender in contenders}
    flop = ceiling.gigaflop(ceiling.products(config, 28 * 28, 10)) if preset == PRESET else None
    rows = []
    for contender in contenders:
        if contender.name in ("square", "copy"):
            continue
        seconds = median[contender.name, contender.models]
        row: dict[str, Any] = {
            "contender": contender.name,
            "models": contender.models,
            "ms_quartiles": quartiles(contender.times[1:]),
        }
        row["images_per_second"] = config.images_per_step / seconds
        if contender.busy_times:
            row["ms_busy"] = 1e3 * statistics.median(contender.busy_times[1:])
        if flop is not None:
            row["gflop_per_second"] = contender.models * flop / seconds
            row["times_plain"] = contender.models * median["plain", 1] / seconds
            row["share"] = min(median["products", contender.models], contender.models * median["products", 1]) / seconds
        rows.append({**row, "first_step_seconds": contender.first_step, **contender.peaks})
    square = 2 * SQUARE**3 / 1e9 / min(next(contender for contender in contenders if contender.name == "square").times)
    copy = 2 * COPY_MEGABYTES / 1e3 / min(next(contender for contender in contenders if contender.name == "copy").times)
    return {
        "preset": preset,
        "settings": settings,
        "config_sha256": config.sha256,
        "gflop": flop,
        "rounds": rounds,
        "steps": steps,
        "contenders": rows,
        "square_gflop_per_second": square,
        "copy_gigabytes_per_second": copy,
        "start_seconds": start_times(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        **runs.provenance(),
    }


def table(row: dict[str, Any]) -> str:
    """Format a row of results as text, 80 columns wide."""
    gflop = "" if row["gflop"] is None else f": {row['gflop']:.3g} GFLOP a step"
    lines = [f"{row['preset']}{gflop}; {row['rounds']} rounds of {row['steps']} steps"]
    lines += [f"  with {name}={value}" for name, value in row["settings"].items()]
    lines += [
        "",
        f"{'contender':20}{'ms a step':>10}{'quartiles':>16}{'busy':>8}{'GFLOP/s':>8}{'x plain':>8}{'share':>10}",
    ]
    for contender in row["contenders"]:
        low, median, high = contender["ms_quartiles"]
        busy = f"{contender['ms_busy']:.1f}" if "ms_busy" in contender else ""
        rate = f"{contender['gflop_per_second']:.0f}" if "share" in contender else ""
        times, share = (
            (f"{contender['times_plain']:.2f}", f"{contender['share']:.0%}") if "share" in contender else ("", "")
        )
        lines.append(
            f"{contender['contender']:14}{contender['models']:6}{median:10.2f}{f'{low:.1f}-{high:.1f}':>16}{busy:>8}"
            f"{rate:>8}{times:>8}{share:>10}"
        )
    ssgan_rows = [contender for contender in row["contenders"] if contender["contender"] == "ssgan"]
    memory = ", ".join(f"{contender['models']}: {contender['peak_bytes'] / 1e9:.2f} GB" for contender in ssgan_rows)
    starts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in row["start_seconds"].items())
    first = ssgan_rows[0]["first_step_seconds"]
    return "\n".join(
        [
            *lines,
            "",
            f"Peak memory of ssgan by models: {memory}. First step after {first:.1f} s.",
            f"Start: {starts}.",
            f"Best square product {row['square_gflop_per_second']:.0f} GFLOP/s, copy "
            f"{row['copy_gigabytes_per_second']:.0f} GB/s (read and written).",
            f"{row['device']}, {row['threads']} threads, commit {row['commit']}",
            ", ".join(f"{name} {version}" for name, version in row["versions"].items()),
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure, or compare the programs (``--check``)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default=PRESET)
    parser.add_argument("--seeds", default="1", help="models of each stack, such as 1,10")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=16, help="steps of each contender in a round")
    parser.add_argument("--busy", action="store_true", help="repeat with a process that keeps a core busy")
    parser.add_argument("--device", default="auto")
    choices = ", ".join((*SIZE_SETTINGS, *OTHER_SETTINGS))
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help=f"one of {choices}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the result to it as a line of JSON")
    parser.add_argument("--check", action="store_true", help="only compare both programs, and measure nothing")
    args = parser.parse_args(arguments)
    stacks = [int(models) for models in args.seeds.split(",")]
    if not {pair.partition("=")[0] for pair in args.set} <= {*SIZE_SETTINGS, *OTHER_SETTINGS}:
        parser.error(f"--set takes {choices}")
    settings = {**dict(map(parse, args.set)), "device": args.device}
    if not args.check:
        row = measure(args.preset, settings, stacks, args.rounds, args.steps, args.busy)
        print(table(row))
        if args.json:
            from ssgan import runs

            runs.append_rows(args.json, [row])
        return
    import plain

    config = resolve(PRESET, settings)
    for models in stacks:
        difference = plain.check_equal(config.replace(seeds=models), plain.images())
        print(f"ssgan and plain PyTorch, models {models}: largest relative difference {difference:.1e}")
        if not difference < TOLERANCE:
            sys.exit(f"The programs differ by more than rounding: {TOLERANCE:g}.")


if __name__ == "__main__":
    main()
