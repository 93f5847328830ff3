"""The structure of the package: the step in one place, and modules of a readable length."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ssgan"


def test_the_step_reads_top_to_bottom_in_one_place() -> None:
    tree = ast.parse((next(PACKAGE.rglob("trainer.py"))).read_text(encoding="utf-8"))
    (step,) = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "step")
    assert (step.end_lineno or 0) - step.lineno < 30


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_one_room(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450
