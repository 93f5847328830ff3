"""The documentation site: its pages, its links, and that it loads nothing from other hosts.

`.ci/run` builds it.
"""

import re
from pathlib import Path
from types import ModuleType

import pytest
from running import ROOT, script

import ssgan
from ssgan.settings.config import FIELDS


@pytest.fixture(scope="module")
def site() -> ModuleType:
    return script("docs/site")


@pytest.fixture(scope="module")
def source(site: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp("site") / "source"
    site.collect(place)
    return place


def test_every_page_is_in_the_navigation(source: Path) -> None:
    text = (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"([\w./-]+\.md)$", text[text.index("\nnav:") :], re.MULTILINE)
    pages = {path.relative_to(source).as_posix() for path in source.rglob("*.md")}
    assert sorted(named) == sorted(pages)


def test_the_public_names_are_in_the_api(site: ModuleType) -> None:
    names = {name for _, names in site.API.values() for name in names}
    assert {f"ssgan.{name}" for name in ssgan.__all__} <= names


def test_links_of_the_site_point_to_existing_files(site: ModuleType, source: Path) -> None:
    for page in source.rglob("*.md"):
        for target in site.LINK.findall(page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page}: {target}"


def test_settings_page_keeps_all_its_rows(source: Path) -> None:
    text = (source / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(FIELDS)
    assert all(row.count(" | ") == 5 for row in rows)
    assert "<details><summary>" in text


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("a.html", '<script src="https://other/a.js"></script>', "a.html: https://other/a.js"),
        ("a.html", '<link rel="stylesheet" href="//other/a.css">', "a.html: //other/a.css"),
        ("a.html", '<img src="http://other/a.png">', "a.html: http://other/a.png"),
        ("a.css", "a { background: url('https://other/a.woff') }", "a.css: https://other/a.woff"),
        ("a.html", '<a href="https://other">other</a> <img src="a.png"> <link rel="canonical" href="https://b">', ""),
    ],
)
def test_resources_from_other_hosts_are_detected(
    site: ModuleType, tmp_path: Path, file: str, text: str, found: str
) -> None:
    (tmp_path / file).write_text(text)
    assert site.external_addresses(tmp_path) == [found] * bool(found)


def test_docstring_roles_become_code_and_types_stay_text() -> None:
    pytest.importorskip("griffe", reason="needs the dev extra")
    as_text = script("docs/docstrings").as_text
    assert as_text("As :func:`ssgan.load` and :class:`~ssgan.Data`.") == "As `ssgan.load` and `ssgan.Data`."
    for words, is_marked in (("ndarray, shape [N]", True), ('{"a", "b"}', True), ("Config, optional", False)):
        docstring = f"Parameters\n----------\nx, y : {words}\n    Text, and : more."
        mark = "\N{WORD JOINER}" * is_marked
        assert as_text(docstring) == docstring.replace(words, mark + words)


@pytest.mark.slow
def test_a_dead_link_fails_the_build(site: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs", reason="needs the dev extra")
    collect = site.collect

    def collect_with_fault(source: Path) -> None:
        collect(source)
        (source / "SECURITY.md").write_text("# Security\n\n[gone](docs/settings.md#no-such-heading)\n")

    site.build(tmp_path / "whole")
    assert (tmp_path / "whole" / "api" / "train.html").is_file()
    monkeypatch.setattr(site, "collect", collect_with_fault)
    with pytest.raises(SystemExit, match="no-such-heading"):
        site.build(tmp_path / "broken")
