"""The structure is as docs/architecture.md says: levels kept, every module listed, nothing it must not know."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (\d+) \| `(\w+)` \| [^|]+ \|([^|]*)\|$", re.MULTILINE)
TABLE = {
    name: (int(level), {word.strip() for word in forbidden.split(",") if word.strip()})
    for level, name, forbidden in ROW.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
}


def imports(tree: ast.Module, everywhere: bool) -> Iterator[str]:
    """Dotted names that a module imports, at its top level or anywhere; names only for type checkers are left out."""
    nodes: list[ast.AST] = list(ast.walk(tree)) if everywhere else list(tree.body)
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in nodes:
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the level"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def siblings(name: str) -> set[str]:
    tree = ast.parse((ROOT / "ssgan" / f"{name}.py").read_text(encoding="utf-8"))
    found = {
        parts[1] for i in imports(tree, everywhere=True) if (parts := i.split("."))[0] == "ssgan" and len(parts) > 1
    }
    return found - {"__version__"}


def test_every_module_is_in_the_table() -> None:
    assert set(TABLE) == {path.stem for path in (ROOT / "ssgan").glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_module_imports_only_from_lower_levels(name: str) -> None:
    level = TABLE[name][0]
    assert {other: TABLE[other][0] for other in siblings(name) if TABLE[other][0] >= level} == {}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_module_does_not_import_what_it_must_not_know(name: str) -> None:
    tree = ast.parse((ROOT / "ssgan" / f"{name}.py").read_text(encoding="utf-8"))
    # The command line may import what it needs inside a command, after the arguments are known to be right.
    found = {i.split(".")[0] for i in imports(tree, everywhere=name != "cli")}
    assert found & TABLE[name][1] == set()


def test_the_step_reads_top_to_bottom_in_one_place() -> None:
    tree = ast.parse((ROOT / "ssgan" / "trainer.py").read_text(encoding="utf-8"))
    (step,) = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "step")
    assert (step.end_lineno or 0) - step.lineno < 30


@pytest.mark.parametrize("path", sorted((ROOT / "ssgan").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_is_one_room(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
