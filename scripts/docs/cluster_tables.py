"""Make tables of the cost of large grids and many pictures, from the times in rows."""

import statistics
import textwrap

from table_rows import rows

STACKS, PICTURES = 1_000, 100_000_000
PROCESSORS = (64, 1_000)
PRICE = 0.05  # assumed price of a processor-hour, in dollars
HOUR = 3600.0
GRIDS = {
    "digits-compare": ("digits-fast", "digits, 8x8"),
    "mnist-compare": ("images", "MNIST, 28x28"),
    "features-cifar10": ("features", "CIFAR-10, features"),
}


def _stacks(name: str, preset: str, method: str) -> list[tuple[int, float]]:
    """List the number of models and the seconds of each stack of a file."""
    stacks = {}
    for row in rows(name):
        if row["preset"] == preset and row["method"] == method and row["seconds"] is not None:
            stacks[row["config_sha256"], row["labels"], *row["stack"]] = len(row["stack"]), row["seconds"]
    return list(stacks.values())


def grid_cost_table() -> str:
    """Make the table of a grid of a thousand stacks, by data and method."""
    lines = [
        f"| data | method | models of a stack | seconds of a stack | processor-hours of {STACKS:,} | "
        + " | ".join(f"hours on {count:,}" for count in PROCESSORS)
        + " | dollars |",
        "|---" * (6 + len(PROCESSORS)) + "|",
    ]
    for name, (preset, data_name) in GRIDS.items():
        for method in ("gan", "supervised"):
            stacks = _stacks(name, preset, method)
            seconds = [time for _, time in stacks]
            hours = STACKS * statistics.mean(seconds) / HOUR
            # While the last stacks run, the other processors may be idle for the time of one stack.
            spans = [f"{hours / count + max(seconds) / HOUR:,.2f}" for count in PROCESSORS]
            models = "-".join(map(str, sorted({models for models, _ in stacks})))
            columns = [data_name, f"`{method}`", models, f"{statistics.mean(seconds):,.0f} ({len(stacks)} stacks)"]
            lines.append(f"| {' | '.join([*columns, f'{hours:,.0f}', *spans, f'{PRICE * hours:,.1f}'])} |")
    text = (
        "Mean seconds of a stack on one thread, from rows of "
        + ", ".join(f"`{name}.jsonl`" for name in GRIDS)
        + f"; the hours are an upper bound, reached if the longest training starts last. A processor-hour at {PRICE} "
        "dollars is an assumption."
    )
    return "\n".join([*lines, "", textwrap.fill(text, 115, break_on_hyphens=False)])


def picture_cost_table() -> str:
    """Make the table of a hundred million pictures."""
    lines = [
        "| predicted from | ms a picture | processor-hours | "
        + " | ".join(f"hours on {count:,}" for count in PROCESSORS)
        + f" | dollars | read, TB | read by {PROCESSORS[-1]:,}, GB/s | rows, GB |",
        "|---" * (7 + len(PROCESSORS)) + "|",
    ]
    kind_rows = rows("predict")
    for row in kind_rows:
        hours = PICTURES * row["cpu_seconds"] / HOUR
        spans = [f"{hours / count:,.2f}" for count in PROCESSORS]
        rate = PROCESSORS[-1] * row["picture_bytes"] / row["cpu_seconds"]
        sizes = [f"{PICTURES * row['picture_bytes'] / 1e12:.1f}", f"{rate / 1e9:.1f}"]
        sizes.append(f"{PICTURES * row['row_bytes'] / 1e9:.1f}")
        columns = [row["kind"], f"{1000 * row['cpu_seconds']:.1f}", f"{hours:,.0f}", *spans, f"{PRICE * hours:,.0f}"]
        lines.append(f"| {' | '.join([*columns, *sizes])} |")
    one = kind_rows[0]
    text = (
        f"{PICTURES:,} pictures by the processor time, sizes and rows of {one['pictures']} JPEG files of "
        f"{one['pixels'][0]} x {one['pixels'][1]} pixels, {one['picture_bytes'] / 1000:.0f} kB each, in "
        f"`predict.jsonl`, on {one['device_name']}. Processor time is that of reading, decoding, resizing and "
        "predicting. Nothing here has run on more than one machine."
    )
    return "\n".join([*lines, "", textwrap.fill(text, 115, break_on_hyphens=False)])
