"""What the commands answer, as a person reads it: scores, reports, and what data hold."""

from typing import Any

from ssgan.screen import counts, lost_files, plus_minus, say, table

__all__ = ["contents", "report", "scores"]

SHOWN_SPLITS = 6


def report(report: dict[str, Any]) -> None:
    """The scores of a run that has just been trained, how fast it went, and what to watch out for."""
    scores(report)
    say(
        f"{report['images_per_second']:,.0f} images/s per model, {report['seconds']:.0f} s, "
        f"{report['device_name']} ({report['device']})"
    )
    for warning in report["warnings"]:
        say(warning, style="yellow")
    say(f"Run folder: {report['run']}")


def scores(result: dict[str, Any]) -> None:
    """One line for each model, and all of them together."""

    def cell(value: float | None, digits: int = 2) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    rows = [
        [
            row["seed"],
            row["draw_seed"],
            cell(None if row["error"] is None else 100 - row["error"]),
            cell(row["error"]),
            cell(row["error_raw"]),
            cell(row["ece"], 3),
            cell(row["nll"], 3),
        ]
        for row in result["rows"]
    ]
    table(["seed", "draw", "accuracy %", "error %", "error % (raw)", "ECE", "NLL"], rows)
    count = sum(e is not None for e in result["errors"])
    over = f" over {count} models" if count > 1 else ""
    say(
        f"accuracy {plus_minus(result['accuracy_mean'], result['accuracy_std'])} %, "
        f"error {plus_minus(result['error_mean'], result['error_std'])} %{over}",
        style="bold",
    )
    together = result.get("ensemble")
    if together is not None:
        error, models = together["error"], together["models"]
        say(
            f"ensemble of {models} models: accuracy {cell(None if error is None else 100 - error)} %, "
            f"error {cell(error)} %, ECE {cell(together['ece'], 3)}, NLL {cell(together['nll'], 3)}",
            style="bold",
        )


def contents(found: dict[str, Any]) -> None:
    """What :mod:`ssgan.inventory` found in a data set or a run."""
    shape, per_class = "x".join(map(str, found["image_shape"])), found["per_class"]
    unlabeled = f" ({found['unlabeled']:,} of them without a label)" if found["unlabeled"] else ""
    say(
        f"{found['dataset']}: {found['images']:,} images in the training pool{unlabeled}, "
        f"{found['test_images']:,} test images"
        + (" (held out)" if found.get("files", {}).get("tested", {}).get("held out") else "")
    )
    say(f"each {shape} of {found['dtype']}, full intensity {found['scale']:g}")
    shown = list(per_class)[: SHOWN_SPLITS + 2]
    rows = [[name, *(per_class[c][k] for c in shown)] for k, name in enumerate(found["classes"])]
    if "files" in found:
        say(f"sizes of the files {counts(found['files']['sizes'])}")
        say(f"modes of the files {counts(found['files']['modes'])}")
    table(["class", *shown], [*rows, ["total", *(sum(per_class[c]) for c in shown)]], left=1)
    if len(per_class) > len(shown):
        say(f"({len(per_class) - len(shown)} more seeds: --json shows all)")
    if "files" in found:
        doubled = found["duplicates"]
        if doubled["count"]:
            test, train = doubled["first"][0]
            say(f"{doubled['count']:,} test images lie in the pool too, pixel for pixel: {test} is {train}, ...")
        for line in [*found["notes"], *lost_files(found["skipped"], found["files"])]:
            say(line, style="yellow")
    for split in found["splits"][:SHOWN_SPLITS]:
        few = ", ".join(map(str, split["indices"][:8])) + (", ..." if len(split["indices"]) > 8 else "")
        say(f"{split['name']}: split {split['sha256'][:12]}, rows {few}")
