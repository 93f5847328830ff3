"""The layout of the package: import levels, import cycles, sizes, and what an import loads."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from running import script

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ssgan"
TOP_LEVEL = {
    *("CHANGELOG.md", "CITATION.cff", "Dockerfile", "LICENSE", "README.md", "SECURITY.md", "pyproject.toml"),
    *("docs", "results", "scripts", "ssgan", "tests"),
}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if not p.stem.startswith("__"))


@pytest.fixture(scope="module")
def architecture() -> ModuleType:
    return script("docs/architecture")


def test_architecture_page_is_up_to_date(architecture: ModuleType) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert page == architecture.page(), "run scripts/docs/architecture.py"
    assert len(page.encode()) <= 4096


@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a git repository")
def test_no_stray_file_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tops = {name.partition("/")[0] for name in listed.split("\0") if name}
    assert {name for name in tops if not name.startswith(".")} == TOP_LEVEL


def test_every_package_and_module_has_a_level(architecture: ModuleType) -> None:
    names = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()}
    named = [name for level in architecture.levels() for name in level]
    assert sorted(named) == sorted(n for n in names if not n.startswith("__") and n != "py")


def lint(root: Path) -> "subprocess.CompletedProcess[str]":
    code = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)


def test_packages_import_from_lower_levels_and_without_cycles() -> None:
    pytest.importorskip("importlinter", reason="needs the dev extra")
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout
    assert "2 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("losses.py", "from ssgan.settings.config import Config", "A package imports only from lower levels"),
        ("training/methods.py", "from ssgan.training import step", "No circle among the modules of a package"),
    ],
)
def test_import_linter_detects_a_forbidden_import(tmp_path: Path, module: str, line: str, broken: str) -> None:
    pytest.importorskip("importlinter", reason="needs the dev extra")
    shutil.copytree(PACKAGE, tmp_path / "ssgan", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "ssgan" / module
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    done = lint(tmp_path)
    assert done.returncode != 0
    assert f"{broken} BROKEN" in done.stdout


def test_number_of_modules_is_limited() -> None:
    assert 60 <= len(MODULES) <= 130


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_have_at_most_420_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 420


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.stem)
def test_test_files_have_at_most_700_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 700


def function(path: Path, name: str) -> ast.FunctionDef:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (found,) = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name)
    return found


@pytest.mark.parametrize(
    ("path", "name", "lines"),
    [("training/trainer.py", "step", 30), ("training/experiment.py", "run_experiment", 50)],
)
def test_main_functions_are_short(path: str, name: str, lines: int) -> None:
    found = function(PACKAGE / path, name)
    assert (found.end_lineno or 0) - found.lineno < lines


# What each package must not load when it is imported; torch and numpy take seconds.
FORBIDDEN = {
    "cli": {"torch", "numpy", "sklearn"},
    "settings": {"torch", "numpy"},
    "files": {"torch", "numpy"},
    "cache": {"torch", "numpy"},
    "result_rows": {"torch", "numpy"},
    "errors": {"torch", "numpy"},
    "runs": {"torch", "numpy"},
    "devices": {"torch"},
    "data": {"torch"},
    "figures": {"torch", "matplotlib"},
    "report": {"torch"},
    "inference": {"rich", "typer"},
    "training": {"rich", "typer"},
    "compare": {"rich", "typer"},
    "labeling": {"rich", "typer"},
}


@pytest.mark.parametrize(("name", "forbidden"), FORBIDDEN.items(), ids=FORBIDDEN)
def test_importing_a_package_loads_no_forbidden_module(name: str, forbidden: set[str]) -> None:
    paths = [p for p in MODULES if p.relative_to(PACKAGE).with_suffix("").parts[0] == name]
    dotted = [".".join(("ssgan", *p.relative_to(PACKAGE).with_suffix("").parts)) for p in paths]
    code = f"import sys, {', '.join(dotted)}; print(*sorted({forbidden!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []
