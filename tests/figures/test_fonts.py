"""Class names in any script: an installed font with their characters is used, or else their numbers."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager

from ssgan.cli import output
from ssgan.figures import fonts, image_grid

REAL = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
NAMES = ["cat", "猫", "дом", "狗"]


@pytest.fixture
def two_fonts(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Two fake fonts with their characters: one with Latin and Cyrillic, one with a single Chinese character."""
    characters = {fonts.DEFAULT_FONT: {*"cat#0123456789", *"дом"}, "A Song": set("猫")}
    monkeypatch.setattr(fonts, "_font_files", lambda is_fresh=False: {name: name for name in characters})
    monkeypatch.setattr(fonts, "_code_points", lambda file: frozenset(map(ord, characters[file])))
    return characters


def test_font_is_chosen_by_the_characters_of_a_name(two_fonts: dict[str, set[str]]) -> None:
    assert fonts.fonts_for(["cat", "猫"]) == ([fonts.DEFAULT_FONT, "A Song"], set())
    assert [fonts.font_file(name) for name in NAMES] == [
        fonts.DEFAULT_FONT,
        "A Song",
        fonts.DEFAULT_FONT,
        "DejaVu Sans",
    ]
    assert fonts.legible(NAMES) == ["cat", "猫", "дом", "#3"]
    two_fonts["A Song"].add("狗")
    assert fonts.legible(NAMES) == NAMES


def test_reports_names_without_a_font_by_their_number(
    two_fonts: dict[str, set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fonts.unreadable(NAMES) == {3: "狗"}
    output.note_names(NAMES)
    assert capsys.readouterr().err == (
        "No installed font can draw some names, so the picture shows their numbers: #3 狗. Install such a font, for "
        "example Debian's fonts-noto-cjk, to show the names in new pictures.\n"
    )
    output.note_names(["cat", "猫"])
    assert capsys.readouterr().err == ""


def test_english_names_load_no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "fonts_for", lambda _: pytest.fail("slow for nothing"))
    assert fonts.legible(["cat", "dog 2"]) == ["cat", "dog 2"]


@pytest.fixture
def fresh_cache() -> Iterator[None]:
    known = list(font_manager.fontManager.ttflist)
    fonts._font_files.cache_clear()
    yield
    fonts._font_files.cache_clear()
    font_manager.fontManager.ttflist = known


@pytest.mark.usefixtures("fresh_cache")
def test_finds_fonts_that_the_font_list_of_matplotlib_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib caches its font list on disk, so the list lacks fonts that were installed later."""
    file = shutil.copy(REAL, tmp_path / "new.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    entry = type("Entry", (), {"name": "Old", "fname": "old.ttf", "style": "normal", "weight": 400})
    default = type("Entry", (), {"name": fonts.DEFAULT_FONT, "fname": "dejavu", "style": "normal", "weight": 400})
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [default, entry])
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "broken.ttf"), str(file)])
    real, code_points = frozenset(map(ord, "猫")), {"old.ttf": frozenset(), "dejavu": frozenset(map(ord, "cat"))}
    monkeypatch.setattr(fonts, "_code_points", lambda file: code_points.get(file, real))
    assert fonts._font_files(False) == {"Old": "old.ttf", fonts.DEFAULT_FONT: "dejavu"}
    assert str(file) in fonts._font_files(True).values()
    assert fonts.font_file("cat") == "dejavu"


def test_caption_uses_a_font_with_its_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    monkeypatch.setattr(image_grid, "font_file", lambda text: used.append(text) or str(REAL))
    image_grid.draw_table([["дом", np.zeros((4, 4), np.uint8)]])
    assert "дом" in used
