"""Errors beside others: those of a baseline on the same labels, and published ones."""

from ssgan.cells import Cell, Section
from ssgan.markup import Block, Bullets, Details, Part, Text, table
from ssgan.pairs import Difference, differences
from ssgan.published import PUBLISHED, SOURCES

__all__ = ["compared", "counted", "published", "signed"]


def counted(number: int, what: str) -> str:
    """A number of things."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def signed(value: float) -> str:
    """A difference with its sign, two decimals."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def compared(section: Section, method: str | None, asked: str | None) -> list[Block]:
    """Every cell against the baseline; a sentence where the data set has no row of the one asked for."""
    if method is None:
        return [Text(f"There is no row of {asked} on this data set to compare with.", "note")]
    found = differences(section, method)
    if not found:
        return []
    names = [section.lines[one.baseline.line] for one in found]
    # The baseline needs no column of its own where it is one and the same.
    one_base = len(set(names)) == 1
    rows = [
        [
            section.lines[one.cell.line],
            f"{one.cell.labels:,}",
            *([] if one_base else [name]),
            signed(one.mean) if one.gaps else None,
            None if one.interval is None else f"{signed(one.interval[0])} to {signed(one.interval[1])}",
            str(len(one.gaps)),
            _reading(one),
        ]
        for one, name in zip(found, names, strict=True)
    ]
    columns = ["method", "labels", *([] if one_base else ["compared with"]), "difference", "95 % interval", "pairs", ""]
    words = {0, 5} if one_base else {0, 2, 6}
    caption = "Test error minus that of the baseline, in percentage points; below 0 the method is better."
    explained = (
        "A pair learned from the same labelled images. The interval is Student's t over the pairs; it holds for one "
        "comparison at a time."
    )
    title = f"Compared with {names[0] if one_base else method}, on the same labels"
    return [Part(title, [table(caption, columns, rows, words), Text(explained, "note")])]


def _reading(one: Difference) -> str:
    if not one.gaps:
        return "No pair shares its labelled images."
    if one.includes_zero is None:
        return "One pair gives no interval."
    verdict = "Includes 0." if one.includes_zero else "Does not include 0."
    if one.draws < len(one.gaps):
        verdict += f" The pairs are of {counted(one.draws, 'draw')} of labels, whose luck it leaves out."
    return verdict


def published(section: Section) -> list[Block]:
    """Our errors above those of papers, where both have one for a number of labels."""
    lines = PUBLISHED.get(section.dataset)
    if lines is None:
        return []
    labels = sorted({n for line in lines for n in line.errors})
    rows: list[list[str | None]] = []
    for line, name in section.lines.items():
        ours = {cell.labels: cell for cell in section.of(line) if cell.rows}
        if ours.keys() & set(labels):
            columns = [_ours(ours[n]) if n in ours else None for n in labels]
            words = [line.preset, f"{line.images:,} images" if line.images >= 0 else ""]
            rows.append([name, *columns, ": ".join(filter(None, ["measured here", ", ".join(filter(None, words))]))])
    if not rows:
        return []
    for one in lines:
        rows.append([one.method, *map(one.errors.get, labels), f"published: {one.source}"])
    caption = "Test error in %, mean ± deviation by number of labels."
    explained = (
        "Published figures are those of the papers named, with networks, augmentation, budgets and draws of labels of "
        "their own. They are in no mean and in no difference of this report."
    )
    columns_ = ["method", *(f"{n:,} labels" for n in labels), "source"]
    errors = table(caption, columns_, rows, {0, len(labels) + 1})
    sources = [f"{source}: {SOURCES[source]}." for source in sorted({one.source for one in lines})]
    return [Part("Beside published figures", [errors, Text(explained, "note"), Details("Sources", [Bullets(sources)])])]


def _ours(cell: Cell) -> str:
    spread = "" if cell.std is None else f" ± {cell.std:.2f}"
    return f"{cell.mean:.2f}{spread} (n = {len(cell.rows)})"
