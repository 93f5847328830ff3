"""Whose a saved state is, and whether a training may go on from it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ssgan.data.dataset import Data
from ssgan.data.splits import Split
from ssgan.devices import select
from ssgan.errors import UserError
from ssgan.settings.config import Config

__all__ = ["STATE", "VERSION", "check_state", "sound_state"]

# Of the moments and the noise: a state of another one would be misread.
VERSION = 2
# What a checkpoint holds: whose it is, what was seen so far, and all that the next step depends on.
STATE = {
    "version",
    *("config", "dataset", "image_shape", "classes", "scale", "seeds", "split_sha256", "device_type"),
    *("watch", "warnings", "images_per_second", "seconds"),
    *("steps_done", "networks", "optimizers", "average", "history", "noise"),
}


def check_state(state: dict[str, Any], data: Data, config: Config, splits: Sequence[Split]) -> None:
    """Refuse a state from which a training on these data, labels and settings cannot go on; changes nothing.

    Raises
    ------
    UserError
        Which says what is other.
    """
    with sound_state():
        if "steps_done" in state and state.get("version") != VERSION:
            raise UserError(
                "The run was begun by another version of this program: its models can be used, but its training cannot "
                "go on. Train anew."
            )
        missing = sorted(STATE - state.keys())
        if missing:
            raise KeyError(", ".join(missing))
        changed = Config.from_dict(state["config"]).resume_conflicts(config)
        if changed:
            raise UserError(f"The run was begun with other settings, so it cannot go on: {', '.join(changed)}.")
        # The hash is of the arrays alone.
        held = (state["dataset"]["sha256"], state["scale"], state["classes"])
        if held != (data.sha256, data.scale, list(data.classes)):
            raise UserError(f"{data.name} does not hold what {state['dataset']['name']} held when the run began.")
        if state["split_sha256"] != [split.sha256 for split in splits]:
            raise UserError("The run was begun with other labelled images, so it cannot go on with these.")
        device = select(config.device).type
        if state["device_type"] != device:
            raise UserError(
                f"The run was begun on {state['device_type']}, and on {device} it would see other noise: "
                f"go on with --device {state['device_type']}."
            )


@contextmanager
def sound_state() -> Iterator[None]:
    """Whatever can go wrong with a state that is none of ours is the user's to mend."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as cause:
        raise UserError(f"The checkpoint cannot be gone on from ({type(cause).__name__}: {cause}).") from cause
