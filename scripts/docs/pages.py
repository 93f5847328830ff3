#!/usr/bin/env python3
"""Write the generated parts of the documents: `scripts/docs/pages.py`.

In README.md and the pages of `docs/`, the text between `<!-- NAME -->` and `<!-- /NAME -->` is replaced by the table of
that name (`tables.py`). `docs/settings.md` is written from the code, `results/rows/README.md` from the rows
(`index.py`). `--pictures` redraws the pictures (`pictures.py`). The test suite checks that every page is up to date.
"""

import argparse
import re
from pathlib import Path

from index import INDEX, index
from table_rows import ROOT
from tables import BLOCKS

from ssgan.settings.config import FIELDS, Config
from ssgan.settings.presets import PRESETS, allowed, describe, resolve

SETTINGS = ROOT / "docs" / "settings.md"


def pages() -> list[Path]:
    """List README.md and every page of `docs/`, without the notes."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def render_page(text: str) -> str:
    """Regenerate every block of a page."""
    for name, render in BLOCKS.items():
        pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- /{name} -->", re.DOTALL)
        if pattern.search(text):
            before, after = pattern.split(text, maxsplit=1)
            text = f"{before}<!-- {name} -->\n\n{render()}\n\n<!-- /{name} -->{after}"
    return text


def settings() -> str:
    """Make the page of settings from the code."""
    default = {name: value for name, value, _ in describe(Config())}
    presets = {preset: {name: value for name, value, _ in describe(resolve(preset, {}))} for preset in PRESETS}
    lines = [
        "# Settings",
        "",
        "Set by `--set field=value`, or in Python by keywords, `ssgan.train(data, field=value)`. Settings with an",
        "option of their own, such as `--labels`, take either form; `preset` is chosen by `--preset` only. The",
        "defaults are the paper's MNIST recipe, which `Config(field=value)` starts from. Read unit and description",
        "together: *images* between reports. This page is written by `scripts/docs/pages.py`.",
        "",
        "| setting | default | in presets | unit | what it is | allowed |",
        "|---|---|---|---|---|---|",
    ]
    for name, field in FIELDS.items():
        differing = [f"`{p}` {v[name]}" for p, v in presets.items() if name != "preset" and v[name] != default[name]]
        text, unit = field.metadata["text"], field.metadata["unit"]
        lines.append(
            f"| `{name}` | {default[name] or ' '} | {', '.join(differing)} | {unit} | {text} | {allowed(name)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write every page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", action="store_true", help="redraw the pictures")
    if parser.parse_args().pictures:
        import pictures

        pictures.draw()
    SETTINGS.write_text(settings(), encoding="utf-8")
    for page in pages():
        page.write_text(render_page(page.read_text(encoding="utf-8")), encoding="utf-8")
    INDEX.write_text(index(), encoding="utf-8")


if __name__ == "__main__":
    main()
