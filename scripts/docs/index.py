"""Write the index of `results/rows/`: the command and commit of each file, and the tables made from it."""

from pathlib import Path
from typing import NamedTuple

from table_rows import ROOT, ROWS, rows

INDEX = ROWS / "README.md"
CLASSICAL = "logistic-regression,svm,knn,label-spreading,label-propagation,self-training"
DEEP = "gan,supervised,fixmatch,pi,mean-teacher,pseudo-label,vat"
SHORT_IMAGES = "--seeds 3 --set total_images=30000 --set ema_half_life_images=3000"
LITE0 = "--backbone efficientnet-lite0"
RESULTS, SPEED = "scripts/experiments/results.py", "scripts/benchmarks/speed.py"
DIGITS, FAST = "ssgan compare digits --preset digits", "ssgan compare digits --preset digits-fast"

HEAD = """# Rows of results

One JSON object in a line: a trained model, a report of a training (`*-curves.jsonl`), or an attack
(`reliability.jsonl`). This page is written by
`scripts/docs/pages.py`. Add `--out results/rows/FILE` to a command of `ssgan compare` and `--json results/rows/FILE` to
one of `speed.py` or `predict_cost.py`; the other scripts know their file. `ssgan compare` and `results.py` do not train
again what has rows.

`ssgan report results/rows/digits-compare.jsonl --out report` makes a page of a comparison. The samples that some rows
name are not kept in the repository, and the page says so.
"""
TAIL = """
The first twenty rows of `gaussian.jsonl` are of an earlier preset, in which both step sizes fall to 0. Those of
`fast-step.jsonl` are from `report.json` of the runs, for seeds 0 to 9 of digits and 0 and 1 of MNIST.
"""


class Source(NamedTuple):
    """Origin and use of the rows of a file.

    Attributes
    ----------
    commands : tuple of str
        Commands that make the rows, without the option ``--out`` or ``--json`` that names the file.
    feeds : tuple of str
        Generated blocks of pages (``tables.BLOCKS``), or pages and pictures below ``docs/``.
    """

    commands: tuple[str, ...]
    feeds: tuple[str, ...]


SOURCES = {
    "cifar10-short": Source((f"{RESULTS} cifar10-short",), ("cifar10",)),
    "cifar10-short-curves": Source((f"{RESULTS} cifar10-short",), ("cifar10",)),
    "collapse": Source((f"{RESULTS} collapse",), ("gan.md",)),
    "dcgan": Source((f"{RESULTS} dcgan",), ("gan.md",)),
    "digits": Source((f"{RESULTS} digits",), ("digits", "norms")),
    "digits-compare": Source(
        (
            f"{DIGITS} --labels 20,50,100 --seeds 5 --methods gan,supervised,pseudo-label,pi,mean-teacher,vat "
            "--set total_images=100000",
            f"{DIGITS} --labels 50 --seeds 5 --methods gan --ablate --set total_images=100000",
            f"{FAST} --labels 20,50,100 --seeds 10 --methods gan,supervised",
            f"{FAST} --labels 20,50,100 --seeds 5 --methods fixmatch,pi,mean-teacher,pseudo-label,vat",
            f"ssgan compare digits --labels 20,50,100 --seeds 10 --methods {CLASSICAL}",
        ),
        ("ablation", "choice", "compare", "digits", "first", "grid-cost", "worth", "pictures/few-labels.png"),
    ),
    "digits-fast": Source((f"{RESULTS} digits-fast",), ("digits", "worth")),
    "fashion-mnist-compare": Source(
        (f"ssgan compare fashion-mnist --preset images --labels 100 --methods {DEEP},{CLASSICAL} {SHORT_IMAGES}",),
        ("choice", "compare-fashion-mnist"),
    ),
    "fashion-mnist-files": Source(("scripts/experiments/same_from_files.py",), ("files",)),
    "fast-step": Source(
        (
            "ssgan train digits --preset digits --seeds 10",
            "ssgan train mnist --preset mnist-paper --set total_images=300000 --set evaluate_every_images=60000",
        ),
        ("notes/speed.md",),
    ),
    "features-cifar10": Source(
        (
            f"ssgan compare cifar10 {LITE0} --image-size 96 --labels 40,250,4000 --seeds 10 "
            f"--methods gan,supervised,pseudo-label,{CLASSICAL}",
            f"ssgan compare cifar10 {LITE0} --image-size 96 --set feature_neighbors=0 --labels 40,250,4000 --seeds 10 "
            f"--methods {CLASSICAL}",
        ),
        ("choice", "features-cifar10", "grid-cost"),
    ),
    "features-trashnet": Source(
        (
            f"ssgan compare trashnet.zip {LITE0} --image-size 160 --labels 24,60,300 --seeds 10 "
            f"--methods gan,supervised,pseudo-label,{CLASSICAL}",
            f"ssgan compare trashnet.zip {LITE0} --image-size 160 --set feature_neighbors=0 --labels 24,60,300 "
            f"--seeds 10 --methods {CLASSICAL}",
            f"ssgan compare trashnet.zip {LITE0} --image-size 160 --set augmentation=crops --labels 24,60,300 "
            f"--seeds 10 --methods fixmatch",
        ),
        ("choice", "features-trashnet", "pixels"),
    ),
    "foreign": Source((f"{RESULTS} foreign",), ("foreign",)),
    "gallery": Source(("scripts/experiments/gallery.py",), ("gallery",)),
    "gan-mlp": Source((f"{RESULTS} gan-mlp",), ("notes/gans.md",)),
    "gaussian": Source((f"{RESULTS} gaussian",), ("notes/gaussian.md",)),
    "labeling": Source(
        ("scripts/experiments/simulate_labeler.py --trashnet trashnet.zip",), ("labeling", "pictures/labeling.png")
    ),
    "mnist-compare": Source(
        (f"ssgan compare mnist --preset images --labels 20,100 --methods {DEEP},{CLASSICAL} {SHORT_IMAGES}",),
        ("choice", "compare-mnist", "grid-cost"),
    ),
    "cifar10-fast": Source((f"{RESULTS} cifar10-fast",), ("cifar10-fast", "first", "worth")),
    "cifar10-fast-curves": Source((f"{RESULTS} cifar10-fast",), ("cifar10-fast",)),
    "fashion-mnist-fast": Source((f"{RESULTS} fashion-mnist-fast",), ("fashion-mnist-fast", "worth")),
    "mnist-fast": Source((f"{RESULTS} mnist-fast",), ("first", "mnist-fast", "worth")),
    "mnist-fast-curves": Source((f"{RESULTS} mnist-fast",), ("mnist-fast",)),
    "mnist-paper": Source((f"{RESULTS} mnist-paper",), ("mnist-paper",)),
    "mnist-paper-curves": Source((f"{RESULTS} mnist-paper",), ("mnist-paper", "pictures/mnist-paper.png")),
    "mnist-short": Source((f"{RESULTS} mnist-short",), ("mnist",)),
    "mnist-short-curves": Source((f"{RESULTS} mnist-short",), ("mnist", "pictures/mnist-short.png")),
    "own-pictures": Source(
        ("scripts/experiments/own_pictures.py --fonts FOLDER",),
        ("notes/images.md", "own-generator", "own-views", "worth"),
    ),
    "pixels-trashnet": Source(
        (
            "ssgan compare trashnet.zip --backbone none --preset images --set augmentation=natural --image-size 32 "
            "--set total_images=100000 --labels 60 --seeds 3 --methods gan,supervised",
        ),
        ("pixels",),
    ),
    "predict": Source(("scripts/benchmarks/predict_cost.py",), ("picture-cost",)),
    "reliability": Source(("scripts/torture/torture.py",), ("reliability",)),
    "speed": Source((f"{SPEED} --seeds 1,2,10 --busy", f"{SPEED} --preset mnist-fast --seeds 1,2 --busy"), ("speed",)),
    "tables": Source(("scripts/experiments/compare_tables.py",), ("tables", "notes/tables.md")),
    "time-to-accuracy": Source(
        ("scripts/benchmarks/time_to_accuracy.py",), ("time-to-accuracy", "pictures/time-to-accuracy.png")
    ),
    "walk": Source(("scripts/experiments/walk.py",), ("gan.md",)),
}


def index() -> str:
    """Make the page from the rows and from `SOURCES`."""
    lines = [
        HEAD,
        "| file | rows | made by | commit | tables, pages and pictures made from it |",
        "|---|---|---|---|---|",
    ]
    for name, source in SOURCES.items():
        made_by = "<br>".join(f"`{command}`" for command in source.commands)
        columns = [f"[{name}.jsonl]({name}.jsonl)", str(len(rows(name))), made_by, _commits(name), _feeds(source.feeds)]
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join([*lines, TAIL])


def _commits(name: str) -> str:
    """List the commits of the rows; for reports of trainings, the commits of the finished models, if any."""
    models = name.removesuffix("-curves")
    commits = {row["commit"] for row in rows(models)} if (ROWS / f"{models}.jsonl").exists() else set()
    return ", ".join(f"`{commit}`" for commit in sorted(commits))


def _feeds(feeds: tuple[str, ...]) -> str:
    """Link the pages with the blocks, and pages and pictures below `docs/`."""
    places: dict[str, list[str]] = {}
    for feed in feeds:
        place = f"docs/{feed}" if "." in feed else page_of(feed).relative_to(ROOT).as_posix()
        places.setdefault(place, []).extend([] if "." in feed else [feed])
    return "; ".join(
        f"[{place}](../../{place})" + ": " * bool(blocks) + ", ".join(f"`{block}`" for block in blocks)
        for place, blocks in places.items()
    )


def page_of(block: str) -> Path:
    """Find the page that holds a generated block.

    Raises
    ------
    ValueError
        Unless exactly one page holds it.
    """
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    (page,) = (page for page in pages if f"<!-- {block} -->\n" in page.read_text(encoding="utf-8"))
    return page
