"""Record pictures and measurements that could not be written, so that the training is not lost."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ssgan.errors import UserError

__all__ = ["FailedParts"]


class FailedParts:
    """Collect the parts of a run that failed, with the reasons, for its report.

    A training may take days, so the failure of a picture or a measurement must not end it. A failure is never silent:
    it is a warning of the training and is listed in ``report.json``, under ``failed_parts``.

    Attributes
    ----------
    reasons : dict of str to str
        Why each part first failed, by its name.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self._told: set[str] = set()

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Run the block, and record an error in it as the failure of the part with this name."""
        try:
            yield
        except Exception as cause:
            self.add(name, cause)

    def add(self, name: str, cause: Exception) -> None:
        """Record why a part failed; of several failures of one part, the first."""
        if isinstance(cause, UserError):
            reason = str(cause).rstrip(".")
        elif isinstance(cause, OSError) and cause.strerror:
            reason = f"{cause.strerror}: {cause.filename}" if cause.filename else cause.strerror
        else:
            reason = f"{type(cause).__name__}: {cause}"
        self.reasons.setdefault(name, " ".join(reason.split()))

    @property
    def warnings(self) -> list[str]:
        """A sentence for each part that failed."""
        return [f"Failed, and left out: {name} ({reason})." for name, reason in self.reasons.items()]

    def new_warnings(self) -> list[str]:
        """Return the warnings that were not returned before."""
        new = [line for line in self.warnings if line not in self._told]
        self._told |= {*new}
        return new

    def added_to(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return a report with the parts that have failed so far, and their warnings."""
        earlier = report["warnings"]
        warnings = [*earlier, *(line for line in self.warnings if line not in earlier)]
        return {**report, "warnings": warnings, **({"failed_parts": self.reasons} if self.reasons else {})}

    def replace_nonfinite(self, content: Any, place: str = "") -> Any:
        """Return nested plain types with None for each number that is not finite, which JSON does not allow.

        Each place is recorded as a part that failed.
        """
        if isinstance(content, dict):
            return {k: self.replace_nonfinite(v, f"{place}.{k}" if place else str(k)) for k, v in content.items()}
        if isinstance(content, list | tuple):
            return [self.replace_nonfinite(value, f"{place}[{i}]") for i, value in enumerate(content)]
        if isinstance(content, float) and not np.isfinite(content):
            self.reasons.setdefault(place, f"{content} is not a finite number")
            return None
        return content
