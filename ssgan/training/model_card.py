"""Write the model card of a run: Markdown with the YAML head that the Hugging Face hub reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssgan.errors import counted, visible
from ssgan.inference.confidence import FLAGGED_LIMIT, Confidence
from ssgan.inference.metrics import binomial_interval
from ssgan.report.render import EMPTY, escape_markdown
from ssgan.settings.catalog import is_picture_shape

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["CARD_NAME", "model_card"]

CARD_NAME = "README.md"  # the hub shows it as the page of a model
CLASSES_SHOWN = 100
# Names of the data sets on the hub.
HUB_DATASETS = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "svhn": "ufldl-stanford/svhn",
}
METHODS = {
    "gan": "K+1 GAN: labelled, unlabelled and generated images (Salimans et al., 2016)",
    "supervised": "labelled images only",
    "pseudo-label": "labelled images, and unlabelled ones with the classes that the model predicts",
    "pi": "labelled images, and consistent predictions for unlabelled ones (Pi model)",
    "mean-teacher": "labelled images, and consistency with an average of the weights (mean teacher)",
    "vat": "labelled images, and virtual adversarial training on unlabelled ones",
    "fixmatch": "labelled images, and pseudo-labels of weak views for strong ones (FixMatch)",
}
DRAWS = (
    "With few labels the error depends on which images have them; another draw of labels gives other models and errors."
)
PREPARED = "Other images are converted to the size and colours of the training images before they are classified."


def model_card(
    report: Mapping[str, Any], pool: int, tested: int, image_shape: Sequence[int], flips_at_test: bool = False
) -> str:
    """Return the model card of a finished run.

    Names of classes, data and warnings are escaped, so that they are text in YAML and in Markdown whatever they hold.
    It names no licence, which is the owner's to choose, and no path.

    Parameters
    ----------
    report : mapping
        What ``report.json`` holds.
    pool, tested : int
        Number of images of the training pool and of the test set.
    image_shape : sequence of int
        Shape of one example of the data: [H, W], [H, W, C] or [F].
    flips_at_test : bool
        Whether a prediction averages the logits of an image and of its mirror image.
    """
    noun = "image" if len(image_shape) > 1 else "vector"
    classes = report["classes"]
    labels = counted(report["labels"], "label") if classes else "no labels"
    return _template().render(
        report=report,
        pipeline_tag=_pipeline_tag(classes, noun),
        tags=_tags(classes, report["method"]),
        hub_dataset=HUB_DATASETS.get(report["dataset"]),
        metrics=_metrics(report),
        name=f"ssgan-{report['dataset']}-{report['labels']}-{report['method']}",
        title=f"{report['dataset']}: {report['method']}, {labels}",
        summary=_summary(report, noun, image_shape),
        classes_shown=classes[:CLASSES_SHOWN],
        training=_training(report, pool, tested, noun, flips_at_test),
        settings={name: json.dumps(value) for name, value in report["settings"].items()},
        results=_results(report, tested, noun),
        scores=_scores(report, tested),
        other="PICTURES" if is_picture_shape(image_shape) else "FILE.npz",
        limits=_limits(report, tested, noun),
    )


def _pipeline_tag(classes: Sequence[str], noun: str) -> str | None:
    """Return the task by its name on the hub, which has none for vectors without classes."""
    if not classes:
        return "unconditional-image-generation" if noun == "image" else None
    return "image-classification" if noun == "image" else "tabular-classification"


def _tags(classes: Sequence[str], method: str) -> list[str]:
    gan = ["gan"] if method == "gan" else []
    return ["ssgan", *(["semi-supervised-learning"] if classes else []), *gan]


def _summary(report: Mapping[str, Any], noun: str, image_shape: Sequence[int]) -> str:
    shape = "x".join(map(str, image_shape))
    version, count = report["versions"]["ssgan"], len(report["seeds"])
    subject, ending = ("A model", "s") if count == 1 else (counted(count, "model"), "")
    if not report["classes"]:
        return f"{subject} that generate{ending} {noun}s of {shape}, trained without labels by ssgan {version}."
    classes, labels = counted(len(report["classes"]), "class"), counted(report["labels"], "label")
    verb = "classifies" if ending else "classify"
    return f"{subject} that {verb} {noun}s of {shape} into {classes}, trained by ssgan {version} from {labels}."


def _training(
    report: Mapping[str, Any], pool: int, tested: int, noun: str, flips_at_test: bool
) -> list[tuple[str, str]]:
    """Return the facts of the training, each with its name."""
    draws = [row["draw_seed"] for row in report["rows"]]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    parent, method = report.get("parent"), report["method"]
    facts = [
        ("data", f"{report['dataset']}: {counted(pool, noun)} in the pool, {counted(tested, f'test {noun}')}"),
        ("labels", f"{report['labels']:,} of the pool" if report["classes"] else "none"),
        ("draws of labels", _list_draws(draws) if report["classes"] else ""),
        ("method", f"{method}: {METHODS.get(method, '')}" if report["classes"] else "GAN without classes"),
        ("preset", report["preset"]),
        ("backbone", f"features of {report['backbone']}" if report.get("backbone") else ""),
        ("started from", f"the weights of another run, of {parent['dataset']}" if parent else ""),
        ("length", f"{counted(report['images'], noun)} for each model"),
        ("prediction", "mean logits of the image and of its mirror image" if flips_at_test else ""),
        ("seeds", ", ".join(map(str, report["seeds"]))),
        ("time", "" if report["seconds"] is None else f"{report['seconds']:,.0f} s for all models"),
        ("device", f"{report['device_name']} ({report['device']})"),
        ("versions", versions),
        ("commit", report["commit"] or ""),
    ]
    return [(name, text) for name, text in facts if text]


def _list_draws(draws: Sequence[int | None]) -> str:
    if None in draws:
        return "given, not drawn"
    return ", ".join(f"seed {draw}" for draw in dict.fromkeys(draws))


def _metrics(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the scores of the test set as the hub reads them, accuracy from 0 to 1; empty if none was measured."""
    if report["accuracy_mean"] is None:
        return []
    models = counted(sum(error is not None for error in report["errors"]), "model")
    accuracy, error = round(report["accuracy_mean"] / 100, 6), round(report["error_mean"], 4)
    return [
        {"type": "accuracy", "name": f"Test accuracy, mean of {models}", "value": accuracy},
        {"type": "error", "name": f"Test error in %, mean of {models}", "value": error},
    ]


def _results(report: Mapping[str, Any], tested: int, noun: str) -> list[str]:
    """Return sentences on the error and on the calibration."""
    if not report["classes"]:
        return ["There are no classes, so there is no test error."]
    sentences = []
    if report["error_mean"] is not None:
        spread = "" if report["error_std"] is None else f" ± {report['error_std']:.2f}"
        count = sum(error is not None for error in report["errors"])
        over = f", mean ± standard deviation of {counted(count, 'model')}" if spread else ""
        images = counted(tested, f"test {noun}")
        sentences.append(f"Test error: {report['error_mean']:.2f}{spread} % of {images}{over}.")
    else:
        sentences.append(f"No error of test {noun}s was measured." if tested else f"There are no test {noun}s.")
    folds = report.get("folds")
    if folds and folds["error"] is not None:
        low, high = folds["interval"]
        fold_count, labels = counted(len(folds["errors"]), "fold"), counted(folds["labels"], "label")
        sentences.append(
            f"Error of {fold_count}: {folds['error']:.2f} % of {labels}, each predicted by a model that never saw it "
            f"(95 % interval {low:.2f} to {high:.2f} %)."
        )
    confidence = Confidence.of_report(report)
    sentences.append(confidence.about_probabilities or "Probabilities are not calibrated.")
    return sentences


def _scores(report: Mapping[str, Any], tested: int) -> dict[str, Any] | None:
    """Return the table of the models, if any was tested; the interval is Wilson's, for the size of the test set."""
    if not report["classes"] or not any(error is not None for error in report["errors"]):
        return None
    rows = []
    for row in report["rows"]:
        interval = EMPTY
        if row["error"] is not None:
            low, high = binomial_interval(round(row["error"] / 100 * tested), tested)
            interval = f"{100 * low:.2f} to {100 * high:.2f}"
        scores = [EMPTY if row[key] is None else f"{row[key]:.{digits}f}" for key, digits in _SCORES]
        rows.append([f"{row['seed']}", scores[0], interval, *scores[1:]])
    return {"columns": ["seed", "test error %", "95 % interval", "NLL", "ECE"], "rows": rows}


_SCORES = (("error", 2), ("nll", 3), ("ece", 3))  # scores, with their decimal places


def _limits(report: Mapping[str, Any], tested: int, noun: str) -> list[str]:
    """Return the limitations of the models, from what was measured."""
    if not report["classes"]:
        return [f"What is generated resembles the {noun}s of the pool, including its gaps.", *report["warnings"]]
    limits = [DRAWS]
    if tested:
        limits.append(f"The error is that of {noun}s like the test set of {report['dataset']}; no others were tested.")
    limits.append("Every input gets one of the classes, even if it belongs to none of them.")
    if noun == "image":
        limits.append(PREPARED)
    if report.get("foreign"):
        reason = Confidence.of_report(report).unflagged_reason
        judged = (
            f"p_generated is not shown: {reason}."
            if reason
            else f"p_generated detects some inputs of none of the classes; of the run's own {noun}s at most "
            f"{100 * FLAGGED_LIMIT:g} % look generated."
        )
        limits.append(judged)
    if report["diverged"]:
        seeds = ", ".join(map(str, report["diverged"]))
        limits.append(f"Models that diverged and do not predict: seed {seeds}.")
    return [*limits, *report["warnings"]]


def _yaml(text: str) -> Any:
    """Return text as a YAML scalar: a JSON string, which YAML reads, without characters that YAML forbids."""
    from markupsafe import Markup

    return Markup(json.dumps(visible(text), ensure_ascii=False))


def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        return escape_markdown(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["yaml"] = _yaml
    return environment.get_template("model_card.md.j2")
