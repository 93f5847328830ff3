"""What may change of a run's settings while it goes on, and what keeps it from going on, in words."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssgan.config import Config

__all__ = ["BESIDE", "hinders"]

# What has no part in what a step computes.
BESIDE = {
    *("preset", "device", "cuda_graph"),
    *("report_every_images", "evaluate_every_images", "frames_every_images", "checkpoint_every_seconds"),
}
# The setting of both networks says so where G has a decay of its own, too.
_DECAYS = ("decay_last_fraction", "decay_last_fraction_g")


def hinders(begun: "Config", asked: "Config", shown: Callable[[Any], str]) -> list[str]:
    """What in ``asked`` keeps a run begun with other settings from going on: see ``Config.hinders``.

    ``shown`` gives a value as a person would type it.
    """
    said, ramps_up = [], begun.ramp_up_fraction > 0 and begun.asks_agreement
    decays = next((name for name in _DECAYS if getattr(begun, name)), "")
    for name, (ours, theirs) in begun.diff(asked).items():
        longer = name == "total_images" and theirs > ours
        if name in BESIDE or (longer and not (decays or ramps_up)):
            continue
        # What is shown is rounded: two values that differ must not look alike.
        show = shown if shown(ours) != shown(theirs) else repr
        cause = (decays, "step size") if decays else ("ramp_up_fraction", "weight")
        why = f" (with {cause[0]} above 0, every {cause[1]} depends on the length)" if longer else ""
        said.append(f"{name} {show(ours)}, now {show(theirs)}{why}")
    return said
