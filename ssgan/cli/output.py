"""Results of the commands as text in 80 columns."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssgan.cli import terminal
from ssgan.errors import visible

__all__ = [
    "accuracy_in_words",
    "show_comparison",
    "show_contents",
    "show_evaluation",
    "show_export",
    "show_plan",
    "show_predictions",
    "show_report",
    "show_samples",
    "show_sorted",
]

LISTED_CLASSES = 20
LISTED_PAIRS = 12
SHOWN_SPLITS = 6
NAME_WIDTH = 30
CELL_WIDTH = 44
PLAIN_SCORES = 4  # columns of the scores that are shown without --verbose
NEARLY_ALL = 0.95  # from this accuracy on, words count right images among 100 instead of 10
# Of the confusion matrix, in columns of the terminal.
LEAST_NAME = 8  # the shortest name of a row
NAME_ROOM = 20  # what names of rows get at most before those over the columns
LEAST_HEAD = 5  # the shortest name over a column; where names are cut further, numbers take their place


def show_report(report: Mapping[str, Any], tested: int = 0, verbose: bool = False) -> None:
    """Print the report of a training, tested on so many images: scores of each seed, speed, warnings."""
    folds = report.get("folds")
    if folds is not None:
        _folds(folds, report["classes"], verbose)
    if folds is None or any(error is not None for error in report["errors"]) or report["diverged"]:
        _scores(report, tested, verbose)
    speed, seconds = (_format(report[name], 0) for name in ("images_per_second", "seconds"))
    terminal.say(f"{speed} images/s per model, {seconds} s, {report['device_name']} ({report['device']})")
    if verbose:
        _diversity(report.get("diversity"))
    for warning in report["warnings"]:
        terminal.say(warning, style="yellow")
    terminal.say(f"Run folder: {report['run']}")


def _diversity(diversity: Mapping[str, Any] | None) -> None:
    """Print the diversity of generated images beside that of real ones, where it was measured."""
    if not diversity or diversity["coverage"] is None:
        return
    terminal.say(
        f"Diversity of {diversity['images']:,} images; collapse is 1 where all are the same or like no real one"
    )
    names = sorted(diversity["real"], key=lambda name: name != "collapse")
    kinds = {"generated": diversity, "real": diversity["real"]}
    rows = [[kind, *(_format(values[name]) for name in names)] for kind, values in kinds.items()]
    terminal.table(["images", *names], rows, left=1)


def show_evaluation(result: Mapping[str, Any], verbose: bool = False) -> None:
    """Print the result of :func:`ssgan.inference.evaluate.evaluate_run`, and the files of its ``plots``."""
    terminal.say(
        f"{result['run']} on {_count_scored(result)} of {result['dataset']}, by {result['device_name']} "
        f"({result['device']})"
    )
    terminal.say(
        f"{result['method']} with {result['labels']:,} labels"
        if result["labels"]
        else f"{result['method']} without classes"
    )
    for note in result["notes"]:
        terminal.say(note, style="yellow")
    _scores(result, result["test_images"], verbose)
    if result["diverged"]:
        seeds = ", ".join(map(str, result["diverged"]))
        terminal.say(f"Left out, because they diverged: seed {seeds}", style="yellow")
    if result["confusion"] is None:
        return
    terminal.say()
    _per_class(result)
    terminal.say()
    _confusion(result["confusion"], result["classes"], _predictor(result))
    for name, path in (result["plots"] or {}).items():
        terminal.say(f"{name.capitalize()}: {path}")


def show_comparison(cells: Sequence[Mapping[str, Any]], dataset: str) -> None:
    """Print the result of :func:`ssgan.compare.runner.summary`: a line for each cell of the grid.

    The lowest error of each number of labels is marked; not that of an ensemble, which is several models.
    """
    rows, remarks = [], []
    for labels in dict.fromkeys(cell["labels"] for cell in cells):
        same_labels = [cell for cell in cells if cell["labels"] == labels]
        means = [cell["error_mean"] for cell in same_labels if cell["n"] and not cell["members"]]
        for cell in same_labels:
            best = means and cell["error_mean"] == min(means) and not cell["members"] and len(means) > 1
            error = terminal.plus_minus(cell["error_mean"], cell["error_std"])
            rows.append(
                [f"{labels:,}", terminal.cut(cell["method"], CELL_WIDTH), error, "*" if best else "", cell["n"]]
            )
            name = f"{cell['method']}, {labels:,} labels"
            if cell["diverged"]:
                remarks.append(f"{name}: diverged with seed {', '.join(map(str, cell['diverged']))}")
            for reason in dict.fromkeys(cell["failed"].values()):
                seeds = [str(seed) for seed, text in cell["failed"].items() if text == reason]
                remarks.append(f"{name}, seed {', '.join(seeds)}: {reason}")
    terminal.say(f"Test error on {dataset} in %")
    terminal.say("mean +- standard deviation over n trainings; * has the lowest mean of its labels")
    terminal.table(["labels", "method", "error %", "", "n"], rows, left=2, gap=2)
    for line in remarks:
        terminal.say(line, style="yellow")


def show_plan(cells: Sequence[Mapping[str, Any]]) -> None:
    """Print the cells of a grid, their models, and how many of them are finished."""
    rows = [[f"{c['labels']:,}", terminal.cut(c["method"], CELL_WIDTH), c["models"], c["finished"]] for c in cells]
    terminal.table(["labels", "method", "models", "finished"], rows, left=2)
    for cell in cells:
        if cell["refused"]:
            terminal.say(f"{cell['method']}, {cell['labels']:,} labels: {cell['refused']}", style="yellow")


def show_contents(contents: dict[str, Any]) -> None:
    """Print what :mod:`ssgan.cli.data` says of a data set or a run."""
    shape, per_class = "x".join(map(str, contents["image_shape"])), contents["per_class"]
    unlabeled = f" ({contents['unlabeled']:,} of them without a label)" if contents["unlabeled"] else ""
    terminal.say(
        f"{contents['dataset']}: {contents['images']:,} images in the training pool{unlabeled}, "
        f"{contents['test_images']:,} test images"
        + (" (held out)" if contents.get("files", {}).get("tested", {}).get("held out") else "")
    )
    terminal.say(f"each {shape} of {contents['dtype']}, full intensity {contents['scale']:g}")
    shown = list(per_class)[: SHOWN_SPLITS + 2]
    rows = [[name, *(per_class[c][k] for c in shown)] for k, name in enumerate(contents["classes"])]
    if "files" in contents:
        terminal.say(f"sizes of the files {terminal.format_counts(contents['files']['sizes'])}")
        terminal.say(f"modes of the files {terminal.format_counts(contents['files']['modes'])}")
    terminal.table(["class", *shown], [*rows, ["total", *(sum(per_class[c]) for c in shown)]], left=1)
    if len(per_class) > len(shown):
        terminal.say(f"({len(per_class) - len(shown)} more seeds: --json shows all)")
    lost = terminal.lost_files(contents["skipped"], contents["files"]) if "files" in contents else []
    for line in [*contents.get("notes", []), *lost]:
        terminal.say(line, style="yellow")
    for split in contents["splits"][:SHOWN_SPLITS]:
        few = ", ".join(map(str, split["indices"][:8])) + (", ..." if len(split["indices"]) > 8 else "") or "none"
        terminal.say(f"{split['name']}: split {split['sha256'][:12]}, rows {few}")


def show_predictions(summary: Mapping[str, Any], out: str) -> None:
    """Print how many images were classified, and the file of their rows."""
    verb, unlike = ("classified", "like none of the classes") if summary["per_class"] else ("judged", "generated")
    remark = f", of which {summary['unlike']:,} look {unlike}" if summary["unlike"] else ""
    place = f": {out}" if out else ""
    terminal.say(f"{summary['classified']:,} of {summary['images']:,} images {verb}{remark}{place}")


def show_sorted(summary: Mapping[str, Any]) -> None:
    """Print how many pictures were sorted into each folder, and the file of the contact sheet."""
    print_line = terminal.note if summary["out"] == "-" else terminal.say  # not among the rows of the table
    result = summary.get("sorted")
    if result is not None:
        for row in result["folders"]:
            print_line(f"{row['count']:>7,}  {row['folder']}")
        verb = "linked" if result["link"] else "copied"
        print_line(f"{sum(row['count'] for row in result['folders']):,} pictures {verb} into {result['into']}")
        if result["present"]:
            print_line(f"{result['present']:,} of them were there already")
        if result["not_files"]:
            print_line(f"{result['not_files']:,} rows of arrays are no files, so they were not sorted")
    if summary.get("sheet"):
        print_line(f"Least sure pictures of each class: {summary['sheet']}")


def show_export(result: Mapping[str, Any], asked_to_check: bool) -> None:
    """Print the result of :func:`ssgan.inference.export.export_run`: the file, its input and output, and the check."""
    metadata, check = result["metadata"], result["check"]
    kind = {"onnx": f"ONNX, opset {metadata.get('opset')}", "torch": "torch.export", "safetensors": "weights alone"}
    terminal.say(f"{result['out']}: {kind[result['format']]}, {result['bytes'] / 1000:,.0f} kB")
    note = f" ({result['note']})" if result["note"] else ""
    terminal.say(f"by {result['predictions_of']}{note}")
    shapes = {"images": metadata["input"]["shape"], **metadata["outputs"]}
    texts = {name: f"{name} [{', '.join(map(str, shape))}]" for name, shape in shapes.items()}
    terminal.say(f"{metadata['input']['dtype']} {texts.pop('images')} to {' and '.join(texts.values())}")
    if check is not None:
        terminal.say(f"Checked in {check['engine']} on {check['images']} {check['from']}: the same classes,")
        terminal.say(f"probabilities differ from those of predict by at most {check['largest_difference']:.1g}")
    elif asked_to_check and result["format"] == "onnx":
        terminal.say("Not checked: onnxruntime is not installed (pip install 'ssgan[onnx]')", style="yellow")


def show_samples(result: Mapping[str, Any]) -> None:
    """Print the result of :func:`ssgan.inference.sample.sample_run`: its numbers and the file of the picture."""
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
        what = "L2 of features" if result["features"] else "L2 of pixels in 0 to 1"
        terminal.say(f"{what} to the nearest of {result['pool_images']:,} training images:")
        distances = {"generated": result["sample_distances"], "test": result["test_distances"]}
        rows = [[name, d["images"], _format(d["median"]), _format(d["least"])] for name, d in distances.items() if d]
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


def _folds(result: Mapping[str, Any], classes: Sequence[str], verbose: bool) -> None:
    """Print the result of the cross-validation."""
    K, labels = result["folds"], result["labels_each"]
    terminal.say(f"{K}-fold cross-validation: models of {labels:,} labels, each tested on those left out")
    if result["error"] is not None:
        low, high = result["interval"]
        terminal.say(
            f"error {result['error']:.2f} % ({result['wrong']:,} of {result['labels']:,} wrong), "
            f"95 % interval {low:.2f} to {high:.2f} %",
            style="bold",
        )
        terminal.say(accuracy_in_words(1 - result["wrong"] / result["labels"], result["labels"]))
        if verbose:
            terminal.say(f"ECE {_format(result['ece'], 3)}, NLL {_format(result['nll'], 3)}")
        each = ", ".join(_format(error) for error in result["errors"])
        terminal.say(terminal.cut(f"by fold: {each} %", terminal.WIDTH))
        table = result.get("predictions")
        if table is not None and Path(table).exists():
            terminal.say(f"Labels least believed first: {table}")
        terminal.say()
        _confusion(result["confusion"], classes, "the models of the folds")
        terminal.say()
    if result["diverged"]:
        terminal.say(
            f"Left out, because their models diverged: fold {', '.join(map(str, result['diverged']))}", style="yellow"
        )


def _count_scored(result: Mapping[str, Any]) -> str:
    """Say how many images were scored, and of which kind."""
    count, kind = result["test_images"], result["scored"]
    every = "all " if kind != "test images" and count > 1 and not result["left_out"] else ""
    return f"{every}{count:,} {kind.removesuffix('s') if count == 1 else kind}"


def _predictor(result: Mapping[str, Any]) -> str:
    """Say whose predictions are counted."""
    words = str(result["predictions_of"])
    is_sum = "ensemble" not in result and words != "1 model"
    return f"{words}, counted together" if is_sum else words


def _real_or_generated(result: Mapping[str, Any]) -> None:
    """Print how well D tells real from generated images, where there are no classes."""
    names = [f"accuracy_{kind}{raw}" for raw in ("", "_raw") for kind in ("real", "fake")]
    terminal.say("Of 100 images, how many D judges rightly: test images, and generated ones")
    rows = [[row["seed"], *(_percent(row[name]) for name in names)] for row in result["rows"]]
    terminal.table(["seed", "real", "generated", "real (raw)", "generated (raw)"], rows)
    if "ks" in result:
        terminal.say("How far generated numbers are from the target: Kolmogorov-Smirnov and Wasserstein distance")
        columns = ("ks", "wasserstein", "generated_mean", "generated_std")
        rows = [[row["seed"], *(_format(row[name], 3) for name in columns)] for row in result["rows"]]
        terminal.table(["seed", "KS", "Wasserstein", "mean", "deviation"], rows)


def accuracy_in_words(accuracy: float, tested: int) -> str:
    """Say an accuracy, from 0 to 1, in words, with its 95 % interval after so many test images."""
    from ssgan.inference.metrics import binomial_interval

    base = 10 if accuracy < NEARLY_ALL else 100
    low, high = binomial_interval(round(accuracy * tested), tested)
    return f"Right for about {base * accuracy:.0f} of {base} images; 95 % sure of {base * low:.1f} to {base * high:.1f}"


def _scores(result: Mapping[str, Any], tested: int, verbose: bool) -> None:
    if "accuracy_fake" in result:
        _real_or_generated(result)
        return
    if len(result["diverged"]) < len(result["rows"]) and all(error is None for error in result["errors"]):
        terminal.say("accuracy not measured: no test pictures", style="bold")
        return
    rows = [
        [
            row["seed"],
            row["draw_seed"],
            _format(None if row["error"] is None else 100 - row["error"]),
            _format(row["error"]),
            _format(row["error_raw"]),
            _format(row["ece"], 3),
            _format(row["nll"], 3),
        ]
        for row in result["rows"]
    ]
    names = ["seed", "draw", "accuracy %", "error %", "error % (raw)", "ECE", "NLL"]
    shown = len(names) if verbose else PLAIN_SCORES
    terminal.table(names[:shown], [row[:shown] for row in rows])
    if tested and result["accuracy_mean"] is not None:
        terminal.say(accuracy_in_words(result["accuracy_mean"] / 100, tested))
    count = sum(e is not None for e in result["errors"])
    over = f" over {count} models" if count > 1 else ""
    terminal.say(
        f"accuracy {terminal.plus_minus(result['accuracy_mean'], result['accuracy_std'])} %, "
        f"error {terminal.plus_minus(result['error_mean'], result['error_std'])} %{over}",
        style="bold",
    )
    if verbose and count > 1 and "ece_mean" in result:
        terminal.say(f"ECE {_format(result['ece_mean'], 3)}, NLL {_format(result['nll_mean'], 3)} in the mean")
    ensemble = result.get("ensemble")
    if ensemble is not None:
        error, models = ensemble["error"], ensemble["models"]
        calibration = f", ECE {_format(ensemble['ece'], 3)}, NLL {_format(ensemble['nll'], 3)}" if verbose else ""
        terminal.say(
            f"ensemble of {models} models: accuracy {_format(None if error is None else 100 - error)} %, "
            f"error {_format(error)} %{calibration}",
            style="bold",
        )


def _per_class(result: Mapping[str, Any]) -> None:
    """Print the scores of each class, or of many classes those with the lowest F1."""
    shown, total = list(result["per_class"]), len(result["per_class"])
    words = f"Each class, by {_predictor(result)}"
    if total > LISTED_CLASSES:
        shown.sort(key=lambda row: float("inf") if row["f1"] is None else row["f1"])
        shown = shown[:LISTED_CLASSES]
        words = f"The {LISTED_CLASSES} of {total} classes with the lowest F1, by {_predictor(result)}"
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


def _confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str], predictor: str) -> None:
    """Print the confusion matrix where it fits into 80 columns, else the pairs that are most confused."""
    classes = [visible(name) for name in classes]  # as wide as they are shown
    K, digits = len(classes), max(len(str(count)) for row in confusion for count in row)
    least, longest = max(digits, len(str(K - 1))), max(terminal.width(name) for name in classes)
    if LEAST_NAME + K * (least + 1) > terminal.WIDTH:
        _pairs(confusion, classes, predictor)
        return
    head = max(least, min(longest, (terminal.WIDTH - min(longest, NAME_ROOM)) // K - 1))
    heads, names = [terminal.cut(name, head) for name in classes], list(classes)
    if longest > head and (head < LEAST_HEAD or len(set(heads)) < K):
        head, heads = least, [str(k) for k in range(K)]
        names = [f"{k} {name}" for k, name in enumerate(classes)]
    rows = [
        [terminal.cut(name, min(terminal.WIDTH - K * (head + 1), NAME_WIDTH)), *(count or "." for count in row)]
        for name, row in zip(names, confusion, strict=True)
    ]
    terminal.say(f"Rows: true class; columns: predicted, by {predictor}")
    terminal.table(["", *heads], rows, left=1, gap=1)


def _pairs(confusion: Sequence[Sequence[int]], classes: Sequence[str], predictor: str) -> None:
    wrong = [(n, i, j) for i, row in enumerate(confusion) for j, n in enumerate(row) if n and i != j]
    if not wrong:
        terminal.say(f"No class is taken for another, by {predictor}")
        return
    wrong.sort(key=lambda pair: (-pair[0], *pair[1:]))
    terminal.say(f"The most confused of {len(classes)} classes, by {predictor}")
    rows = [
        [*(terminal.cut(classes[k], NAME_WIDTH) for k in (i, j)), n, _percent(n / sum(confusion[i]))]
        for n, i, j in wrong[:LISTED_PAIRS]
    ]
    terminal.table(["true class", "predicted", "images", "% of true"], rows, left=2)
    if len(wrong) > len(rows):
        terminal.say(f"({len(wrong) - len(rows):,} more pairs: --json shows all)")


def _format(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
