"""A reliability diagram as SVG for a page: small, in the colours of its style sheet, with letters of 14 pixels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["reliability_svg"]

WIDTH, HEIGHT = 320, 340
LEFT, RIGHT, TOP = 44, 312, 10
SHARES, COUNTS = 220, 290  # the feet of the two rows of bars
ROOM = 12  # between them


def reliability_svg(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw accuracy, its gap to the mean confidence, and on a logarithmic axis the number of images.

    Parameters
    ----------
    bins : sequence of mapping
        What :func:`ssgan.metrics.reliability` returns.
    """
    filled = [one for one in bins if one["count"]]
    decades = math.log10(max((one["count"] for one in filled), default=1)) + 0.3  # one image is a bar too

    def x(share: float) -> float:
        return LEFT + (RIGHT - LEFT) * share

    def y(share: float) -> float:
        return SHARES - (SHARES - TOP) * share

    parts = [_line(x(0), y(0), x(1), y(1), "calibrated")]
    for one in filled:
        left, width = x(one["low"]), x(one["high"]) - x(one["low"])
        low, high = sorted((one["accuracy"], one["confidence"]))
        parts.append(_bar(left, width, y(one["accuracy"]), y(0), "accuracy"))
        parts.append(_bar(left, width, y(high), y(low), "gap"))
        height = (COUNTS - SHARES - ROOM) * (math.log10(one["count"]) + 0.3) / decades
        parts.append(_bar(left, width, COUNTS - height, COUNTS, "images"))
    parts += [_line(LEFT, foot, RIGHT, foot, "axis") for foot in (SHARES, COUNTS)]
    parts.append(_line(LEFT, TOP, LEFT, SHARES, "axis"))
    parts += [_text(LEFT - 6, y(share) + 5, f"{share:g}", "end") for share in (0.0, 0.5, 1.0)]
    parts += [_text(x(share), COUNTS + 18, f"{share:g}", "middle") for share in (0.0, 0.5, 1.0)]
    parts.append(_text((LEFT + RIGHT) / 2, COUNTS + 38, "confidence", "middle"))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'


def _bar(left: float, width: float, top: float, foot: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{max(foot - top, 0):.1f}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
