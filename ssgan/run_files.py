"""Schemas of the files of a run.

They cover report.json, split.json, parent.json, the lines of log.jsonl and the plain values of a checkpoint. The schema
of config.json is the fields of :class:`ssgan.settings.config.Config`.
"""

import re
from typing import Any

from ssgan.errors import counted
from ssgan.result_rows import KNOWN
from ssgan.schemas import (
    Field,
    Predicate,
    Schema,
    each,
    find_fault,
    is_any_text,
    is_matrix,
    is_object,
    is_path,
    is_text,
    number,
    or_null,
    whole,
)

__all__ = [
    "LARGEST_SEED_COUNT",
    "LOG_LINE",
    "MODELS",
    "PARENT",
    "REPORT",
    "SPLITS",
    "TRAINING",
    "find_report_fault",
    "find_split_fault",
]

LARGEST_SEED_COUNT = 4096

_NAME = Field(is_any_text, "a name")
_HASH = Field(is_text, "a hash")
_SEEDS = Field(each(whole(0), 1, LARGEST_SEED_COUNT), f"a list of 1 to {LARGEST_SEED_COUNT} seeds")
_PERCENT = Field(or_null(number(0, 100)), "a percentage or null")
_PERCENTAGES = Field(each(or_null(number(0, 100))), "a list of percentages or nulls")
_MEASURE = Field(or_null(number(0)), "a number at least 0 or null")
_NUMBER = Field(or_null(number()), "a number or null")
_INDICES = Field(each(whole(0)), "a list of integers")

_DIVERSITY: dict[str, Field] = {
    key: KNOWN[key]._replace(required=True) for key in ("spread", "coverage", "recall", "density", "collapse")
}
_FOLDS: dict[str, Field] = {
    **dict.fromkeys(("folds", "labels", "labels_each"), Field(whole(1), "an integer above 0")),
    "error": _PERCENT,
    "wrong": Field(or_null(whole(0)), "an integer or null"),
    "interval": Field(or_null(each(number(0, 100), 2, 2)), "two percentages or null"),
    **{key: KNOWN[key] for key in ("ece", "nll")},
    "errors": _PERCENTAGES,
    "diverged": _INDICES,
    "confusion": Field(or_null(is_matrix), "a square of counts or null"),
    "predictions": Field(or_null(is_path), "a path or null", required=False),
    "flagged": Field(or_null(number(0, 1)), "a number from 0 to 1 or null", required=False),
}
_CALIBRATION: dict[str, Field] = {
    "temperature": Field(or_null(number(0, above=True)), "a number above 0 or null"),
    "fitted_on": Field(or_null(is_text), "a name or null"),
    "labels": Field(whole(0), "an integer"),
    **{key: KNOWN[key]._replace(required=True) for key in ("ece", "nll", "ece_scaled", "nll_scaled")},
    "reason": Field(or_null(is_text), "a sentence or null"),
}
_FOREIGN: dict[str, Field] = {
    "pool": Field(each(or_null(number(0, 1))), "a list of numbers from 0 to 1 or nulls"),
    "held_out": Field(or_null(number(0, 1)), "a number from 0 to 1 or null"),
    "held_out_images": Field(whole(0), "an integer"),
}
_SOURCE: dict[str, Field] = {
    "data": Field(is_path, "a name or a path"),
    "data_dir": Field(or_null(is_path), "a path or null"),
    "labels_csv": Field(or_null(is_path), "a path or null", required=False),
}
# What a report says about each model: a result row, to which a comparison adds some fields later.
_ROW: dict[str, Field] = {
    **{key: field._replace(required=False) for key, field in KNOWN.items()},
    **{key: KNOWN[key] for key in ("seed", "draw_seed", "split_sha256", "error", "error_raw", "ece", "nll")},
    **{key: KNOWN[key] for key in ("diverged", "collapsed")},
    **dict.fromkeys(("dataset", "preset"), _NAME._replace(required=False)),
    **dict.fromkeys(("generated_mean", "generated_std"), _NUMBER._replace(required=False)),
}


def _is_id(value: Any) -> bool:
    """Return whether a value is a result of :func:`ssgan.data.dataset.image_ids`."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{16}", value) is not None


# About the run whose weights a run starts from.
_ORIGIN: dict[str, Field] = {
    "run": Field(is_path, "a path"),
    "weights_sha256": _HASH,
    "dataset": _NAME,
    "images": Field(whole(0), "an integer"),
    "labels": Field(whole(0), "an integer"),
    "seeds": _SEEDS,
}
PARENT: Schema = {
    **_ORIGIN,
    "labeled": Field(
        or_null(each(each(_is_id), 1, LARGEST_SEED_COUNT)), "a list of the hashes of each model's images, or null"
    ),
}
REPORT: Schema = {
    **dict.fromkeys(("dataset", "preset"), _NAME),
    "dataset_sha256": _HASH,
    "labels": Field(whole(0), "an integer"),
    "method": Field(is_text, "a name"),
    "images": Field(whole(1), "an integer above 0"),
    **dict.fromkeys(("device", "device_name"), Field(or_null(is_any_text), "a name or null")),
    **dict.fromkeys(("images_per_second", "seconds"), _MEASURE),
    "classes": Field(each(is_any_text), "a list of names"),
    "seeds": _SEEDS,
    **dict.fromkeys(("accuracy_mean", "error_mean"), _PERCENT),
    **dict.fromkeys(("accuracy_std", "error_std"), _MEASURE),
    **dict.fromkeys(("errors", "errors_raw"), _PERCENTAGES),
    **dict.fromkeys(("diverged", "collapsed"), Field(each(whole(0)), "a list of seeds")),
    "diversity": Field(
        or_null(is_object),
        "an object or null",
        required=False,
        inside={
            "images": Field(whole(1), "an integer above 0"),
            **_DIVERSITY,
            "real": Field(is_object, "an object", inside=_DIVERSITY),
        },
    ),
    "warnings": Field(each(is_any_text), "a list of sentences"),
    "failed_parts": Field(is_object, "an object", required=False),
    "run": Field(is_path, "a path"),
    "source": Field(or_null(is_object), "an object or null", required=False, inside=_SOURCE),
    "folds": Field(or_null(is_object), "an object or null", required=False, inside=_FOLDS),
    "calibration": Field(or_null(is_object), "an object or null", required=False, inside=_CALIBRATION),
    "foreign": Field(or_null(is_object), "an object or null", required=False, inside=_FOREIGN),
    "parent": Field(is_object, "an object", required=False, inside=_ORIGIN),
    "rows": Field(each(is_object, 1), "a list of rows", inside=_ROW),
}


def find_report_fault(report: Any) -> str | None:
    """Return what is wrong with the content of report.json, as the predicate of a sentence; None if it is valid."""
    if (fault := find_fault(report, REPORT)) is not None:
        return fault
    seeds, folds = report["seeds"], report.get("folds") or {}
    if len(set(seeds)) < len(seeds):
        return "has a seed twice"
    if [row["seed"] for row in report["rows"]] != seeds:
        return "has rows of other seeds than its seeds"
    if not len(report["errors"]) == len(report["errors_raw"]) == len(seeds):
        return f"has {counted(len(seeds), 'seed')}, but not as many errors"
    if not {*report["diverged"], *report["collapsed"]} <= set(seeds):
        return "names seeds that diverged or collapsed, which are not among its seeds"
    if report.get("foreign") is not None and len(report["foreign"]["pool"]) != len(seeds):
        return f"has {counted(len(seeds), 'seed')}, but not as many shares of the pool that look generated"
    if folds.get("error") is not None and None in (folds["wrong"], folds["interval"]):
        return "has folds with an error, but not how it was measured"
    confusion = folds.get("confusion")
    if confusion is not None and len(confusion) != len(report["classes"]):
        classes = counted(len(report["classes"]), "class")
        return f"names {classes}, but the confusion matrix of its folds has {len(confusion)}"
    return None


LOG_LINE: Schema = {
    "step": Field(whole(0), "an integer"),
    "images": Field(whole(0), "an integer"),
}

SPLITS: Schema = {
    "format_version": Field(whole(0), "an integer"),
    "splits": Field(
        each(is_object, 1, LARGEST_SEED_COUNT),
        f"a list of 1 to {LARGEST_SEED_COUNT} splits",
        inside={
            "draw_seed": Field(or_null(whole(0)), "an integer or null", required=False),
            "sha256": _HASH,
            "indices": Field(each(whole(0)), "a list of row numbers"),
            "y": Field(each(whole(0)), "a list of classes"),
            "held_out": Field(each(whole(0)), "a list of row numbers", required=False),
            "ids": Field(each(_is_id), "a list of hashes of images, 16 digits each", required=False),
        },
    ),
}


def find_split_fault(content: Any) -> str | None:
    """Return what is wrong with the content of split.json, as the predicate of a sentence; None if it is valid."""
    if (fault := find_fault(content, SPLITS)) is not None:
        return fault
    for i, split in enumerate(content["splits"]):
        if len(split["indices"]) != len(split["y"]):
            rows, labels = counted(len(split["indices"]), "row number"), counted(len(split["y"]), "label")
            return f"has {rows} in splits[{i}], but {labels}"
        if len(split.get("ids", split["indices"])) != len(split["indices"]):
            rows, ids = counted(len(split["indices"]), "row number"), counted(len(split["ids"]), "hash")
            return f"has {rows} in splits[{i}], but {ids} of images"
    return None


def _mapping(key: Predicate, value: Predicate) -> Predicate:
    """Return a predicate for objects whose keys and values all satisfy a predicate."""
    return lambda content: isinstance(content, dict) and all(map(key, content)) and all(map(value, content.values()))


def _is_float(value: Any) -> bool:
    """Return whether a value is a float, finite or not: losses of a diverged model are not finite."""
    return isinstance(value, float)


_TENSORS = Field(_mapping(is_text, lambda value: True), "an object of tensors")
_NETWORK: dict[str, Field] = {"parameters": _TENSORS, "buffers": _TENSORS}
_STEPS_OF_SEEDS = Field(_mapping(whole(0), whole(0)), "the steps of seeds")

# The part of a checkpoint that the models are made from. Its tensors are checked by ``ssgan.inference.checkpoints``.
MODELS: Schema = {
    "config": Field(_mapping(is_text, lambda value: True), "an object of settings"),
    "dataset": Field(is_object, "an object", inside={"name": _NAME, "sha256": _HASH}),
    "image_shape": Field(each(whole(1), 1, 3), "a list of 1 to 3 sizes"),
    "classes": Field(each(is_any_text), "a list of names"),
    "scale": Field(number(0, above=True), "a number above 0"),
    "seeds": _SEEDS,
    "split_sha256": Field(each(is_text), "a list of hashes"),
    "steps_done": Field(whole(0), "an integer at least 0"),
    "networks": Field(
        is_object,
        "an object",
        inside={
            "D": Field(is_object, "an object", inside=_NETWORK),
            "G": Field(is_object, "an object", required=False, inside=_NETWORK),
        },
    ),
    "average": Field(
        is_object,
        "an object",
        inside={"sums": _TENSORS, "mass": Field(number(0, 1, above=True), "a number above 0 and at most 1")},
    ),
    "feature_map": Field(is_object, "an object", required=False),
    "parent": Field(is_object, "an object", required=False, inside={"weights_sha256": _HASH}),
}
# The part of a checkpoint that only a resumed training needs.
TRAINING: Schema = {
    "device_type": Field(is_text, "a name"),
    "watch": Field(
        is_object,
        "an object",
        inside={
            "diverged": _STEPS_OF_SEEDS,
            "collapsed": _STEPS_OF_SEEDS,
            "matching": Field(each(each(_is_float)), "a list of the losses of each report"),
        },
    ),
    "warnings": Field(each(is_any_text), "a list of sentences"),
    "images_per_second": Field(number(0), "a number at least 0"),
    "seconds": Field(number(0), "a number at least 0"),
    "optimizers": Field(is_object, "an object"),
    "history": Field(is_object, "an object"),
    "noise": Field(lambda value: True, "a tensor"),
}
