"""Rows of results as a report: one HTML page, the same in Markdown, and the pictures beside it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssgan.errors import UserError, did_you_mean
from ssgan.files import write_atomic
from ssgan.report import charts, loader
from ssgan.report import section as chapters
from ssgan.report.loader import LoadedRows, Skipped
from ssgan.report.render import Block, Bullets, Details, Part, Picture, Text, render_html, render_markdown, table
from ssgan.report.section import counted, signed
from ssgan.report.statistics import Section, baseline_method, differences, sections

__all__ = ["Report", "build_report", "check_report_folder", "describe_skipped", "report_numbers", "write_report"]


HTML, MARKDOWN = "report.html", "report.md"


@dataclass(frozen=True)
class Report:
    """A report in memory."""

    html: str
    markdown: str
    pictures: dict[str, bytes]
    ledger: LoadedRows
    #: Lines that are not used, and pictures that are not shown.
    skipped: list[Skipped]
    #: What it says first.
    lead: str


def build_report(paths: Sequence[Path], baseline: str | None = None) -> Report:
    """Read rows and make a report of them; the same rows give the same report, byte for byte.

    Parameters
    ----------
    paths : sequence of Path
        Files with one row of JSON in each line.
    baseline : str, optional
        The method that others are compared with: without, ``supervised``, or the first of a data set.

    Raises
    ------
    UserError
        Where the rows cannot be read, contradict each other, or have no such method.
    """
    read = loader.load_rows(paths)
    found = sections(read)
    methods = sorted({line.method for section in found for line in section.lines})
    if baseline is not None and baseline not in methods:
        raise UserError(
            f"--baseline is {baseline}, but the rows are of {', '.join(methods)}.{did_you_mean(baseline, methods)}"
        )
    names = charts.Names()
    skipped, parts = [*read.skipped], []
    for section in found:
        part, problems = chapters.build_section(
            section, baseline_method(section, baseline), baseline, names, read.places
        )
        parts.append(part)
        skipped += problems
    skipped.sort(key=lambda one: (one.file, one.line, one.reason))
    title = f"Results on {_listed([section.dataset for section in found])}"
    lead = _lead(read, found, skipped)
    said = Bullets([_sentence(section, baseline) for section in found])
    blocks: list[Block] = [Text(lead, "lead"), said, *parts]
    if skipped:
        blocks.append(_skipped_part(skipped))
    blocks.append(_provenance(read))
    pictures = {one.name: one.png for one in _all_pictures(blocks)}
    return Report(render_html(title, blocks), render_markdown(title, blocks), pictures, read, skipped, lead)


def check_report_folder(out: Path) -> None:
    """Whether a folder can be there, before work is done for it.

    Raises
    ------
    UserError
        Where a file is in the way.
    """
    for place in (out, *out.parents):
        if place.exists():
            if not place.is_dir():
                raise UserError(f"--out is {out}, but {place} is a file: choose another folder.")
            return


def write_report(report: Report, out: Path) -> dict[str, str | list[str]]:
    """Write a report into a folder, each file whole or not at all, the page last; the paths of ``html`` and so on.

    Raises
    ------
    UserError
        Where they cannot be written.
    """
    check_report_folder(out)
    text = {MARKDOWN: report.markdown.encode(), HTML: report.html.encode()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in {**report.pictures, **text}.items():
            write_atomic(out / name, content)
    except OSError as cause:
        raise UserError(f"--out is {out}, which cannot be written to ({cause.strerror}).") from cause
    pictures = [str(out / name) for name in sorted(report.pictures)]
    return {"html": str(out / HTML), "markdown": str(out / MARKDOWN), "pictures": pictures}


def describe_skipped(skipped: Sequence[Skipped]) -> list[str]:
    """What is not used, in words: neighbouring lines with one reason together."""
    groups: list[list[Skipped]] = []
    for one in skipped:
        last = groups[-1][-1] if groups else None
        if last is not None and (last.file, last.line + 1, last.reason) == (one.file, one.line, one.reason):
            groups[-1].append(one)
        else:
            groups.append([one])
    said = []
    for group in groups:
        first, last = group[0], group[-1]
        lines = f":{first.line}" + (f"-{last.line}" if last is not first else "") if first.line else ""
        said.append(f"{first.file}{lines} {first.reason}")
    return said


def report_numbers(report: Report) -> dict[str, Any]:
    """What became of the lines of the files, in plain types."""
    rows = report.ledger.rows
    return {
        "rows_used": len(rows),
        "rows_without_result": sum(row.lost for row in rows),
        "rows_skipped": len(report.ledger.skipped),
        "skipped": [{"file": one.file, "line": one.line or None, "reason": one.reason} for one in report.skipped],
        "datasets": sorted({row["dataset"] for row in rows}),
    }


def _lead(read: LoadedRows, found: Sequence[Section], skipped: Sequence[Skipped]) -> str:
    failed = sum(row["failed"] is not None for row in read.rows)
    diverged = sum(row.lost for row in read.rows) - failed
    lead = (
        f"{counted(len(read.rows), 'training')} on {counted(len(found), 'data set')}, from "
        f"{counted(len(read.files), 'file')} of rows."
    )
    gone = [f"{n:,} {word}" for n, word in ((failed, "failed"), (diverged, "diverged")) if n]
    if gone:
        lead += f" Of them {' and '.join(gone)}, and are in no mean."
    if skipped:
        were = "line was" if len(skipped) == 1 else "lines were"
        lead += f" {len(skipped):,} {were} left out or shown in part: see the end."
    return lead


def _sentence(section: Section, baseline: str | None) -> str:
    """What the rows of a data set say in one sentence; nothing is chosen by how good it looks."""
    method = baseline_method(section, baseline)
    pairs = [one for one in (differences(section, method) if method else []) if one.interval is not None]
    cells = [cell for line in section.lines for cell in section.of(line) if cell.rows]
    if pairs:
        one = max(pairs, key=lambda one: len(one.gaps))  # of several, the first
        low, high = map(signed, one.interval or ())
        within = "which includes 0" if one.includes_zero else "which does not include 0"
        return (
            f"{section.dataset}, {one.cell.labels:,} labels: {section.lines[one.cell.line]} has "
            f"{one.cell.mean:.2f} % test error and {section.lines[one.baseline.line]} "
            f"{one.baseline.mean:.2f} %; on the same labels they differ by {signed(one.mean)} points "
            f"(95 % interval {low} to {high}, {counted(len(one.gaps), 'pair')}), {within}."
        )
    if not cells:
        return f"{section.dataset}: no training gave a result."
    if len(cells) == 1:
        (cell,) = cells
        n = counted(len(cell.rows), "seed")
        return (
            f"{section.dataset}, {cell.labels:,} labels: {section.lines[cell.line]} has {cell.mean:.2f} % test "
            f"error ({n})."
        )
    means = sorted(cell.mean for cell in cells)
    return (
        f"{section.dataset}: {counted(len(section.lines), 'line')} with mean test errors from {means[0]:.2f} to "
        f"{means[-1]:.2f} %; none shares enough labelled images with another for an interval."
    )


def _skipped_part(skipped: Sequence[Skipped]) -> Part:
    return Part("What was left out", [Bullets([f"{said}." for said in describe_skipped(skipped)])])


def _provenance(read: LoadedRows) -> Part:
    files = [[name, f"{count:,}"] for name, count in sorted(read.files.items())]
    origins: dict[tuple[str, str, str], int] = defaultdict(int)
    for row in read.rows:
        versions = row["versions"] or {}
        words = ", ".join(f"{name} {number}" for name, number in versions.items()) or "not said"
        device = row["device_name"] or "not said"
        origins[row["commit"] or "not said", words, device] += 1
    rows = [[*origin, f"{count:,}"] for origin, count in sorted(origins.items())]
    where = table("Code, versions and device.", ["commit", "versions", "device", "rows"], rows, {0, 1, 2})
    hashes = sorted({row["config_sha256"] for row in read.rows} - {""})
    return Part(
        "Where the rows come from",
        [
            table("Files and how many of their rows are used.", ["file", "rows"], files),
            where,
            Details(f"{counted(len(hashes), 'configuration')} by hash", [Bullets(hashes)]),
        ],
    )


def _all_pictures(blocks: Sequence[Block]) -> Iterator[Picture]:
    for block in blocks:
        if isinstance(block, Picture):
            yield block
        elif isinstance(block, (Part, Details)):
            yield from _all_pictures(block.blocks)


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
