"""Build a report from result rows: one HTML page, the same in Markdown, and the pictures beside it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssgan.errors import UserError, counted, did_you_mean
from ssgan.files import write_atomic
from ssgan.report.grouping import Section, group_rows
from ssgan.report.loader import LoadedRows, Skipped, load_rows
from ssgan.report.pictures import FileNames
from ssgan.report.render import (
    MARKDOWN_FILE,
    Block,
    Bullets,
    Details,
    Part,
    Text,
    pictures_of,
    render_html,
    render_markdown,
    table,
)
from ssgan.report.section import build_section, interval_text
from ssgan.report.statistics import baseline_method, differences
from ssgan.report.tables import signed_text

__all__ = ["Report", "build_report", "check_report_folder", "describe_skipped", "report_numbers", "write_report"]


HTML_FILE = "report.html"


@dataclass(frozen=True)
class Report:
    """A report in memory."""

    html: str
    markdown: str
    pictures: dict[str, bytes]
    loaded: LoadedRows
    #: Lines that are not used, and pictures that are not shown.
    skipped: list[Skipped]
    #: The first paragraph.
    lead: str


def build_report(paths: Sequence[Path], baseline: str | None = None) -> Report:
    """Build a report from files of rows; the same rows give the same report, byte for byte.

    Parameters
    ----------
    paths : sequence of Path
        Files with one row of JSON in each line.
    baseline : str, optional
        The method that others are compared with; by default ``supervised``, or the first of a data set.

    Raises
    ------
    UserError
        If the rows cannot be read, contradict each other, or have no such method.
    """
    loaded = load_rows(paths)
    sections = group_rows(loaded)
    methods = sorted({variant.method for section in sections for variant in section.names})
    if baseline is not None and baseline not in methods:
        raise UserError(
            f"--baseline is {baseline}, but the rows are of {', '.join(methods)}.{did_you_mean(baseline, methods)}"
        )
    file_names = FileNames()
    skipped, parts = [*loaded.skipped], []
    for section in sections:
        method = baseline_method(section, baseline)
        part, problems = build_section(section, method, baseline, file_names, loaded.places)
        parts.append(part)
        skipped += problems
    skipped.sort(key=lambda one: (one.file, one.line, one.reason))
    title = f"Results on {_enumeration([section.dataset for section in sections])}"
    lead = _lead(loaded, len(sections), skipped)
    blocks: list[Block] = [Text(lead, "lead"), Bullets([_sentence(section, baseline) for section in sections]), *parts]
    if skipped:
        blocks.append(Part("What was left out", [Bullets([f"{text}." for text in describe_skipped(skipped)])]))
    blocks.append(_provenance(loaded))
    pictures = {picture.name: picture.png for picture in pictures_of(blocks)}
    return Report(render_html(title, blocks), render_markdown(title, blocks), pictures, loaded, skipped, lead)


def check_report_folder(out: Path) -> None:
    """Check that a folder exists or can be made.

    Raises
    ------
    UserError
        If the folder or one of its parents is a file.
    """
    existing = next((path for path in (out, *out.parents) if path.exists()), None)
    if existing is not None and not existing.is_dir():
        raise UserError(f"--out is {out}, but {existing} is a file: choose another folder.")


def write_report(report: Report, out: Path) -> dict[str, str | list[str]]:
    """Write a report into a folder, each file complete or not at all, the page last.

    Returns
    -------
    dict
        The paths of ``html``, ``markdown`` and ``pictures``.

    Raises
    ------
    UserError
        If they cannot be written.
    """
    check_report_folder(out)
    text = {MARKDOWN_FILE: report.markdown.encode(), HTML_FILE: report.html.encode()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in {**report.pictures, **text}.items():
            write_atomic(out / name, content)
    except OSError as cause:
        raise UserError(f"--out is {out}, which cannot be written to ({cause.strerror}).") from cause
    pictures = [str(out / name) for name in sorted(report.pictures)]
    return {"html": str(out / HTML_FILE), "markdown": str(out / MARKDOWN_FILE), "pictures": pictures}


def describe_skipped(skipped: Sequence[Skipped]) -> list[str]:
    """Describe what is not used, consecutive lines with the same reason together."""
    groups: list[list[Skipped]] = []
    for one in skipped:
        last = groups[-1][-1] if groups else None
        if last is not None and (last.file, last.line + 1, last.reason) == (one.file, one.line, one.reason):
            groups[-1].append(one)
        else:
            groups.append([one])
    descriptions = []
    for group in groups:
        first, last = group[0], group[-1]
        lines = f":{first.line}" + (f"-{last.line}" if last is not first else "") if first.line else ""
        descriptions.append(f"{first.file}{lines} {first.reason}")
    return descriptions


def report_numbers(report: Report) -> dict[str, Any]:
    """Count the rows that are used, lost and skipped, in plain types for JSON."""
    rows = report.loaded.rows
    return {
        "rows_used": len(rows),
        "rows_without_result": sum(row.lost for row in rows),
        "rows_skipped": len(report.loaded.skipped),
        "skipped": [{"file": one.file, "line": one.line or None, "reason": one.reason} for one in report.skipped],
        "datasets": sorted({row["dataset"] for row in rows}),
    }


def _lead(loaded: LoadedRows, dataset_count: int, skipped: Sequence[Skipped]) -> str:
    failed = sum(row["failed"] is not None for row in loaded.rows)
    diverged = sum(row.lost for row in loaded.rows) - failed
    sources = []
    if file_count := len(loaded.files) - loaded.run_count:
        sources.append(f"{counted(file_count, 'file')} of rows")
    if loaded.run_count:
        sources.append(counted(loaded.run_count, "run"))
    trainings = f"{counted(len(loaded.rows), 'training')} on {counted(dataset_count, 'data set')}"
    lead = f"{trainings}, from {' and '.join(sources)}."
    lost = [f"{n:,} {word}" for n, word in ((failed, "failed"), (diverged, "diverged")) if n]
    if lost:
        lead += f" {' and '.join(lost)}; no mean includes them."
    if skipped:
        were = "line was" if len(skipped) == 1 else "lines were"
        lead += f" {len(skipped):,} {were} left out or shown in part: see the end."
    return lead


def _sentence(section: Section, baseline: str | None) -> str:
    """Summarise a data set in one sentence: the comparison with the most pairs, not the best one."""
    method = baseline_method(section, baseline)
    pairs = [one for one in (differences(section, method) if method else []) if one.interval is not None]
    # Two settings of the baseline say nothing about the methods.
    pairs = [one for one in pairs if one.group.variant.method != method] or pairs
    groups = [group for group in section.groups_of(*section.names) if group.rows]
    if pairs:
        one = max(pairs, key=lambda one: len(one.values))  # of several, the first
        of_draws = "" if one.draws == len(one.values) else f" of {counted(one.draws, 'draw')} of labels"
        within = "which includes 0" if one.includes_zero else "which does not include 0"
        return (
            f"{section.dataset}, {counted(one.group.labels, 'label')}: {section.names[one.group.variant]} has "
            f"{one.group.mean:.2f} % test error and {section.names[one.baseline.variant]} "
            f"{one.baseline.mean:.2f} %; on the same labels they differ by {signed_text(one.mean)} points "
            f"(95 % interval {interval_text(one)}, {counted(len(one.values), 'pair')}{of_draws}), {within}."
        )
    if not groups:
        return f"{section.dataset}: no training gave a result."
    if len(groups) == 1:
        (group,) = groups
        seeds = counted(len(group.rows), "seed")
        return (
            f"{section.dataset}, {counted(group.labels, 'label')}: {section.names[group.variant]} has "
            f"{group.mean:.2f} % test error ({seeds})."
        )
    means = sorted(group.mean for group in groups)
    lonely = f"; none shares enough labelled images with {method} for an interval" if method else ""
    return (
        f"{section.dataset}: {counted(len(section.names), 'method')} and settings with mean test errors from "
        f"{means[0]:.2f} to {means[-1]:.2f} %{lonely}."
    )


def _provenance(loaded: LoadedRows) -> Part:
    files = [[name, f"{count:,}"] for name, count in sorted(loaded.files.items())]
    origins: dict[tuple[str, str, str], int] = defaultdict(int)
    for row in loaded.rows:
        versions = row["versions"] or {}
        words = ", ".join(f"{name} {number}" for name, number in versions.items()) or "not recorded"
        device = row["device_name"] or "not recorded"
        origins[row["commit"] or "not recorded", words, device] += 1
    rows = [[*origin, f"{count:,}"] for origin, count in sorted(origins.items())]
    where = table("Code, versions and device.", ["commit", "versions", "device", "rows"], rows, {0, 1, 2})
    hashes = sorted({row["config_sha256"] for row in loaded.rows} - {""})
    return Part(
        "Where the rows come from",
        [
            table("Files and how many of their rows are used.", ["file", "rows"], files),
            where,
            Details(f"{counted(len(hashes), 'configuration')} by hash", [Bullets(hashes)]),
        ],
    )


def _enumeration(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
