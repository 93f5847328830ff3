"""One row of a result: what it must hold, and the reason why a line is none."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["MEASURED", "REQUIRED", "Unusable", "is_lost", "parse"]


class Unusable(ValueError):  # noqa: N818 - a finding about a line, said with its place
    """Why a line is no row that can be used; its text goes on after the place of the line."""


def _number(low: float, high: float = math.inf) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high

    return holds


def _whole(low: int) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= MOST

    return holds


def _or_null(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _names(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(name, str) for name in value)


def _matrix(value: Any) -> bool:
    count = _whole(0)
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(row, list) and len(row) == len(value) and all(map(count, row)) for row in value)
    )


def _bins(value: Any) -> bool:
    share, count = _number(0, 1), _whole(0)
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(
            isinstance(one, dict)
            and {"low", "high", "count", "confidence", "accuracy"} <= one.keys()
            and share(one["low"])
            and share(one["high"])
            and count(one["count"])
            and all(share(one[key]) if one["count"] else one[key] is None for key in ("confidence", "accuracy"))
            for one in value
        )
    )


MOST = 2**53
# What tells rows apart; a row that failed has the first five at least.
NAMED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dataset": (_text, "a name"),
    "labels": (_whole(0), "a whole number"),
    "method": (_text, "a name"),
    "seed": (_whole(0), "a whole number"),
    "draw_seed": (_or_null(_whole(0)), "a whole number or null"),
}
REQUIRED: dict[str, tuple[Callable[[Any], bool], str]] = {
    **NAMED,
    "dataset_sha256": (_text, "a hash"),
    "preset": (_or_null(_text), "a name or null"),
    "settings": (_object, "an object"),
    "config_sha256": (_text, "a hash"),
    "images": (_or_null(_whole(0)), "a whole number or null"),
    "split_sha256": (_text, "a hash"),
    "error": (_or_null(_number(0, 100)), "a percentage or null"),
    "error_raw": (_or_null(_number(0, 100)), "a percentage or null"),
    "ece": (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    "nll": (_or_null(_number(0)), "a number at least 0 or null"),
    "diverged": (_or_null(_whole(0)), "a step or null"),
    "collapsed": (_or_null(_whole(0)), "a step or null"),
    "images_per_second": (_or_null(_number(0)), "a number at least 0 or null"),
    "seconds": (_or_null(_number(0)), "a number at least 0 or null"),
    "device": (_or_null(_text), "a name or null"),
    "device_name": (_or_null(_text), "a name or null"),
    "stack": (_or_null(lambda v: isinstance(v, list) and all(map(_whole(0), v))), "a list of seeds or null"),
    "versions": (_or_null(_object), "an object or null"),
    "commit": (_or_null(_text), "a name or null"),
}
OPTIONAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "failed": (_or_null(_text), "a sentence or null"),
    "ks": (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    "wasserstein": (_or_null(_number(0)), "a number at least 0 or null"),
    **dict.fromkeys(
        ["accuracy_real", "accuracy_fake", "accuracy_real_raw", "accuracy_fake_raw"],
        (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    ),
    "confusion": (_or_null(_matrix), "a square of counts or null"),
    "classes": (_or_null(_names), "a list of names or null"),
    "reliability": (_or_null(_bins), "a list of bins or null"),
    "temperature": (_or_null(_number(0)), "a number at least 0 or null"),
    "nll_scaled": (_or_null(_number(0)), "a number at least 0 or null"),
    "ece_scaled": (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    "spread": (_or_null(_number(0)), "a number at least 0 or null"),
    "coverage": (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    "recall": (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    "density": (_or_null(_number(0)), "a number at least 0 or null"),
    "collapse": (_or_null(_number(0, 1)), "a number from 0 to 1 or null"),
    "samples": (_or_null(_text), "a path or null"),
    "estimator": (lambda _: True, ""),
    "run": (lambda _: True, ""),
    "source": (lambda _: True, ""),
    "warnings": (lambda _: True, ""),
    "members": (_or_null(lambda v: _whole(1)(v) or (isinstance(v, list) and len(v) > 0)), "a number or a list"),
}
KNOWN = {**REQUIRED, **OPTIONAL}
# What a training gives; the rest is what it was given, or where it ran.
MEASURED = {"error", "error_raw", "ece", "nll", "diverged", "collapsed", "confusion", "reliability", "failed"}
MEASURED |= {"temperature", "nll_scaled", "ece_scaled", "spread", "coverage", "recall", "density", "collapse"}


def parse(line: bytes) -> dict[str, Any]:
    """Read one line and check it.

    Raises
    ------
    Unusable
        Where it is no row of a result.
    """
    try:
        text = line.decode("utf-8")
        row = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once)
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8")  # 1e999, or half a surrogate pair
    except Unusable:
        raise
    except UnicodeDecodeError:
        raise Unusable("is no UTF-8 text") from None
    except UnicodeEncodeError:
        raise Unusable("holds text that is no Unicode") from None
    except RecursionError:
        raise Unusable("is nested too deeply") from None
    except json.JSONDecodeError as cause:
        raise Unusable(f"is no JSON: it is cut off or damaged at character {cause.pos + 1}") from None
    except ValueError:
        raise Unusable("holds a number that is not finite, or too long") from None
    if not isinstance(row, dict):
        raise Unusable("is JSON, but no object")
    _check(row)
    return row


def is_lost(row: Mapping[str, Any]) -> bool:
    """Whether a row says that its training gave no error: it failed or diverged."""
    return row.get("failed") is not None or row.get("diverged") is not None or row.get("error") is None


def _check(row: Mapping[str, Any]) -> None:
    failed = row.get("failed") is not None
    if missing := [key for key in (NAMED if failed else REQUIRED) if key not in row]:
        named = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise Unusable(f"lacks {named}: it is no row of a result, or of another version")
    for key in sorted(KNOWN.keys() & row.keys()):
        holds, what = KNOWN[key]
        if not holds(row[key]) and not (failed and row[key] is None and key not in NAMED):
            raise Unusable(f"has {key} = {_short(row[key])}, which should be {what}")
    classes, confusion = row.get("classes"), row.get("confusion")
    if classes is not None and confusion is not None and len(classes) != len(confusion):
        raise Unusable(f"names {len(classes)} classes, but its confusion matrix has {len(confusion)}")
    if row["labels"] == 0:
        raise Unusable("is of a GAN without classes (labels 0), which has no error")
    if row.get("error") is None and not failed and row["diverged"] is None:
        raise Unusable("has no error, though it neither diverged nor failed: was there no test share?")


def _short(value: Any) -> str:
    words = json.dumps(value, ensure_ascii=False)
    return words if len(words) <= 40 else words[:37] + "..."


def _refuse(constant: str) -> None:
    raise Unusable(f"holds {constant}, which is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (often, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise Unusable(f"has the key {_short(often)} twice")
    return found
