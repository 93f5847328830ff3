#!/usr/bin/env python3
"""Build the site of the documentation: `scripts/docs/site.py --out site`.

The pages are README.md, those of `docs/` and `results/`, and an API page for each public module; MkDocs builds
them with `docs/mkdocs.yml`. The build needs no network, and the site loads nothing from other addresses. All links are
checked, and all addresses that pages load.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "docs" / "mkdocs.yml"
PAGES = ("README.md", "CHANGELOG.md", "SECURITY.md", "results/PENDING.md", "results/rows/README.md")
# Title and public names of each page of the API.
API = {
    "train": ("Train and use", ["ssgan.train", "ssgan.open_run", "ssgan.api.TrainedRun", "ssgan.api.OpenedRun"]),
    "data": ("Data", ["ssgan.load", "ssgan.Data", "ssgan.Options"]),
    "estimator": ("scikit-learn", ["ssgan.SSGANClassifier", "ssgan.SemiSupervisedKFold"]),
    "settings": ("Settings", ["ssgan.settings.resolve", "ssgan.Config"]),
    "losses": ("Losses", ["ssgan.losses"]),
}
SETTINGS_COLUMNS = 6
STYLE = """.md-grid { max-width: 72rem }
.md-typeset table:not([class]) { font-size: .68rem }
.md-typeset table:not([class]) th, .md-typeset table:not([class]) td { padding: .5em .8em }
.md-typeset table:not([class]) td:first-child code { white-space: nowrap }
.md-typeset td details { margin: 0; padding: 0; border: 0; background: none; box-shadow: none; font-size: inherit }
.md-typeset td details summary { margin: 0; padding: 0 1.6rem 0 0; border: 0; background: none; font-weight: normal }
.md-typeset td details summary::before { display: none }
.md-typeset img { max-width: min(100%, 48rem) }
"""
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
# Elements that a browser loads by itself, with the attribute of their address.
LOADING_ELEMENTS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
}


def collect(source: Path) -> None:
    """Write every page, and each file that a page shows or links to, at its path in the repository."""
    pages = [*map(Path, PAGES), *(path.relative_to(ROOT) for path in sorted((ROOT / "docs").rglob("*.md")))]
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in LINK.findall(text):
            linked = (ROOT / page.parent / target).resolve()
            if "://" not in target and linked.suffix != ".md" and linked.is_file():
                _copy(linked, source / linked.relative_to(ROOT))
        _write(source / page, text)
    settings = source / "docs" / "settings.md"
    _write(settings, with_narrow_table(settings.read_text(encoding="utf-8")))
    (source / "README.md").rename(source / "index.md")
    for path in source.rglob("*.md"):  # update links to README.md, which is now index.md
        text = path.read_text(encoding="utf-8")
        _write(path, re.sub(r"\]\(((?:\.\./)+)README\.md", r"](\1index.md", text))
    for name, (title, names) in API.items():
        _write(source / "api" / f"{name}.md", "\n".join([f"# {title}", *(f"\n::: {one}" for one in names)]) + "\n")
    _write(source / "site.css", STYLE)


def with_narrow_table(text: str) -> str:
    """Return the page of settings with the values in presets folded, in the last column of its table."""
    lines = []
    for line in text.splitlines():
        cells = line.removeprefix("| ").removesuffix(" |").split(" | ")
        if len(cells) == SETTINGS_COLUMNS:
            presets = cells.pop(2)
            if values := presets.count("`") // 2:
                presets = f"<details><summary>{values}</summary>{presets}</details>"
            line = f"| {' | '.join([*cells, presets])} |"
        lines.append(line)
    return "\n".join(["---", "hide: [toc]", "---", "", *lines, ""])


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


class _AddressParser(HTMLParser):
    """Collect the addresses that a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next"):
            self.addresses.append(values.get("href") or "")
        elif tag in LOADING_ELEMENTS:
            self.addresses.append(values.get(LOADING_ELEMENTS[tag]) or "")


def external_addresses(site: Path) -> list[str]:
    """List the external addresses that pages and style sheets of a site load, each with its file."""
    external = []
    for path in sorted(site.rglob("*")):
        if path.suffix == ".html":
            parser = _AddressParser()
            parser.feed(path.read_text(encoding="utf-8"))
            addresses = parser.addresses
        elif path.suffix == ".css":
            addresses = re.findall(r"url\(\s*[\"']?([^)\"']+)", path.read_text(encoding="utf-8"))
        else:
            continue
        external += [
            f"{path.relative_to(site)}: {address}" for address in addresses if re.match(r"(?:[a-z]+:)?//", address)
        ]
    return external


def build(out: Path) -> None:
    """Build the site into a folder, which is replaced; exit with the warnings of MkDocs if there are any."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "source"
        collect(source)
        env = {
            **os.environ,
            "SITE_SOURCE": str(source),
            "SITE_PACKAGE": str(ROOT),
            "SITE_EXTENSION": str(Path(__file__).parent / "docstrings.py"),
            "NO_MKDOCS_2_WARNING": "1",
        }
        command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
        options = ["--config-file", str(CONFIG), "--site-dir", str(out.resolve())]
        process = subprocess.run([*command, *options], env=env, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"{process.stdout}{process.stderr}The site was not built: each warning above is an error.")
    if external := external_addresses(out):
        sys.exit(f"The site loads from other addresses: {'; '.join(external)}.")


def main() -> None:
    """Build the site and print its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="the folder of the site")
    out = parser.parse_args().out
    build(out)
    pages = len([*out.rglob("*.html")])
    print(f"{out}: {pages} pages, {sum(path.stat().st_size for path in out.rglob('*') if path.is_file()):,} bytes")


if __name__ == "__main__":
    main()
