"""What options ask for: those of ``ssgan train`` as settings, and numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssgan import runs
from ssgan.errors import UserError
from ssgan.settings.catalog import suits
from ssgan.settings.config import Config
from ssgan.settings.fields import LARGEST_INTEGER
from ssgan.settings.presets import DATASET_PRESETS, PRESETS, parse, resolve

__all__ = [
    "Asked",
    "check_resume",
    "default_preset",
    "epochs_to_images",
    "parse_integer",
    "parse_settings",
    "resumed_settings",
]


PICTURE = 32  # height and width of a picture that every network takes


def parse_settings(assignments: list[str], flags: dict[str, str | None]) -> dict[str, Any]:
    """The named options and --set, of which no two may speak of the same field."""
    found: dict[str, Any] = {}
    for assignment in [*(f"{name}={text}" for name, text in flags.items() if text is not None), *assignments]:
        name, value = parse(assignment)
        if name in found:
            raise UserError(f"{name} is set twice, the second time by {assignment}: leave one of the two away.")
        found[name] = value
    return found


def default_preset(data: str, image_shape: Sequence[int]) -> str:
    """The preset that data name, by their name or for a user's own by the shape of their images.

    That is ``images``, or ``vectors`` for what is no picture or too small for the network of ``images``.
    """
    own = "images" if suits(str(PRESETS["images"]["network"]), image_shape) else "vectors"
    return DATASET_PRESETS.get(data, own)


class Asked(NamedTuple):
    """What says which settings a training has: the data, --preset, the run to go on with, --config, and the options."""

    data: str
    preset: str | None
    resumed: Path | None
    file: Path | None
    given: dict[str, Any]

    def settings(self, image_shape: Sequence[int] = ()) -> Config:
        """The configuration; without a preset it depends on the data: see :func:`preset_of`."""
        if self.resumed is not None:
            return resumed_settings(self.resumed, self.preset, self.given)
        earlier = {} if self.file is None else runs.read_settings(self.file)
        before = earlier.get("preset")
        if self.preset is not None and before not in (None, self.preset):
            words = f"--preset {self.preset} does not go with --config {self.file}, a run of preset {before!r}"
            raise UserError(f"{words}: choose one.")
        preset = self.preset or str(before or default_preset(self.data, image_shape))
        return resolve(preset, self.given, earlier)

    def early_settings(self) -> Config:
        """What will do until the data are read: settings that suit one of the presets of own data are no mistake."""
        try:
            return self.settings((PICTURE, PICTURE))
        except UserError as mistake:
            try:
                return self.settings()
            except UserError:
                raise mistake from None


def check_resume(out: Path | None, config: Path | None) -> None:
    """Whether --resume says which run to go on with, and nothing else does."""
    if out is None:
        raise UserError("--resume needs --out, the folder of the run to go on with.")
    if config is not None:
        raise UserError(f"--config {config} does not go with --resume, which has the settings of {out}: choose one.")


def resumed_settings(run: Path, preset: str | None, given: dict[str, Any]) -> Config:
    """The settings of a run begun earlier; options may repeat them, and change what has no part in a step."""
    if "preset" in given:
        raise UserError(f"preset={given['preset']} cannot be set: choose it with --preset.")
    begun = runs.read_config(run)
    asked = begun.replace(**given)
    changed = begun.resume_conflicts(asked)
    if preset not in (None, begun.preset):
        changed = [f"preset {begun.preset}, now {preset}", *changed]
    if changed:
        raise UserError(
            f"{run} was begun with other settings, so it cannot go on: {', '.join(changed)}; leave them as they were, "
            f"or begin another run with --config {run}."
        )
    return asked


def epochs_to_images(epochs: str, pool: int) -> int:
    """How many images so many passes over the pool are."""
    try:
        count = float(epochs) * pool
    except ValueError:
        count = float("nan")
    if not 0 < count < float("inf"):
        raise UserError(f"--epochs is {epochs}, but must be a number above 0.")
    if count > LARGEST_INTEGER:
        raise UserError(f"--epochs is {epochs}, which is more images than can be counted: choose fewer.")
    return max(1, round(count))


def parse_integer(option: str, text: str) -> int:
    """The whole number that was given to an option."""
    try:
        return int(text)
    except ValueError:
        raise UserError(f"{option} is {text}, but must be a whole number.") from None
