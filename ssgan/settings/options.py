"""How files of pictures become data: what :func:`ssgan.data.load` takes beside a path."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ssgan.errors import UserError

__all__ = ["ImageMode", "Options"]


GAUSSIAN = ("gaussian_mean", "gaussian_std")
ImageMode = Literal["auto", "grey", "rgb"]


@dataclass(frozen=True)
class Options:
    """How files of pictures become data, and which numbers ``gaussian`` holds.

    All but ``labels_csv``, ``strict`` and ``classes`` are settings of a run as well.

    Attributes
    ----------
    image_size : int or None
        Resize the shorter side to so many pixels and cut the square out of the middle; None leaves pictures
        of one size as they are.
    image_mode : {"auto", "grey", "rgb"}
        One channel or three; auto: one where every picture is stored as grey.
    labels_csv : Path or None
        A table of ``file,label`` for a folder without class folders.
    test_share : float
        Share of the labelled pictures of each class held out for testing, where the source has no test share.
    test_seed : int
        Seed of that held-out share.
    gaussian_mean, gaussian_std : float
        Of the numbers of the data set ``gaussian``.
    classes : bool
        Whether the labels are wanted: where not, a folder may do without class folders.
    strict : bool
        Whether a value that would do nothing is a mistake; not where the values are those of an earlier run.
    """

    image_size: int | None = None
    image_mode: ImageMode = "auto"
    labels_csv: Path | None = None
    test_share: float = 0.2
    test_seed: int = 0
    gaussian_mean: float = -1.0
    gaussian_std: float = 1.0
    classes: bool = True
    strict: bool = True

    @classmethod
    def of(cls, config: Any, labels_csv: Path | None = None) -> "Options":
        """Those that a :class:`ssgan.settings.config.Config` holds, and the table that it does not."""
        settings = {name: getattr(config, name) for name in cls.settings()}
        return cls(**settings, labels_csv=labels_csv, classes=not config.unconditional)

    @classmethod
    def settings(cls) -> list[str]:
        """The names of those that are settings of a run."""
        others = ("labels_csv", "classes", "strict")
        return [field.name for field in dataclasses.fields(cls) if field.name not in others]

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Raise a :class:`UserError` for the first of these that is set, though the source cannot use it."""
        for name in names:
            value = getattr(self, name)
            # To hold nothing out does nothing anywhere.
            if self.strict and value != getattr(Options(), name) and not (name == "test_share" and value == 0):
                raise UserError(f"{name}={value} would do nothing: {why}.")

    def refuse_all(self, source: str) -> None:
        """Raise a :class:`UserError` for any that is set for files: the source is made of arrays."""
        names = [name for name in (*self.settings(), "labels_csv") if name not in GAUSSIAN]
        self.refuse(names, f"it is for files of pictures (a folder or a .zip), and {source} holds arrays")

    def refuse_gaussian(self, source: str) -> None:
        """Raise a :class:`UserError` for a setting of the data set ``gaussian``: the source is another."""
        self.refuse(GAUSSIAN, f"it is for the data set gaussian, and {source} is another")
