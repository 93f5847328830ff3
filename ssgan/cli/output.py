"""What the commands answer, as text in 80 columns: scores of each seed and class, and what data hold."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssgan.cli import terminal

__all__ = [
    "show_comparison",
    "show_contents",
    "show_evaluation",
    "show_plan",
    "show_predictions",
    "show_report",
    "show_samples",
]

WIDTH = 80
LISTED_CLASSES = 20
LISTED_PAIRS = 12
SHOWN_SPLITS = 6
NAME_WIDTH = 30
CELL_WIDTH = 44
# Of a matrix: the fewest letters of a row's name, how many are worth narrower columns, and the fewest over a column.
LEAST_NAME, NAME_ROOM, LEAST_HEAD = 8, 20, 5


def show_report(found: Mapping[str, Any]) -> None:
    """Show what a training reports: scores of each seed, speed, warnings."""
    folds = found.get("folds")
    if folds is not None:
        _folds(folds, found["classes"])
    if folds is None or any(error is not None for error in found["errors"]) or found["diverged"]:
        _scores(found)
    terminal.say(
        f"{found['images_per_second']:,.0f} images/s per model, {found['seconds']:.0f} s, "
        f"{found['device_name']} ({found['device']})"
    )
    _diversity(found.get("diversity"))
    for warning in found["warnings"]:
        terminal.say(warning, style="yellow")
    terminal.say(f"Run folder: {found['run']}")


def _diversity(found: Mapping[str, Any] | None) -> None:
    """In a table what the generated images come to beside real ones; none where there are none to speak of."""
    if not found or found["coverage"] is None:
        return
    terminal.say(f"Diversity of {found['images']:,} images; collapse is 1 where all are the same or like no real one")
    names = sorted(found["real"], key=lambda name: name != "collapse")
    shown = {"generated": found, "real": found["real"]}
    rows = [[kind, *(_cell(of[name]) for name in names)] for kind, of in shown.items()]
    terminal.table(["images", *names], rows, left=1)


def show_evaluation(result: Mapping[str, Any]) -> None:
    """Show what :func:`ssgan.inference.evaluate.evaluate_run` found, and where ``plots`` of it lie."""
    terminal.say(
        f"{result['run']} on {result['test_images']:,} test images of {result['dataset']}, by {result['device_name']} "
        f"({result['device']})"
    )
    terminal.say(
        f"{result['method']} with {result['labels']:,} labels"
        if result["labels"]
        else f"{result['method']} without classes"
    )
    _scores(result)
    if result["diverged"]:
        seeds = ", ".join(map(str, result["diverged"]))
        terminal.say(f"Left out, because they diverged: seed {seeds}", style="yellow")
    if result["confusion"] is None:
        return
    terminal.say()
    _per_class(result)
    terminal.say()
    _confusion(result["confusion"], result["classes"], _of(result))
    for name, path in (result["plots"] or {}).items():
        terminal.say(f"{name.capitalize()}: {path}")


def show_comparison(cells: Sequence[Mapping[str, Any]], dataset: str) -> None:
    """Show what :func:`ssgan.compare.summary` found: one line a cell, the lowest error of each number of labels marked.

    An ensemble is no cell of its own, and is not marked: it is several models.
    """
    rows, remarks = [], []
    for labels in dict.fromkeys(cell["labels"] for cell in cells):
        ours = [cell for cell in cells if cell["labels"] == labels]
        means = [cell["error_mean"] for cell in ours if cell["n"] and not cell["members"]]
        for cell in ours:
            best = means and cell["error_mean"] == min(means) and not cell["members"] and len(means) > 1
            error = terminal.plus_minus(cell["error_mean"], cell["error_std"])
            rows.append(
                [f"{labels:,}", terminal.cut(cell["method"], CELL_WIDTH), error, "*" if best else "", cell["n"]]
            )
            place = f"{cell['method']}, {labels:,} labels"
            if cell["diverged"]:
                remarks.append(f"{place}: diverged with seed {', '.join(map(str, cell['diverged']))}")
            for why in dict.fromkeys(cell["failed"].values()):
                seeds = [str(seed) for seed, words in cell["failed"].items() if words == why]
                remarks.append(f"{place}, seed {', '.join(seeds)}: {why}")
    terminal.say(f"Test error on {dataset} in %")
    terminal.say("mean +- standard deviation over n trainings; * has the lowest mean of its labels")
    terminal.table(["labels", "method", "error %", "", "n"], rows, left=2, gap=2)
    for line in remarks:
        terminal.say(line, style="yellow")


def show_plan(cells: Sequence[Mapping[str, Any]]) -> None:
    """Show which cells there are, their models, and how many of them are there already."""
    rows = [[f"{c['labels']:,}", terminal.cut(c["method"], CELL_WIDTH), c["models"], c["finished"]] for c in cells]
    terminal.table(["labels", "method", "models", "finished"], rows, left=2)
    for cell in cells:
        if cell["refused"]:
            terminal.say(f"{cell['method']}, {cell['labels']:,} labels: {cell['refused']}", style="yellow")


def show_contents(found: dict[str, Any]) -> None:
    """What :mod:`ssgan.cli.data` found in a data set or a run."""
    shape, per_class = "x".join(map(str, found["image_shape"])), found["per_class"]
    unlabeled = f" ({found['unlabeled']:,} of them without a label)" if found["unlabeled"] else ""
    terminal.say(
        f"{found['dataset']}: {found['images']:,} images in the training pool{unlabeled}, "
        f"{found['test_images']:,} test images"
        + (" (held out)" if found.get("files", {}).get("tested", {}).get("held out") else "")
    )
    terminal.say(f"each {shape} of {found['dtype']}, full intensity {found['scale']:g}")
    shown = list(per_class)[: SHOWN_SPLITS + 2]
    rows = [[name, *(per_class[c][k] for c in shown)] for k, name in enumerate(found["classes"])]
    if "files" in found:
        terminal.say(f"sizes of the files {terminal.counts(found['files']['sizes'])}")
        terminal.say(f"modes of the files {terminal.counts(found['files']['modes'])}")
    terminal.table(["class", *shown], [*rows, ["total", *(sum(per_class[c]) for c in shown)]], left=1)
    if len(per_class) > len(shown):
        terminal.say(f"({len(per_class) - len(shown)} more seeds: --json shows all)")
    if "files" in found:
        doubled = found["duplicates"]
        if doubled["count"]:
            test, train = doubled["first"][0]
            terminal.say(
                f"{doubled['count']:,} test images lie in the pool too, pixel for pixel: {test} is {train}, ..."
            )
        for line in [*found["notes"], *terminal.lost_files(found["skipped"], found["files"])]:
            terminal.say(line, style="yellow")
    for split in found["splits"][:SHOWN_SPLITS]:
        few = ", ".join(map(str, split["indices"][:8])) + (", ..." if len(split["indices"]) > 8 else "") or "none"
        terminal.say(f"{split['name']}: split {split['sha256'][:12]}, rows {few}")


def show_predictions(summary: Mapping[str, Any], out: str) -> None:
    """Show how many images were classified, and the file of their rows."""
    verb, unlike = ("classified", "like none of the classes") if summary["per_class"] else ("judged", "generated")
    remark = f", of which {summary['unlike']:,} look {unlike}" if summary["unlike"] else ""
    terminal.say(f"{summary['classified']:,} of {summary['images']:,} images {verb}{remark}: {out}")


def show_samples(result: Mapping[str, Any]) -> None:
    """Show the numbers that :func:`ssgan.inference.sample.sample_run` found, and where the picture is."""
    kind = result["kind"]
    if kind == "interpolate":
        terminal.say(f"{len(result['pairs'])} pairs of latents ({result['latent_distribution']}), {result['path']} way")
        terminal.say(
            f"from image to image {result['step_distance']:.2f} (L2 of pixels in 0 to 1), between the ends "
            f"{result['end_distance']:.2f}"
        )
    elif kind == "arithmetic" and result["clipped"]:
        terminal.say(
            f"{100 * result['clipped']:.1f} % of the sum's numbers left the cube of the noise and were cut off"
        )
    elif kind == "nearest":
        terminal.say(f"L2 of pixels in 0 to 1 to the nearest of {result['pool_images']:,} training images:")
        found = {"generated": result["sample_distances"], "test": result["test_distances"]}
        rows = [[name, s["images"], _cell(s["median"]), _cell(s["least"])] for name, s in found.items() if s]
        terminal.table(["images", "number", "median", "least"], rows, left=1)
        if result["test_distances"] is None:
            terminal.say("There are no test images to compare with.")
    elif kind == "per-class":
        names = [terminal.cut(name, NAME_WIDTH) for name in result["classes"]]
        rows = [[n, c, f"{100 * s:.1f}"] for n, c, s in zip(names, result["counts"], result["shares"], strict=True)]
        terminal.table(["class", "samples", "%"], rows, left=1)
        terminal.say(
            f"entropy of the classes {result['entropy']:.3f} nats of at most {result['entropy_even']:.3f}: as many as "
            f"{math.exp(result['entropy']):.1f} even classes"
        )
    elif kind == "animate":
        terminal.say(f"{result['frames']:,} frames, from {result['images'][0]:,} to {result['images'][-1]:,} images")
    if "model" in result:
        terminal.say(
            f"model of seed {result['model']} after {result['images']:,} images, noise of seed {result['seed']}"
        )
    terminal.say(f"Picture: {result['out']}")


def _folds(found: Mapping[str, Any], classes: Sequence[str]) -> None:
    """What cross-validation says of a model that learned from nearly as many labels."""
    K, labels = found["folds"], found["labels_each"]
    terminal.say(f"{K}-fold cross-validation: models of {labels:,} labels, each tested on those left out")
    if found["error"] is not None:
        low, high = found["interval"]
        terminal.say(
            f"error {found['error']:.2f} % ({found['wrong']:,} of {found['labels']:,} wrong), "
            f"95 % interval {low:.2f} to {high:.2f} %",
            style="bold",
        )
        terminal.say(f"ECE {_cell(found['ece'], 3)}, NLL {_cell(found['nll'], 3)}")
        each = ", ".join(_cell(error) for error in found["errors"])
        terminal.say(terminal.cut(f"by fold: {each} %", WIDTH))
        if Path(found["predictions"]).exists():
            terminal.say(f"Labels least believed first: {found['predictions']}")
        terminal.say()
        _confusion(found["confusion"], classes, "the models of the folds")
        terminal.say()
    if found["diverged"]:
        terminal.say(
            f"Left out, because their models diverged: fold {', '.join(map(str, found['diverged']))}", style="yellow"
        )


def _of(result: Mapping[str, Any]) -> str:
    """Whose predictions are counted."""
    words = str(result["predictions_of"])
    together = "ensemble" not in result and words != "1 model"
    return f"{words}, counted together" if together else words


def _judgements(result: Mapping[str, Any]) -> None:
    """How well D tells real from generated images, where there are no classes."""
    names = [f"accuracy_{kind}{raw}" for raw in ("", "_raw") for kind in ("real", "fake")]
    terminal.say("Of 100 images, how many D judges rightly: test images, and generated ones")
    rows = [[row["seed"], *(_percent(row[name]) for name in names)] for row in result["rows"]]
    terminal.table(["seed", "real", "generated", "real (raw)", "generated (raw)"], rows)
    if "ks" in result:
        terminal.say("How far generated numbers are from the target: Kolmogorov-Smirnov and Wasserstein distance")
        columns = ("ks", "wasserstein", "generated_mean", "generated_std")
        rows = [[row["seed"], *(_cell(row[name], 3) for name in columns)] for row in result["rows"]]
        terminal.table(["seed", "KS", "Wasserstein", "mean", "deviation"], rows)


def _scores(result: Mapping[str, Any]) -> None:
    if "accuracy_fake" in result:
        _judgements(result)
        return
    rows = [
        [
            row["seed"],
            row["draw_seed"],
            _cell(None if row["error"] is None else 100 - row["error"]),
            _cell(row["error"]),
            _cell(row["error_raw"]),
            _cell(row["ece"], 3),
            _cell(row["nll"], 3),
        ]
        for row in result["rows"]
    ]
    terminal.table(["seed", "draw", "accuracy %", "error %", "error % (raw)", "ECE", "NLL"], rows)
    count = sum(e is not None for e in result["errors"])
    over = f" over {count} models" if count > 1 else ""
    terminal.say(
        f"accuracy {terminal.plus_minus(result['accuracy_mean'], result['accuracy_std'])} %, "
        f"error {terminal.plus_minus(result['error_mean'], result['error_std'])} %{over}",
        style="bold",
    )
    if count > 1 and "ece_mean" in result:
        terminal.say(f"ECE {_cell(result['ece_mean'], 3)}, NLL {_cell(result['nll_mean'], 3)} in the mean")
    together = result.get("ensemble")
    if together is not None:
        error, models = together["error"], together["models"]
        terminal.say(
            f"ensemble of {models} models: accuracy {_cell(None if error is None else 100 - error)} %, "
            f"error {_cell(error)} %, ECE {_cell(together['ece'], 3)}, NLL {_cell(together['nll'], 3)}",
            style="bold",
        )


def _per_class(result: Mapping[str, Any]) -> None:
    """Every class, or of many those with the lowest F1."""
    shown, total = list(result["per_class"]), len(result["per_class"])
    words = f"Each class, by {_of(result)}"
    if total > LISTED_CLASSES:
        shown.sort(key=lambda row: float("inf") if row["f1"] is None else row["f1"])
        shown = shown[:LISTED_CLASSES]
        words = f"The {LISTED_CLASSES} of {total} classes with the lowest F1, by {_of(result)}"
    terminal.say(words)
    rows = [
        [
            terminal.cut(row["class"], NAME_WIDTH),
            row["count"],
            *(_percent(row[n]) for n in ("precision", "recall", "f1")),
        ]
        for row in shown
    ]
    terminal.table(["class", "images", "precision %", "recall %", "F1 %"], rows, left=1)
    if total > len(rows):
        terminal.say(f"({total - len(rows):,} more classes: --json shows all)")


def _confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str], of: str) -> None:
    """The matrix where it fits into 80 columns, else the pairs that are most confused."""
    K, digits = len(classes), max(len(str(count)) for row in confusion for count in row)
    least, longest = max(digits, len(str(K - 1))), max(terminal.width(name) for name in classes)
    if LEAST_NAME + K * (least + 1) > WIDTH:
        _pairs(confusion, classes, of)
        return
    head = max(least, min(longest, (WIDTH - min(longest, NAME_ROOM)) // K - 1))
    heads, names = [terminal.cut(name, head) for name in classes], list(classes)
    if longest > head and (head < LEAST_HEAD or len(set(heads)) < K):
        head, heads = least, [str(k) for k in range(K)]
        names = [f"{k} {name}" for k, name in enumerate(classes)]
    rows = [
        [terminal.cut(name, min(WIDTH - K * (head + 1), NAME_WIDTH)), *(count or "." for count in row)]
        for name, row in zip(names, confusion, strict=True)
    ]
    terminal.say(f"Rows: true class; columns: predicted, by {of}")
    terminal.table(["", *heads], rows, left=1, gap=1)


def _pairs(confusion: Sequence[Sequence[int]], classes: Sequence[str], of: str) -> None:
    wrong = [(n, i, j) for i, row in enumerate(confusion) for j, n in enumerate(row) if n and i != j]
    if not wrong:
        terminal.say(f"No class is taken for another, by {of}")
        return
    wrong.sort(key=lambda pair: (-pair[0], *pair[1:]))
    terminal.say(f"The most confused of {len(classes)} classes, by {of}")
    rows = [
        [*(terminal.cut(classes[k], NAME_WIDTH) for k in (i, j)), n, _percent(n / sum(confusion[i]))]
        for n, i, j in wrong[:LISTED_PAIRS]
    ]
    terminal.table(["true class", "predicted", "images", "% of true"], rows, left=2)
    if len(wrong) > len(rows):
        terminal.say(f"({len(wrong) - len(rows):,} more pairs: --json shows all)")


def _cell(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
