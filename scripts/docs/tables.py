"""Make the tables of the documents from rows in `results/rows/`."""

import operator
import statistics
import textwrap
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import Any

from cluster_tables import grid_cost_table, picture_cost_table
from fast_tables import fast_sentence, fast_table, generator_gain_table, time_table
from feature_tables import feature_table, pixel_table
from labeling_tables import labeling_table
from method_tables import choice_table
from picture_tables import generator_table, views_table
from recipe_tables import mnist_table, recipe_table
from table_rows import adam_note, cell, rows

NAMES = {"ssgan": "ssgan", "plain": "plain PyTorch", "products": "the matrix products alone"}
FIRST_METHODS = {
    "gan": "**K+1 GAN** (`gan`)",
    "fixmatch": "FixMatch (`fixmatch`)",
    "label-propagation": "label propagation (scikit-learn)",
    "svm": "support vector machine (scikit-learn)",
    "supervised": "the same network, labels alone (`supervised`)",
}
TABLE_METHODS = {
    "gan": "`SSGANClassifier()`",
    "supervised": '`SSGANClassifier("supervised")`, labels alone',
    "label-spreading": "`LabelSpreading`, nearest neighbours",
    "self-training": "`SelfTrainingClassifier`, logistic regression",
}
TABLES = ("iris", "wine", "breast_cancer", "digits as rows", "make_classification")
NORMS = {"batch": "batch norm (the preset)", "virtual": "virtual batch norm", "none": "none"}


def first_table() -> str:
    """Make the table of the README: error on digits with the default preset, by method and labels."""
    cells: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows("digits-compare"):
        if row["preset"] in ("digits-fast", None):
            cells[row["method"], row["labels"]].append(row)
    labels = sorted({n for _, n in cells})
    whole = max(map(len, cells.values()))
    lines = ["| method | " + " | ".join(f"{n} labels" for n in labels) + " |", "|---" * (len(labels) + 1) + "|"]
    for method, name in FIRST_METHODS.items():
        count = len(cells[method, labels[0]])
        fewer = f" ({count} draws)" if count < whole else ""
        lines.append(f"| {name}{fewer} | " + " | ".join(cell(cells[method, n]) for n in labels) + " |")
    lines += [
        "",
        f"Test error in % on scikit-learn's digits, mean ± standard deviation over the same {whole} draws of labels.",
        "Settings of `gan` were tuned for these data on held-out images ([exceptions](docs/notes/README.md)), those",
        "of the other methods mostly not.",
        "",
        fast_sentence(),
    ]
    return "\n".join(lines)


def digits_table() -> str:
    """Make the table of the presets for digits: error by method and labels."""
    cells: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows("digits"):
        if not row["settings"]:
            cells[row["method"], row["labels"]].append(row)
    labels = sorted({n for _, n in cells})
    lines = ["| method | " + " | ".join(f"{n} labels" for n in labels) + " |", "|---" * (len(labels) + 1) + "|"]
    fast: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows("digits-compare"):
        if row["preset"] == "digits-fast":
            fast[row["method"], row["labels"]].append(row)
    without: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows("digits-fast"):
        without[row["method"], row["labels"]].append(row)
    kinds = {
        "`gan`": (cells, "gan"),
        "`supervised`": (cells, "supervised"),
        "`gan`, preset `digits-fast`": (fast, "gan"),
        "the same without a generator": (without, "gan"),
        "`supervised`, preset `digits-fast`": (fast, "supervised"),
    }
    for kind, (kind_cells, method) in kinds.items():
        lines.append(f"| {kind} | " + " | ".join(cell(kind_cells[method, n]) for n in labels) + " |")
    one, short, longer = (kind_cells["gan", labels[len(labels) // 2]][0] for kind_cells in (cells, fast, without))
    draws = " or ".join(map(str, sorted({len(cell_rows) for cell_rows in cells.values()})))
    lines += [
        "",
        f"Test error in %, mean ± standard deviation over {draws} label draws, of the averaged model after the last",
        f"step. All have the same draws and one network, both methods {one['images']:,} images without augmentation;",
        f"`digits-fast` adds small affine views and has {short['images']:,} images; for `gan` alone it also adds",
        "pseudo-labels, conditional entropy, class balance and label spreading. Without a generator it has",
        f"{longer['images']:,} images, for about the same CPU time. Labelled images also lie in the pool. Every seed",
        "is a row of [results/rows/digits.jsonl](../results/rows/digits.jsonl),",
        "[results/rows/digits-compare.jsonl](../results/rows/digits-compare.jsonl) or",
        "[results/rows/digits-fast.jsonl](../results/rows/digits-fast.jsonl).",
        f"Training the {len(one['stack'])} models of the cell with {one['labels']} labels side by side took "
        f"{one['seconds'] / 60:.1f} minutes on {one['device_name']}.",
    ]
    return "\n".join(lines)


def norm_table() -> str:
    """Make the table of error by the normalisation of G."""
    cells: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows("digits"):
        settings = dict(row["settings"])
        norm = settings.pop("generator_norm", "batch")
        if row["method"] == "gan" and row["labels"] == 50 and not settings:
            cells[norm].append(row)
    draws = set.intersection(*({row["draw_seed"] for row in cells[norm]} for norm in NORMS))
    common = {norm: [row for row in cells[norm] if row["draw_seed"] in draws] for norm in NORMS}
    lines = [f"| generator's normalisation | error %, 50 labels, the same {len(draws)} draws |", "|---|---|"]
    return "\n".join([*lines, *(f"| {NORMS[norm]} | {cell(common[norm])} |" for norm in NORMS)])


def files_sentence() -> str:
    """Write the error of the same data set from arrays and from files."""
    models = rows("fashion-mnist-files")
    errors = {
        kind: [
            row["error"]
            for row in sorted(models, key=lambda row: row["seed"])
            if row["dataset"].endswith("-files") == kind
        ]
        for kind in (False, True)
    }
    gaps = [files - arrays for arrays, files in zip(errors[False], errors[True], strict=True)]
    arrays, files = (statistics.mean(errors[kind]) for kind in (False, True))
    gap, spread = statistics.mean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5
    return (
        f"Fashion-MNIST with {models[0]['labels']} labels gives {files:.2f} % from PNG files in class folders and\n"
        f"{arrays:.2f} % from its own arrays ({models[0]['images']:,} images, {len(gaps)} draws; paired difference "
        f"{gap:+.2f} ± {spread:.2f})."
    )


def cifar10_table() -> str:
    """Make the table of the first steps of the paper's recipe for CIFAR-10."""
    (row,) = rows("cifar10-short")
    names = {"L": "L", "U": "U", "V": "V", "feature_matching": "feature matching"}
    lines = [
        "| images | " + " | ".join(names.values()) + " | test error, % (last D) |",
        "|---" * (len(names) + 2) + "|",
    ]
    for line in rows("cifar10-short-curves"):
        losses = " | ".join(f"{line[name][0]:.3g}" for name in names)
        lines.append(f"| {line['images']:,} | {losses} | {line['errors_raw'][0]:.2f} |")
    return "\n".join(
        [
            *lines,
            "",
            f"{row['labels']:,} labels, one draw, {row['images_per_second']:.0f} images/s on {row['device_name']},",
            "on a busy machine: [results/rows/cifar10-short-curves.jsonl](../results/rows/cifar10-short-curves.jsonl).",
        ]
    )


def foreign_table() -> str:
    """Make the table of error and of detection of foreign test images, by share of foreign images in the pool."""
    baseline: dict[int, dict[str, Any]] = {}
    cells: dict[float, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in rows("foreign"):
        if row["method"] == "gan":
            cells[row["foreign_share"]][row["draw_seed"]] = row
        elif not row["foreign_share"]:
            baseline[row["draw_seed"]] = row
    lines = [
        "| foreign among the unlabelled | error % | minus `supervised` | lower in | AUROC of `p_generated` "
        "| AUROC of a low `probability` | own images noted | foreign images noted |",
        "|---" * 8 + "|",
    ]
    gaps = {
        share: [row["error"] - baseline[draw]["error"] for draw, row in draws.items() if row["error"] is not None]
        for share, draws in sorted(cells.items())
    }
    lower_counts = {share: sum(gap < 0 for gap in each) for share, each in gaps.items()}
    for share, each in gaps.items():
        draws = cells[share]
        standard_error = statistics.stdev(each) / len(each) ** 0.5
        columns = [
            f"{100 * share:.0f} %",
            cell([*draws.values()]),
            f"{statistics.mean(each):+.2f} ± {standard_error:.2f}",
            f"{lower_counts[share]} of {len(draws)} draws",
            *(_mean(draws, name, "{:.2f}") for name in ("auroc_p_generated", "auroc_unsure")),
            *(_mean(draws, name, "{:.0%}").replace("%", " %") for name in ("unlike_own", "unlike_foreign")),
        ]
        lines.append(f"| {' | '.join(columns)} |")
    unsure = _mean(baseline, "auroc_unsure", "{:.2f}")
    lines.append(f"| `supervised` | {cell([*baseline.values()])} |   |   |   | {unsure} |   |   |")
    claims = {
        "the lower error in every draw": [share for share, draws in lower_counts.items() if draws == len(cells[share])],
        "the higher error on average": [share for share, each in gaps.items() if statistics.mean(each) > 0],
    }
    one = next(iter(baseline.values()))
    lines += [
        "",
        f"Test error in % on the user's classes, mean ± standard deviation over {len(baseline)} draws of",
        f"{one['labels']} labels, {one['images']:,} images long; the difference is paired, with its standard error.",
        "Labels, test set and size of the pool are the same in every line.",
        *(f"`gan` has {claim} at {_percents(shares)} foreign images." for claim, shares in claims.items() if shares),
        "AUROC says how well foreign test images are told from own ones (1: always; 0.5: by chance); *noted* are those",
        "that `predict` says look like none of the classes.",
        "Every draw is a row of [results/rows/foreign.jsonl](../results/rows/foreign.jsonl).",
    ]
    return "\n".join(lines)


def _mean(draws: dict[int, dict[str, Any]], column: str, form: str) -> str:
    """Format the mean of a column over the draws that have it."""
    values = [row[column] for row in draws.values() if row[column] is not None]
    return form.format(statistics.mean(values)) if values else " "


def _percents(shares: list[float]) -> str:
    """Format shares: 0, 25 and 50 %."""
    numbers = [f"{100 * share:.0f}" for share in shares]
    return " and ".join(filter(None, (", ".join(numbers[:-1]), numbers[-1]))) + " %"


def compare_table(name: str = "digits-compare") -> str:
    """Make the table of error by preset, method and labels, of networks and classical methods."""
    models = [row for row in rows(name) if row["error"] is not None and not row.get("ablation")]
    cells: dict[tuple[tuple[str, str], int], list[dict[str, Any]]] = defaultdict(list)
    for row in models:
        cells[(row["preset"] or "", row["method"]), row["labels"]].append(row)
    labels = sorted({n for _, n in cells})
    plain = list(dict.fromkeys(line for line, _ in cells))
    lines = [
        "| preset | method | draws | " + " | ".join(f"{n} labels" for n in labels) + " |",
        "|---" * (len(labels) + 3) + "|",
    ]
    best = {n: _best({line: each for (line, m), each in cells.items() if m == n}) for n in labels}
    for line in sorted(plain, key=lambda line: (not line[0], line[0])):
        each = [cell(cells[line, n]) if cells[line, n] else "" for n in labels]
        each = [f"**{text}**" if best[n] == line else text for n, text in zip(labels, each, strict=True)]
        preset = f"`{line[0]}`" if line[0] else "scikit-learn"
        draws = _draws(cells[line, n] for n in labels)
        lines.append(f"| {preset} | {line[1]} | {draws} | " + " | ".join(each) + " |")
    images = {row["preset"]: row["images"] for row in models if row["images"]}
    lengths = " and ".join(f"{count:,} images with `{preset}`" for preset, count in sorted(images.items()))
    data = models[0]["dataset"]
    lines += [
        "",
        f"Test error in % on {data}, mean ± standard deviation over the label draws that the line names.",
        f"Every network is trained on {lengths};",
        "settings that the preset leaves open are the defaults of the method.",
        *adam_note(models),
        *(["`gan` of `digits-fast` alone starts from label spreading."] if name == "digits-compare" else []),
        "Bold is the best mean of a column over the draws that every line has. For every seed, paired differences,",
        f"calibration and confusion run `ssgan report results/rows/{name}.jsonl --out report`.",
    ]
    return "\n".join(lines)


def _draws(cells: Iterable[list[dict[str, Any]]]) -> str:
    """Format the draw seeds of the cells of a line, such as 0-9."""
    spans = {f"{min(seeds)}-{max(seeds)}" for each in cells if (seeds := [row["draw_seed"] for row in each])}
    return " or ".join(sorted(spans))


def estimator_table() -> str:
    """Make the table of error of the estimator and of scikit-learn's estimators, by table and labels.

    A line uses the draws that every method has.
    """
    cells: dict[tuple[str, int], dict[str, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows("tables"):
        cells[row["dataset"], row["labels_per_class"]][row["method"]][row["draw_seed"]] = row
    lines = ["| table | labels a class | draws | " + " | ".join(TABLE_METHODS.values()) + " |"]
    lines.append("|---" * (len(TABLE_METHODS) + 3) + "|")
    means: dict[str, list[float]] = {method: [] for method in TABLE_METHODS}
    for name, per_class in sorted(cells, key=lambda key: (TABLES.index(key[0]), key[1])):
        methods = cells[name, per_class]
        draws = sorted(set.intersection(*(set(methods[method]) for method in TABLE_METHODS)))
        if len(draws) < 2:
            continue
        shown = {method: [methods[method][draw] for draw in draws] for method in TABLE_METHODS}
        for method, each in shown.items():
            means[method].append(statistics.mean(row["error"] for row in each))
        best = min(errors[-1] for errors in means.values())
        texts = [f"**{cell(shown[m])}**" if means[m][-1] == best else cell(shown[m]) for m in TABLE_METHODS]
        lines.append(f"| {name} | {per_class} | {len(draws)} | " + " | ".join(texts) + " |")
    lines.append("| mean of the lines | | | " + " | ".join(f"{statistics.mean(e):.2f}" for e in means.values()) + " |")
    against = "; ".join(
        f"{TABLE_METHODS[method]}, {sum(map(operator.lt, means['gan'], errors))} of {len(errors)}"
        for method, errors in means.items()
        if method != "gan"
    )
    text = (
        f"Test error in %, mean ± standard deviation over label draws, the same for every column; bold is the lowest "
        f"mean. Lines in which `SSGANClassifier()` has a lower mean than the others: {against}. Columns are "
        f"standardised on the pool, 70 % of the rows; `make_classification` is generated. Settings were chosen on "
        f"other draws and on hidden labels of the pool ([notes](notes/tables.md)). Each draw is a row of "
        f"[results/rows/tables.jsonl](../results/rows/tables.jsonl), by `scripts/experiments/compare_tables.py`."
    )
    return "\n".join([*lines, "", *textwrap.wrap(text, 115, break_long_words=False, break_on_hyphens=False)])


def _best(lines: dict[tuple[str, str], list[dict[str, Any]]]) -> tuple[str, str]:
    """Return the line with the lowest mean over the draws that every line has."""
    draws = [{row["draw_seed"] for row in each} for each in lines.values()]
    common = set.intersection(*draws)
    return min(lines, key=lambda line: statistics.mean(r["error"] for r in lines[line] if r["draw_seed"] in common))


def ablation_table() -> str:
    """Make the table of the GAN without each of its parts, with paired differences."""
    parts: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows("digits-compare"):
        if (row["preset"], row["method"], row["labels"]) == ("digits", "gan", 50):
            images = row["images"]
            parts[row.get("ablation") or "gan"][row["draw_seed"]] = row["error"]
    whole = parts.pop("gan")
    lines = ["| | error % | minus `gan` |", "|---|---|---|", f"| gan | {_spread(whole.values())} | |"]
    for part, errors in parts.items():
        gaps = [error - whole[draw] for draw, error in errors.items()]
        standard_error = statistics.stdev(gaps) / len(gaps) ** 0.5
        lines.append(f"| {part} | {_spread(errors.values())} | {statistics.mean(gaps):+.2f} ± {standard_error:.2f} |")
    lines += [
        "",
        f"`--ablate` with the preset `digits`, 50 labels, {images:,} images, {len(whole)} draws: the GAN without",
        "each of its parts, as mean ± standard deviation, and the paired difference with its standard error.",
    ]
    return "\n".join(lines)


def _spread(errors: Iterable[float]) -> str:
    values = list(errors)
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def gallery_table() -> str:
    """Make the table of scikit-learn's semi-supervised examples, with the error of SSGANClassifier."""
    estimator, labels = "SSGANClassifier()", {}
    cells: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows("gallery"):
        cells[row["dataset"]][row["method"]].append(row["error"])
        labels[row["dataset"]] = row["labels"]
    lines = ["| example | labels | its estimators | `SSGANClassifier()` |", "|---|---|---|---|"]
    for name, errors in cells.items():
        others = "; ".join(f"`{method}` {values[0]:.1f}" for method, values in errors.items() if method != estimator)
        example, comma, share = name.partition(", ")
        lines.append(f"| `{example}`{comma}{share} | {labels[name]} | {others} | {_spread(errors[estimator])} |")
    return "\n".join(lines)


def speed_table() -> str:
    """Make one table of step times for each recipe and device, from its latest row."""
    latest: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows("speed"):
        if "start_seconds" in row and row["settings"].keys() <= {"device"}:
            latest[row["device"], row["preset"]] = row
    lines = []
    for (device, preset), row in latest.items():
        ssgan_rows = [one for one in row["contenders"] if one["contender"] == "ssgan"]
        has_share = "share" in ssgan_rows[0]
        header = ["program", "models", "ms a step", "images/s of each", "beside a busy process, ms", "peak memory, GB"]
        header += ["model-steps/s, times plain PyTorch", "share of the matrix-product rate"] if has_share else []
        lines += [f"`{preset}` on {device} (torch {row['versions']['torch']}, commit {row['commit']}):", ""]
        lines += ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        for one in row["contenders"]:
            cells = [NAMES[one["contender"]], str(one["models"]), f"{one['ms_quartiles'][1]:.1f}"]
            is_program = one["contender"] != "products"
            cells.append(f"{one['images_per_second']:,.0f}" if is_program else "")
            cells.append(f"{one['ms_busy']:.1f}" if "ms_busy" in one else "")
            cells.append(f"{one.get('peak_device_bytes', one['peak_bytes']) / 1e9:.2f}" if is_program else "")
            cells += [f"{one['times_plain']:.2f}", f"{100 * one['share']:.0f} %"] if has_share else []
            lines.append("| " + " | ".join(cells) + " |")
        start = row["start_seconds"]
        lines += [
            "",
            f"{row['rounds']} rounds of {row['steps']} steps, medians, each program a process and all in turns. The",
            f"first step came {ssgan_rows[0]['first_step_seconds']:.1f} s after the start, `ssgan --help` took",
            f"{start['ssgan --help']:.2f} s and a bare `import typer` {start['import typer']:.2f} s.",
            "",
        ]
    return "\n".join(lines).rstrip()


ATTACKS = {
    "moment": "kills around and within every write of {targets} trainings",
    "random": "kills at random times",
    "fuzz": "damaged or hostile inputs",
    "disk": "starts on a full disk",
    "leak": "permutations of hidden labels",
}


def reliability_sentence() -> str:
    """Write the sentence on the attacks: the number of each kind, and of the faults found."""
    cases: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows("reliability"):
        cases[row["attack"]].append(row)
    parts = []
    for attack, phrase in ATTACKS.items():
        count = sum(row["cases"] for row in cases[attack])
        parts.append(f"{count:,} {phrase.format(targets=len(cases[attack]))}")
    violations = sum(row["violations"] for attack_rows in cases.values() for row in attack_rows)
    result = f"{violations:,} found a fault" if violations else "none found a fault"
    phrase = f"* **Attacks** (`scripts/torture/torture.py`): {', '.join(parts[:-1])} and {parts[-1]}; {result}."
    return textwrap.fill(phrase, 120, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


BLOCKS = {
    "reliability": reliability_sentence,
    "first": first_table,
    "digits": digits_table,
    "compare": compare_table,
    "ablation": ablation_table,
    "compare-mnist": partial(compare_table, "mnist-compare"),
    "compare-fashion-mnist": partial(compare_table, "fashion-mnist-compare"),
    "norms": norm_table,
    "labeling": labeling_table,
    "worth": generator_gain_table,
    "time-to-accuracy": time_table,
    "mnist-fast": partial(fast_table, "mnist"),
    "fashion-mnist-fast": partial(fast_table, "fashion-mnist"),
    "cifar10-fast": partial(fast_table, "cifar10"),
    "mnist": mnist_table,
    "mnist-paper": recipe_table,
    "cifar10": cifar10_table,
    "foreign": foreign_table,
    "files": files_sentence,
    "speed": speed_table,
    "features-cifar10": partial(feature_table, "cifar10"),
    "features-trashnet": partial(feature_table, "trashnet"),
    "pixels": pixel_table,
    "tables": estimator_table,
    "gallery": gallery_table,
    "own-generator": generator_table,
    "own-views": views_table,
    "grid-cost": grid_cost_table,
    "picture-cost": picture_cost_table,
    "choice": choice_table,
}
