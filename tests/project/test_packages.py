"""Packages: the contents and metadata of a wheel and a source distribution.

`scripts/packages` builds both, installs them into fresh environments and uses them there; `.ci/run` calls it.
"""

import ast
import importlib.util
import io
import re
import tarfile
import tomllib
import zipfile
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from running import ROOT

import ssgan

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README_HOOK = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]


@pytest.fixture(scope="module")
def packages() -> ModuleType:
    """The script, which has no suffix."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        loader = SourceFileLoader("packages", str(ROOT / "scripts" / "packages"))
        spec = importlib.util.spec_from_loader("packages", loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    return module


def wheel(path: Path, files: set[str], readme: str = "text", command: str = "ssgan = ssgan.cli:main") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in files:
            archive.writestr(name, "")
        archive.writestr("ssgan-1.dist-info/METADATA", f"Name: ssgan\n\n{readme}\n")
        archive.writestr("ssgan-1.dist-info/entry_points.txt", f"[console_scripts]\n{command}\n")
    return path


def test_wheel_faults_reports_wrong_files_links_and_commands(packages: ModuleType, tmp_path: Path) -> None:
    files = {"ssgan/__init__.py", "ssgan/py.typed"}
    assert packages.wheel_faults(wheel(tmp_path / "a.whl", files), files) == []
    lacking = wheel(tmp_path / "b.whl", files - {"ssgan/py.typed"})
    assert packages.wheel_faults(lacking, files) == ["b.whl lacks ssgan/py.typed"]
    more = wheel(tmp_path / "c.whl", files | {"tests/running.py"})
    assert packages.wheel_faults(more, files) == ["c.whl holds tests/running.py, which is not of the package"]
    linked = wheel(tmp_path / "d.whl", files, readme="[a](https://a) and [b](docs/b.md)")
    assert packages.wheel_faults(linked, files) == ["d.whl describes itself with a link to docs/b.md"]
    silent = wheel(tmp_path / "e.whl", files, command="other = other:main")
    assert packages.wheel_faults(silent, files) == ["e.whl installs no command ssgan"]


def test_sdist_faults_reports_missing_files(packages: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "ssgan-1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("ssgan-1/README.md"), io.BytesIO())
    assert packages.sdist_faults(path, {"README.md"}) == []
    assert packages.sdist_faults(path, {"README.md", "docs/a.md"}) == ["ssgan-1.tar.gz lacks docs/a.md"]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout")
def test_tracked_package_files_include_all_files_that_are_not_modules(packages: ModuleType) -> None:
    others = {name for name in packages.list_files("ssgan") if not name.endswith(".py")}
    assert others >= {
        *{f"ssgan/labeling/static/page.{suffix}" for suffix in ("html", "js", "css")},
        *{
            "ssgan/report/report.css",
            "ssgan/report/report.html.j2",
            "ssgan/training/model_card.md.j2",
            "ssgan/py.typed",
        },
    }


def test_readme_on_pypi_has_no_dead_links(packages: ModuleType) -> None:
    """With the substitutions of pyproject.toml, applied as by the build hook."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert packages.dead_links(text)
    for one in README_HOOK["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    assert packages.dead_links(text) == []
    assert "https://arxiv.org/abs/1606.03498" in text
    assert "Results · Commands" in text
    assert "![" not in text


def test_type_checkers_see_every_public_name() -> None:
    """They cannot follow ``__getattr__``."""
    tree = ast.parse((ROOT / "ssgan" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imported = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == ssgan._LAZY
    assert set(imported) == set(ssgan.__all__)


def test_sdist_includes_only_existing_files() -> None:
    for name in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]:
        assert (ROOT / name.removeprefix("/")).exists(), name
