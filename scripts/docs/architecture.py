#!/usr/bin/env python3
"""Write the list of packages in docs/architecture.md from the code and the contracts in pyproject.toml."""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
BLOCK = re.compile(r"(<!-- packages -->\n).*?(<!-- /packages -->)", re.DOTALL)


def levels() -> list[list[str]]:
    """Return the packages and modules of each level, from the lowest."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (layers,) = (contract["layers"] for contract in tool["contracts"] if contract["type"] == "layers")
    return [[name.removeprefix("ssgan.") for name in re.split(r"\s*[:|]\s*", layer)] for layer in reversed(layers)]


def summary(name: str) -> str:
    """Return the first line of a docstring, without its full stop."""
    path = ROOT / "ssgan" / name
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0].rstrip(".")


def packages() -> str:
    """Return the table of levels."""
    lines = ["| level | package or module | what it does | modules |", "|---|---|---|---|"]
    for level, names in enumerate(levels()):
        for name in names:
            path = ROOT / "ssgan" / name
            modules = sorted(p.stem for p in path.glob("*.py") if not p.stem.startswith("__")) if path.is_dir() else []
            lines.append(f"| {level} | `{name}` | {summary(name)} | {', '.join(modules)} |")
    return "\n".join(["", *lines, "", ""])


def page() -> str:
    """Return docs/architecture.md with the current table."""
    return BLOCK.sub(lambda match: match[1] + packages() + match[2], PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
