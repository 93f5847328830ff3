#!/usr/bin/env python3
"""Write the tables of README.md from the rows in `results/`, docs/settings.md, and the picture.

Only what stands between `<!-- NAME -->` and `<!-- /NAME -->` is replaced. The test suite makes the
tables again and compares. `--picture` draws `results/digits.png` anew (trains one model of 50 labels
for its samples).
"""

import argparse
import io
import json
import re
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from ssgan.config import FIELDS, Config, allowed, describe, resolve

ROOT = Path(__file__).resolve().parents[1]
NORMS = {"batch": "batch norm (the preset)", "virtual": "virtual batch norm", "none": "none"}


def rows(dataset: str) -> list[dict[str, Any]]:
    """Every row of a data set."""
    return [
        json.loads(line) for line in (ROOT / "results" / f"{dataset}.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def cell(found: list[dict[str, Any]]) -> str:
    """Mean and deviation of a cell's errors, with the number of draws that have one."""
    errors = [row["error"] for row in found if row["error"] is not None]
    lost = f", {len(found) - len(errors)} diverged" if len(errors) < len(found) else ""
    return f"{statistics.mean(errors):.2f} ± {statistics.stdev(errors):.2f}{lost}"


def digits_table() -> str:
    """Error by method and labels."""
    cells: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows("digits"):
        if not row["settings"]:
            cells[row["method"], row["labels"]].append(row)
    labels = sorted({n for _, n in cells})
    lines = ["| method | " + " | ".join(f"{n} labels" for n in labels) + " |", "|---" * (len(labels) + 1) + "|"]
    for method in ("gan", "supervised"):
        lines.append(f"| `{method}` | " + " | ".join(cell(cells[method, n]) for n in labels) + " |")
    stack = cells["gan", labels[len(labels) // 2]]
    one = stack[0]
    draws = " or ".join(map(str, sorted({len(found) for found in cells.values()})))
    lines += [
        "",
        f"Test error in %, mean ± standard deviation over {draws} label draws, of the averaged model after the last",
        f"step. Both methods have one network, the same draws and {one['images']:,} images, without augmentation;",
        "labelled images also lie in the pool. Every seed is a row of [results/digits.jsonl](results/digits.jsonl).",
        f"Training the {len(one['stack'])} models of the cell with {one['labels']} labels side by side took "
        f"{one['seconds'] / 60:.1f} minutes on {one['device_name']}.",
    ]
    return "\n".join(lines)


def norm_table() -> str:
    """Error by the normalisation of G."""
    cells: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows("digits"):
        settings = dict(row["settings"])
        norm = settings.pop("generator_norm", "batch")
        if row["method"] == "gan" and row["labels"] == 50 and not settings:
            cells[norm].append(row)
    draws = set.intersection(*({row["draw_seed"] for row in cells[norm]} for norm in NORMS))
    common = {norm: [row for row in cells[norm] if row["draw_seed"] in draws] for norm in NORMS}
    lines = [f"| generator's normalisation | error %, 50 labels, the same {len(draws)} draws |", "|---|---|"]
    return "\n".join([*lines, *(f"| {NORMS[norm]} | {cell(common[norm])} |" for norm in NORMS)])


BLOCKS = {"digits": digits_table, "norms": norm_table}


def rendered(text: str) -> str:
    """The README with every block made anew."""
    for name, render in BLOCKS.items():
        pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
        before, after = pattern.split(text, maxsplit=1)
        text = f"{before}<!-- {name} -->\n\n{render()}\n\n<!-- /{name} -->{after}"
    return text


def settings() -> str:
    """docs/settings.md: every setting, from config.py."""
    shown = [{name: value for name, value, _ in describe(c)} for c in (Config(), resolve("digits", {}))]
    lines = [
        "# Settings",
        "",
        "Set by `--set field=value`, or in Python by `Config(field=value)`. The defaults are the paper's MNIST recipe;",
        "where the preset `digits` differs, its value stands behind. This page is written by `scripts/readme.py`.",
        "",
        "| setting | default | `digits` | unit | what it is | allowed |",
        "|---|---|---|---|---|---|",
    ]
    for name, field in FIELDS.items():
        default, digits = (values[name] or " " for values in shown)
        own = digits if digits != default else ""
        text, unit = field.metadata["text"], field.metadata["unit"]
        lines.append(f"| `{name}` | {default} | {own} | {unit} | {text} | {allowed(name)} |")
    return "\n".join(lines) + "\n"


def picture() -> None:
    """Draw error against labels for every draw, and generated digits beside it."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    from ssgan import load, train
    from ssgan.files import write_atomic
    from ssgan.gallery import grid

    run = train(load("digits"), resolve("digits", {}))
    samples = (255 * run.models.sample(64)[0]).round().astype(np.uint8)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(1.5, 1))
    for i, (method, colour) in enumerate((("supervised", "tab:gray"), ("gan", "tab:blue"))):
        found = [row for row in rows("digits") if row["method"] == method and not row["settings"]]
        labels = sorted({row["labels"] for row in found})
        errors = [[row["error"] for row in found if row["labels"] == n] for n in labels]
        places = np.arange(len(labels)) + (i - 0.5) * 0.16
        left.plot(places, [np.mean(e) for e in errors], "-o", color=colour, label=method, zorder=3)
        for place, each in zip(places, errors, strict=True):
            left.plot([place] * len(each), each, ".", color=colour, alpha=0.45, markersize=7)
        left.set_xticks(np.arange(len(labels)), [str(n) for n in labels])
    left.set(xlabel="labelled images", ylabel="test error, %", ylim=(0, None), title="digits: every label draw")
    left.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    right.imshow(grid(samples, columns=8, tile_pixels=48), cmap="gray")
    right.set(title="generated digits")
    right.axis("off")
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, dpi=110, metadata={"Software": None})
    write_atomic(ROOT / "results" / "digits.png", content.getvalue())


def main() -> None:
    """Write README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", action="store_true", help="draw results/digits.png anew")
    readme = ROOT / "README.md"
    readme.write_text(rendered(readme.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs" / "settings.md").write_text(settings(), encoding="utf-8")
    if parser.parse_args().picture:
        picture()


if __name__ == "__main__":
    main()
