"""The options of ``ssgan predict`` that sort and draw pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssgan.errors import UserError
from ssgan.files import check_output

if TYPE_CHECKING:
    from ssgan.inference.inputs import InputSource
    from ssgan.inference.models import Models
    from ssgan.inference.predict import Prediction
    from ssgan.inference.sorting import ContactSheet, Pictures, Sorter

__all__ = ["SortOptions", "Sorting", "check_sheet"]


def check_sheet(sheet: Path | None) -> None:
    """Check that a picture can be written to the path of ``--sheet``, if given.

    Raises
    ------
    UserError
    """
    if sheet is None:
        return
    if sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet is {sheet}, but must end in .png.")
    check_output("--sheet", sheet)


@dataclass(frozen=True, kw_only=True)
class SortOptions:
    """The options as typed; call ``check`` before anything is read.

    Attributes
    ----------
    folder : Path or None
        The folder in which the class folders are created.
    link : bool
    unsure : str or None
        The smallest probability at which a picture is sorted into its class; 0.5 if None.
    sheet : Path or None
        The picture of the least sure ones.
    """

    folder: Path | None
    link: bool
    unsure: str | None
    sheet: Path | None

    @property
    def is_on(self) -> bool:
        """Whether anything is sorted or drawn."""
        return self.folder is not None or self.sheet is not None

    def check(self, images: Sequence[str]) -> None:
        """Check that the options go together, and that the folder lies outside those that are read.

        Raises
        ------
        UserError
        """
        from ssgan.data.label_log import TABLE

        self._least_probability()
        if self.folder is None and (self.link or self.unsure is not None):
            raise UserError(f"{'--link' if self.link else '--unsure'} has no effect: it is for --sort-into.")
        folder = None if self.folder is None else self.folder.resolve()
        for name in images:
            if folder is not None and Path(name).is_dir() and folder.is_relative_to(Path(name).resolve()):
                raise UserError(
                    f"--sort-into {self.folder} lies in {name}, among the pictures: choose a folder elsewhere."
                )
        if self.folder is not None and (self.folder / TABLE).exists():
            raise UserError(
                f"--sort-into {self.folder} holds {TABLE}, the answers of `ssgan label`, which would take the "
                f"predictions for labels: choose another folder."
            )
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--sort-into is {self.folder}, which is not a folder: choose another.")
        check_sheet(self.sheet)

    def _least_probability(self) -> float:
        try:
            number = 0.5 if self.unsure is None else float(self.unsure)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1:
            raise UserError(f"--unsure is {self.unsure}, but must be a number from 0 to 1.")
        return number

    def start(self, models: "Models", sources: Sequence["InputSource"]) -> "Sorting":
        """Create the object that receives the predictions.

        Raises
        ------
        UserError
            If the models have no classes, or the folder cannot be created.
        """
        if not self.is_on:
            return Sorting(self, None, None, None)
        from ssgan.inference.sorting import ContactSheet, Pictures, Sorter

        if not models.classes:
            raise UserError("These models have no classes to sort by: omit --sort-into and --sheet.")
        pictures, sorter = Pictures(sources), None
        if self.folder is not None:
            sorter = Sorter(self.folder, models.classes, pictures, self.link, self._least_probability())
        return Sorting(
            self,
            sorter,
            None if self.sheet is None else ContactSheet(models.classes, pictures, models.input_depth),
            pictures,
        )


@dataclass
class Sorting:
    """Receives the predictions, for a sorter, a contact sheet, both or neither."""

    options: SortOptions
    sorter: "Sorter | None"
    sheet: "ContactSheet | None"
    pictures: "Pictures | None"

    def add(self, row: "Prediction") -> None:
        """Receive one prediction."""
        if self.sorter is not None:
            self.sorter.add(row)
        if self.sheet is not None:
            self.sheet.add(row)

    def finish(self) -> dict[str, Any]:
        """Write the contact sheet, and return entries of JSON types for the summary."""
        entries: dict[str, Any] = {}
        if self.sorter is not None:
            counts = self.sorter.counts
            entries["sorted"] = {
                "into": str(self.sorter.folder),
                "link": self.sorter.link,
                "folders": [
                    {"folder": name, "count": counts[name]} for name in (*self.sorter.names.values(), "unsure")
                ],
                "present": self.sorter.present,
                "elsewhere": self.sorter.elsewhere,
                "not_files": self.sorter.unsorted,
                "failed": self.sorter.failed,
            }
        if self.sheet is not None and self.options.sheet is not None:
            entries["sheet"] = str(self.options.sheet) if self.sheet.save(self.options.sheet) else None
        if self.pictures is not None:
            self.pictures.close()
        return entries
