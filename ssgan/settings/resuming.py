"""Compare the settings of a run with those with which it shall be resumed."""

from typing import Any

from ssgan.settings import fields
from ssgan.settings.catalog import DERIVED

__all__ = ["INDEPENDENT_OF_STEPS", "resume_conflicts"]


# Settings that do not change what a step computes, and so may change when a run is resumed.
INDEPENDENT_OF_STEPS = {
    *("preset", "device", "cuda_graph", "tensorboard"),
    *("report_every_images", "evaluate_every_images", "frames_every_images", "checkpoint_every_seconds"),
}
# What depends on the length of training if one of these is set; a message names the first.
_BY_LENGTH = {
    "decay_last_fraction": "every step size depends",
    "decay_last_fraction_g": "every step size depends",
    "ramp_up_fraction": "every weight depends",
    "label_spreading_fraction": "the labels of a batch depend",
}


def resume_conflicts(saved: Any, requested: Any) -> list[str]:
    """List the changes that prevent a run from being resumed, as :meth:`Config.resume_conflicts` does."""
    conflicts = []
    idle = {
        "ramp_up_fraction": not saved.needs_class_probabilities,
        "label_spreading_fraction": not saved.spreads_labels,
    }
    cause = next((name for name in _BY_LENGTH if getattr(saved, name) and not idle.get(name)), "")
    changes = saved.diff(requested)
    for name, (old, new) in changes.items():
        if DERIVED.get(name) in changes:
            continue
        longer = name == "total_images" and new > old
        if name in INDEPENDENT_OF_STEPS or (longer and not cause):
            continue
        # Shown values are rounded: two values that differ must not look alike.
        show = fields.show if fields.show(old) != fields.show(new) else repr
        why = f" (with {cause} above 0, {_BY_LENGTH[cause]} on the length)" if longer else ""
        conflicts.append(f"{name} {show(old)}, now {show(new)}{why}")
    return conflicts
