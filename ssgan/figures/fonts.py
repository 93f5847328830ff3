"""Find fonts for names in any script."""

import functools
from collections.abc import Sequence

__all__ = ["font_file", "fonts_for", "legible", "unreadable"]

DEFAULT_FONT, PLACEHOLDER_FONT = "DejaVu Sans", "Last Resort High-Efficiency"


def fonts_for(texts: Sequence[str]) -> tuple[list[str], set[int]]:
    """Return font families that together cover the characters of the strings, and the characters that no font has."""
    missing = _characters(texts)
    families: list[str] = []
    for is_fresh in (False, True):
        files = _font_files(is_fresh)
        for name in [DEFAULT_FONT, *sorted(files.keys() - {DEFAULT_FONT, *families})]:
            available = missing & _code_points(files[name])
            if available or (name == DEFAULT_FONT and not is_fresh):
                families.append(name)
                missing -= available
            if not missing:
                return families, missing
    return families, missing


def font_file(text: str) -> str:
    """Return the file of a font that has every character of a string; of the default font if none has."""
    needed = _characters([text])
    for is_fresh in (False, True):
        files = _font_files(is_fresh)
        for name in [DEFAULT_FONT, *sorted(files.keys() - {DEFAULT_FONT})]:
            if needed <= _code_points(files[name]):
                return files[name]
    return _font_files()[DEFAULT_FONT]


def unreadable(names: Sequence[str]) -> dict[int, str]:
    """Return the names, by their index, that have a character which no installed font has."""
    if all(name.isascii() for name in names):
        return {}
    missing = fonts_for(names)[1]
    return {k: name for k, name in enumerate(names) if _characters([name]) & missing}


def legible(names: Sequence[str]) -> list[str]:
    """Return the names; the index, such as ``#3``, replaces a name that no installed font can draw."""
    numbered = unreadable(names)
    return [f"#{k}" if k in numbered else name for k, name in enumerate(names)]


def _characters(texts: Sequence[str]) -> set[int]:
    """Return the code points of the visible characters of the strings."""
    return {ord(c) for text in texts for c in text if not c.isspace()}


@functools.cache
def _font_files(is_fresh: bool = False) -> dict[str, str]:
    """Return the files of upright fonts by family: those that matplotlib knows, and if fresh those installed since."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    if is_fresh:
        for path in sorted({*font_manager.findSystemFonts()} - {entry.fname for entry in manager.ttflist}):
            try:
                manager.addfont(path)
            except (OSError, RuntimeError, KeyError):  # a font that cannot be read counts as missing
                continue
    upright = [entry for entry in manager.ttflist if entry.style == "normal" and entry.weight in (400, "normal")]
    return {entry.name: entry.fname for entry in upright if entry.name != PLACEHOLDER_FONT}


@functools.cache
def _code_points(file: str) -> frozenset[int]:
    """Return the code points that a font file has."""
    from matplotlib import font_manager

    try:
        return frozenset(font_manager.get_font(file).get_charmap())
    except (OSError, RuntimeError):  # a font that cannot be read counts as missing
        return frozenset()
