#!/usr/bin/env python3
"""Write the tables of README.md from the rows in `results/`, docs/settings.md, and the picture.

Only what stands between `<!-- NAME -->` and `<!-- /NAME -->` is replaced. The test suite makes the
tables again and compares. `--picture` draws `results/digits.png` anew (trains one model of 50 labels
for its samples) and `results/mnist-short.png`.
"""

import argparse
import io
import re
from typing import Any

from tables import BLOCKS, ROOT, mnist_curves, rows

from ssgan.settings.config import FIELDS, Config
from ssgan.settings.presets import PRESETS, allowed, describe, resolve


def rendered(text: str) -> str:
    """The README with every block made anew."""
    for name, render in BLOCKS.items():
        pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
        before, after = pattern.split(text, maxsplit=1)
        text = f"{before}<!-- {name} -->\n\n{render()}\n\n<!-- /{name} -->{after}"
    return text


def settings() -> str:
    """docs/settings.md: every setting, from config.py."""
    default = {name: value for name, value, _ in describe(Config())}
    presets = {preset: {name: value for name, value, _ in describe(resolve(preset, {}))} for preset in PRESETS}
    lines = [
        "# Settings",
        "",
        "Set by `--set field=value`, or in Python by `Config(field=value)`. The defaults are the paper's MNIST recipe.",
        "This page is written by `scripts/readme.py`.",
        "",
        "| setting | default | in presets | unit | what it is | allowed |",
        "|---|---|---|---|---|---|",
    ]
    for name, field in FIELDS.items():
        differing = [f"`{p}` {v[name]}" for p, v in presets.items() if name != "preset" and v[name] != default[name]]
        text, unit = field.metadata["text"], field.metadata["unit"]
        own = ", ".join(differing)
        lines.append(f"| `{name}` | {default[name] or ' '} | {own} | {unit} | {text} | {allowed(name)} |")
    return "\n".join(lines) + "\n"


def digits_picture() -> None:
    """Draw error against labels for every draw, and generated digits beside it."""
    import numpy as np
    from matplotlib import pyplot as plt

    from ssgan import load, train
    from ssgan.figures.image_grid import draw_grid

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
    left.legend(frameon=False)
    _show_samples(right, draw_grid(samples, columns=8, tile_pixels=48), "generated digits")
    _save(figure, "digits.png")


def mnist_picture() -> None:
    """Draw error and feature matching over the epochs of the short MNIST runs, and generated digits beside them."""
    from matplotlib import pyplot as plt
    from PIL import Image

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), width_ratios=(1.2, 1.2, 1))
    colours = {True: "tab:blue", False: "tab:orange"}
    for inside, seeds in mnist_curves().items():
        for seed, line in seeds.items():
            name = f"epsilon {'inside' if inside else 'outside'} the root" if seed == min(seeds) else None
            left.plot(list(line), [one["errors"][0] for one in line.values()], color=colours[inside], label=name)
            left.plot(list(line), [one["errors_raw"][0] for one in line.values()], ":", color=colours[inside])
            middle.plot(list(line), [one["feature_matching"][0] for one in line.values()], ".-", color=colours[inside])
    left.set(xlabel="epochs", ylabel="test error, %", ylim=(0, None), title="MNIST, 100 labels (dotted: not averaged)")
    middle.set(xlabel="epochs", ylabel="feature matching loss", yscale="log", title="what the generator is left with")
    left.legend(frameon=False)
    with Image.open(ROOT / "results" / "mnist-short-samples.png") as samples:
        _show_samples(right, samples.copy(), "generated digits")
    _save(figure, "mnist-short.png")


def _show_samples(axes: Any, samples: Any, title: str) -> None:
    axes.imshow(samples, cmap="gray")
    axes.set(title=title)
    axes.axis("off")


def _save(figure: Any, name: str) -> None:
    from ssgan.files import write_atomic

    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, dpi=110, metadata={"Software": None})
    write_atomic(ROOT / "results" / name, content.getvalue())


def picture() -> None:
    """Draw every picture."""
    import matplotlib

    matplotlib.use("Agg")
    digits_picture()
    mnist_picture()


def main() -> None:
    """Write README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", action="store_true", help="draw the pictures anew")
    readme = ROOT / "README.md"
    readme.write_text(rendered(readme.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs" / "settings.md").write_text(settings(), encoding="utf-8")
    if parser.parse_args().picture:
        picture()


if __name__ == "__main__":
    main()
