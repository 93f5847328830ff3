"""Results of the commands as text in 80 columns."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssgan.cli import terminal
from ssgan.errors import counted, visible

__all__ = [
    "accuracy_in_words",
    "example_noun",
    "note_names",
    "show_contents",
    "show_evaluation",
    "show_predictions",
    "show_report",
    "show_samples",
    "show_sorted",
]

LISTED_CLASSES = 20
LISTED_PAIRS = 12
SHOWN_SPLITS = 6
NAME_WIDTH = 30
PLAIN_SCORES = 4  # columns of the scores that are shown without --verbose
# Widths in the confusion matrix, in columns of the terminal.
LEAST_NAME = 8  # the shortest name of a row
NAME_ROOM = 20  # largest width that names of rows get before those over the columns
LEAST_HEAD = 5  # the shortest name over a column; numbers replace names that would be shorter


def show_report(report: Mapping[str, Any], tested: int = 0, verbose: bool = False) -> None:
    """Print the report of a training, tested on ``tested`` images: scores of each seed, speed, warnings."""
    folds = report.get("folds")
    if folds is not None:
        _folds(folds, report["classes"], verbose)
    if folds is None or any(error is not None for error in report["errors"]) or report["diverged"]:
        _scores(report, tested, verbose)
    _calibration(report.get("calibration"), verbose)
    speed, seconds = (_format(report[name], 0) for name in ("images_per_second", "seconds"))
    terminal.say(f"{speed} images/s per model, {seconds} s, {report['device_name']} ({report['device']})")
    if verbose:
        _diversity(report.get("diversity"))
    for warning in report["warnings"]:
        terminal.say(warning, style="yellow")
    _origin(report.get("parent"))
    terminal.say(f"Run folder: {report['run']}")


def _origin(parent: Mapping[str, Any] | None) -> None:
    """Print the run whose weights a run started from, if any."""
    if parent:
        labels = f" and {counted(parent['labels'], 'label')}" if parent["labels"] else ""
        terminal.say(f"Started from {parent['run']}, its weights after {counted(parent['images'], 'image')}{labels}")


def _diversity(diversity: Mapping[str, Any] | None) -> None:
    """Print the diversity of generated images and that of real ones, if it was measured."""
    if not diversity or diversity["coverage"] is None:
        return
    terminal.say(f"Diversity of {diversity['images']:,} images; collapse is 1 if all are the same or like no real one")
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
        f"{result['method']} with {counted(result['labels'], 'label')}"
        if result["labels"]
        else f"{result['method']} without classes"
    )
    _origin(result.get("parent"))
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
    if result["plots"]:
        note_names(result["classes"])


def example_noun(image_shape: Sequence[int]) -> str:
    """Return the noun for an example of this shape: image, vector or number."""
    return "image" if len(image_shape) > 1 else "number" if list(image_shape) == [1] else "vector"


def show_contents(contents: dict[str, Any]) -> None:
    """Print the description that :mod:`ssgan.cli.data` returns of a data set or a run."""
    shape, per_class = "x".join(map(str, contents["image_shape"])), contents["per_class"]
    unlabeled = f" ({contents['unlabeled']:,} of them without a label)" if contents["unlabeled"] else ""
    noun = example_noun(contents["image_shape"])
    terminal.say(
        f"{contents['dataset']}: {counted(contents['images'], noun)} in the training pool{unlabeled}, "
        f"{counted(contents['test_images'], f'test {noun}')}"
        + (" (held out)" if contents.get("files", {}).get("tested", {}).get("held out") else "")
    )
    terminal.say(f"each {shape} of {contents['dtype']}, full intensity {contents['scale']:g}")
    shown = list(per_class)[: SHOWN_SPLITS + 2]
    rows = [[name, *(per_class[c][k] for c in shown)] for k, name in enumerate(contents["classes"])]
    if "files" in contents:
        terminal.say(f"sizes of the files {terminal.format_counts(contents['files']['sizes'])}")
        terminal.say(f"modes of the files {terminal.format_counts(contents['files']['modes'])}")
    has_classes = len(contents["classes"]) > 1 or any(
        sum(counts) for name, counts in per_class.items() if name != "test"
    )
    if has_classes:
        terminal.table(["class", *shown], [*rows, ["total", *(sum(per_class[c]) for c in shown)]], left=1)
        if len(per_class) > len(shown):
            terminal.say(f"({counted(len(per_class) - len(shown), 'more seed')}: --json shows all)")
    else:
        terminal.say(f"No {noun} has a label, so there are no classes.")
    lost = terminal.lost_files(contents["skipped"], contents["files"]) if "files" in contents else []
    for line in [*contents.get("notes", []), *lost]:
        terminal.say(line, style="yellow")
    _origin(contents.get("parent"))
    for split in contents["splits"][: SHOWN_SPLITS if has_classes else 0]:
        if not split["indices"]:
            terminal.say(f"{split['name']}: no labelled {noun}s")
            continue
        few = ", ".join(map(str, split["indices"][:8])) + (", ..." if len(split["indices"]) > 8 else "")
        terminal.say(f"{split['name']}: split {split['sha256'][:12]}, rows {few}")


def show_predictions(summary: Mapping[str, Any], out: str) -> None:
    """Print how many images were classified, and the file of their rows."""
    verb, unlike = ("classified", "like none of the classes") if summary["per_class"] else ("judged", "generated")
    remark = f", {summary['unlike']:,} of them {unlike}" if summary["unlike"] else ""
    place = f": {out}" if out else ""
    terminal.say(f"{summary['classified']:,} of {counted(summary['images'], 'image')} {verb}{remark}{place}")


def show_sorted(summary: Mapping[str, Any]) -> None:
    """Print how many pictures were sorted into each folder, and the file of the contact sheet."""
    print_line = terminal.note if summary["out"] == "-" else terminal.say  # not among the rows of the table
    if (result := summary.get("sorted")) is not None:
        for row in result["folders"]:
            print_line(f"{row['count']:>7,}  {row['folder']}")
        new, verb = sum(row["count"] for row in result["folders"]), "linked" if result["link"] else "copied"
        print_line(f"{counted(new - result['present'], 'picture')} {verb} into {result['into']}")
        if result["present"]:
            print_line(f"{counted(result['present'], 'picture')} already there")
        if result["elsewhere"]:
            print_line(f"{result['elsewhere']:,} also in another folder, from an earlier run")
        if result["failed"]:
            first = f"the first: {result['failed'][0]}"
            print_line(f"{counted(len(result['failed']), 'picture')} could not be copied, {first}")
        if result["not_files"]:
            print_line(f"{counted(result['not_files'], 'row')} of arrays not sorted, because they are not files")
    if summary.get("sheet"):
        print_line(f"Least sure pictures of each class: {summary['sheet']}")
        note_names([row["class"] for row in summary["per_class"] or ()])


def note_names(names: Sequence[str]) -> None:
    """Print the names of classes that pictures show as numbers, because no installed font has their characters."""
    from ssgan.figures.fonts import unreadable

    if numbered := unreadable(names):
        listed = ", ".join(f"#{k} {name}" for k, name in [*numbered.items()][:LISTED_CLASSES])
        more = ", ..." if len(numbered) > LISTED_CLASSES else ""
        terminal.note(
            f"No installed font can draw some names, so the picture shows their numbers: {listed}{more}. Install such "
            f"a font, for example Debian's fonts-noto-cjk, to show the names in new pictures."
        )


def show_samples(result: Mapping[str, Any]) -> None:
    """Print the result of :func:`ssgan.inference.sample.sample_run`: its values and the file of the picture."""
    kind = result["kind"]
    if kind == "interpolate":
        pairs = counted(len(result["pairs"]), "pair")
        terminal.say(f"{pairs} of latents ({result['latent_distribution']}), {result['path']} path")
        terminal.say(
            f"from image to image {result['step_distance']:.2f} (L2 of pixels in 0 to 1), between the ends "
            f"{result['end_distance']:.2f}"
        )
    elif kind == "arithmetic" and result["clipped"]:
        terminal.say(
            f"{100 * result['clipped']:.1f} % of the sum's values were outside the range of the noise and were clipped"
        )
    elif kind == "nearest":
        what = "L2 of features" if result["features"] else "L2 of pixels in 0 to 1"
        terminal.say(f"{what} to the nearest of {counted(result['pool_images'], 'training image')}:")
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
            f"entropy of the classes {result['entropy']:.3f} nats of at most {result['entropy_even']:.3f}: equivalent "
            f"to {math.exp(result['entropy']):.1f} equally frequent classes"
        )
    elif kind == "animate":
        terminal.say(
            f"{counted(result['frames'], 'frame')}, from {result['images'][0]:,} to {result['images'][-1]:,} images"
        )
    if "model" in result:
        terminal.say(
            f"model of seed {result['model']} after {result['images']:,} images, noise of seed {result['seed']}"
        )
    terminal.say(f"Picture: {result['out']}")
    if kind == "per-class":
        note_names(result["classes"])


def _folds(result: Mapping[str, Any], classes: Sequence[str], verbose: bool) -> None:
    """Print the result of the cross-validation."""
    K, labels = result["folds"], result["labels_each"]
    terminal.say(f"{K}-fold cross-validation: models of {counted(labels, 'label')}, each tested on those left out")
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
            terminal.say(f"Least plausible labels first: {table}")
        terminal.say()
        _confusion(result["confusion"], classes, "the models of the folds")
        terminal.say()
    if result["diverged"]:
        terminal.say(
            f"Left out, because their models diverged: fold {', '.join(map(str, result['diverged']))}", style="yellow"
        )


def _calibration(result: Mapping[str, Any] | None, verbose: bool) -> None:
    """Print how the folds calibrated the probabilities of predictions, if there were folds."""
    if result is None or result["fitted_on"] is None:
        return
    temperature = result["temperature"]
    text, style = f"Probabilities of predict are not calibrated: {result['reason']}", "yellow"
    if temperature is not None:
        text, style = f"Probabilities of predict are calibrated by the folds (temperature {temperature:.3g})", ""
    for line in textwrap.wrap(text, terminal.WIDTH):
        terminal.say(line, style)
    if verbose and result["nll_scaled"] is not None:
        before, after = (f"ECE {result[f'ece{at}']:.3f}, NLL {result[f'nll{at}']:.3f}" for at in ("", "_scaled"))
        terminal.say(f"Labels that were left out: {before}")
        terminal.say(f"At the temperature of the other folds: {after}")


def _count_scored(result: Mapping[str, Any]) -> str:
    """Return how many images were scored, and of which kind."""
    count, kind = result["test_images"], result["scored"]
    every = "all " if kind != "test images" and count > 1 and not result["left_out"] else ""
    return every + counted(count, kind.removesuffix("s"))


def _predictor(result: Mapping[str, Any]) -> str:
    """Say whose predictions are counted."""
    words = str(result["predictions_of"])
    is_sum = "ensemble" not in result and words != "1 model"
    return f"{words}, counted together" if is_sum else words


def _real_or_generated(result: Mapping[str, Any]) -> None:
    """Print how well D distinguishes real from generated images, for a GAN without classes."""
    names = [f"accuracy_{kind}{raw}" for raw in ("", "_raw") for kind in ("real", "fake")]
    terminal.say("Of 100 images, how many D judges correctly: test images, and generated ones")
    rows = [[row["seed"], *(_percent(row[name]) for name in names)] for row in result["rows"]]
    terminal.table(["seed", "real", "generated", "real (raw)", "generated (raw)"], rows)
    if "ks" in result:
        terminal.say("Distance of generated numbers from the target: Kolmogorov-Smirnov, Wasserstein")
        columns = ("ks", "wasserstein", "generated_mean", "generated_std")
        rows = [[row["seed"], *(_format(row[name], 3) for name in columns)] for row in result["rows"]]
        terminal.table(["seed", "KS", "Wasserstein", "mean", "deviation"], rows)


def accuracy_in_words(accuracy: float, tested: int) -> str:
    """Return an accuracy, 0 to 1, in words, with its 95 % confidence interval for ``tested`` test images."""
    from ssgan.inference.metrics import binomial_interval

    low, high = (100 * bound for bound in binomial_interval(round(accuracy * tested), tested))
    return f"Correct for about {100 * accuracy:.3g} of 100 images (95 % confidence interval: {low:.1f} to {high:.1f})"


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
    if verbose and result.get("temperature") is not None:
        ece, nll = (_format(result[f"{name}_scaled_mean"], 3) for name in ("ece", "nll"))
        terminal.say(f"at the temperature {result['temperature']:.3g} of the folds: ECE {ece}, NLL {nll}")
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
    """Print the scores of each class; if there are many, only those with the lowest F1."""
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
        terminal.say(f"({counted(total - len(rows), 'more class')}: --json shows all)")


def _confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str], predictor: str) -> None:
    """Print the confusion matrix if it fits into 80 columns, otherwise the most confused pairs of classes."""
    classes = [visible(name) for name in classes]  # escaped, because their width is measured
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
        terminal.say(f"No class is confused with another, by {predictor}")
        return
    wrong.sort(key=lambda pair: (-pair[0], *pair[1:]))
    terminal.say(f"The most confused of {len(classes)} classes, by {predictor}")
    rows = [
        [*(terminal.cut(classes[k], NAME_WIDTH) for k in (i, j)), n, _percent(n / sum(confusion[i]))]
        for n, i, j in wrong[:LISTED_PAIRS]
    ]
    terminal.table(["true class", "predicted", "images", "% of true"], rows, left=2)
    if len(wrong) > len(rows):
        terminal.say(f"({counted(len(wrong) - len(rows), 'more pair')}: --json shows all)")


def _format(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
