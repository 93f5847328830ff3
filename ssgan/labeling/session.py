"""Decide which picture each tab of the labelling page shows next, and take its answers."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ssgan.errors import UserError, visible
from ssgan.labeling.store import Answer, Change, LabelStore, check_class_name
from ssgan.labeling.tables import Hint

__all__ = [
    "GROUP_SIZE",
    "LEASE_SECONDS",
    "LabelingSession",
    "rank",
]

LEASE_SECONDS = 180.0  # for which a picture stays with a silent tab: hidden tabs report once a minute
AHEAD = 3  # pictures that a tab is given at a time, of which it shows the first
GROUP_SIZE = 24


@dataclass
class _Lease:
    tab: str
    ends: float


def rank(names: Sequence[str], hints: Mapping[str, Hint], first: Sequence[str] = ()) -> list[str]:
    """Order pictures: suggested ones first, then by the margin of the model, those unlike all classes last.

    Without a model the order is random but fixed: pictures with similar names are often alike.
    """
    shuffled = list(names)
    random.Random(0).shuffle(shuffled)
    place = {name: i for i, name in enumerate(first)}
    nothing = Hint()

    def key(name: str) -> tuple[int, bool, float]:
        hint = hints.get(name, nothing)
        return place.get(name, len(place)), hint.unlike, hint.margin

    return sorted(shuffled, key=key)


class LabelingSession:
    """The pictures, classes, answers and tabs of one labelling page. Safe to use from several threads.

    Parameters
    ----------
    names : sequence of str
        Pictures that can be labelled.
    store : LabelStore
    classes : sequence of str
    review_since : str, optional
        Pictures are to be reviewed: an answer counts only from this time on. Their order is that of ``names``.
    hints : mapping of str to Hint, optional

    Attributes
    ----------
    unreadable : dict
        The reason, by picture; they are not shown.
    """

    def __init__(
        self,
        names: Sequence[str],
        store: LabelStore,
        classes: Sequence[str],
        review_since: str = "",
        hints: Mapping[str, Hint] | None = None,
    ) -> None:
        self.names, self.store, self.review_since = tuple(names), store, review_since
        self.places = {name: i for i, name in enumerate(self.names)}
        self.hints = dict(hints or {})
        self.order = list(self.names) if review_since else rank(self.names, {})
        self.order_number = 0
        self.unreadable: dict[str, str] = {}
        self._classes: list[str] = []
        self._leases: dict[str, _Lease] = {}
        self._exceptions: set[tuple[str, str]] = set()
        self._counted = -1, Counter[str](), Counter[str]()
        self._closed = 0  # pictures at the beginning of the order that are answered or unreadable
        self._mutex = threading.RLock()
        for name in (*classes, *store.labels()):
            try:
                self._add(check_class_name(name))  # as it is: names of folders may differ in upper and lower case alone
            except UserError as mistake:
                raise UserError(f"The class {visible(name)} of a folder or of {store.path}: {mistake}") from None
        for name in self._guessed():
            with suppress(UserError):
                self._add(check_class_name(name))
        self._lasting = set(self._classes)

    @property
    def classes(self) -> list[str]:
        """The classes in the order of their keys."""
        return list(self._classes)

    def add_class(self, text: str) -> str:
        """Add a class, and return its name as it is stored."""
        with self._mutex:
            name = check_class_name(text, self._classes)
            self._add(name)
            return name

    def _add(self, name: str) -> None:
        """Add a class by its exact name, if it is new."""
        if name not in self._classes:
            self._classes.append(name)
            self.store.write_classes(self._classes)

    def _remove_unused(self, names: Iterable[str]) -> None:
        """Remove classes that were added on this page and have no label left."""
        counts = self.store.label_counts()
        unused = {name for name in names if name not in self._lasting and not counts[name]}
        if unused:
            self._classes = [name for name in self._classes if name not in unused]
            self.store.write_classes(self._classes)

    def set_hints(self, hints: Mapping[str, Hint], first: Sequence[str] = ()) -> None:
        """Take the hints of a new model, and order the pictures by them; a review keeps those of its table."""
        if self.review_since:
            return
        with self._mutex:
            known = {name: hint for name, hint in hints.items() if name in self.places}
            if known != self.hints:  # the same hints come again with a new order
                self._exceptions.clear()
            self.hints = known
            self.order = rank(self.names, self.hints, first)
            self.order_number += 1
            self._closed = 0

    def next_pictures(self, tab: str, holding: Sequence[str] = (), skipped: bool = False) -> list[dict[str, Any]]:
        """Return the next pictures of a tab and lease them to it, those that it holds first.

        With ``skipped`` they are those that were skipped.
        """
        with self._mutex:
            self._keep(tab, holding)
            held = [name for name in holding if self._is_open(name, skipped) and self._is_free(name, tab)]
            for name in self._waiting(skipped) if len(held) < AHEAD else ():
                if name not in held and self._is_open(name, skipped) and self._is_free(name, tab):
                    held.append(name)
                    if len(held) >= AHEAD:
                        break
            return self._lease(tab, held)

    def group(self, tab: str, label: str = "") -> dict[str, Any]:
        """Return pictures that the model gives one class, the most confident first; by default the class with the most.

        Pictures that were taken out of a group of this class are left out.
        """
        with self._mutex:
            self._keep(tab, ())
            groups: dict[str, list[str]] = {}
            for name, hint in self.hints.items():
                is_left_out = not hint.label or (name, hint.label) in self._exceptions
                if not is_left_out and self._is_open(name) and self._is_free(name, tab):
                    groups.setdefault(hint.label, []).append(name)
            sizes = {name: len(groups[name]) for name in self._classes if name in groups}
            if label not in sizes:
                label = max(sizes, key=lambda name: sizes[name], default="")
            surest = sorted(groups.get(label, []), key=lambda name: -(self.hints[name].probability or 0))
            return {"label": label, "sizes": sizes, "pictures": self._lease(tab, surest[:GROUP_SIZE])}

    def answer(self, items: Iterable[tuple[str, int]], action: str, label: str = "") -> dict[str, Any]:
        """Write one answer for pictures, unless they were given another since this version was shown.

        A skipped picture keeps the label that it has, or that it is of none of the classes.

        Returns
        -------
        dict
            ``saved`` pairs of file and version; ``changed`` sentences about pictures that were answered elsewhere.
        """
        with self._mutex:
            items = list(dict(items).items())
            self._check_known(name for name, _ in items)
            kept = [name for name, version in items if self.store.version(name) == version]
            if action == "label" and items:
                label = self.add_class(label) if kept else check_class_name(label, self._classes)
            else:
                label = ""
            changed = [self._describe(name) for name, _ in items if name not in kept]
            versions = self.store.append([self._change(name, action, label) for name in kept])
            for name, _ in items:
                self._leases.pop(name, None)
            return {"saved": list(zip(kept, versions, strict=True)), "changed": changed, "label": label}

    def _change(self, name: str, action: str, label: str) -> Change:
        """Return the answer to write."""
        answer = self.store[name]
        if action != "skip" or answer is None:
            return Change(name, label, action)
        return Change(name, answer.label, "none" if answer.action == "none" else action)

    def except_from(self, label: str, names: Iterable[str]) -> None:
        """Record that pictures are not of this class, so that no group of it shows them again."""
        with self._mutex:
            self._exceptions.update((name, label) for name in names)

    def undo(self, tab: str, items: Iterable[tuple[str, int]]) -> dict[str, Any]:
        """Undo answers, and lease the pictures to the tab again."""
        with self._mutex:
            versions = dict(items)
            gone = [name for name in versions if name not in self.places]
            for name in gone:
                del versions[name]
            before = filter(None, [self.store.label(name) for name in versions])
            changed = self.store.undo(versions.items())
            self._closed = 0
            self._remove_unused(before)
            undone = [name for name in versions if name not in changed]
            why = [*map(self._describe, changed), *(f"There is no picture {name} here." for name in gone)]
            return {"pictures": self._lease(tab, undone), "changed": why}

    def release(self, tab: str) -> None:
        """End the leases of a tab that was closed."""
        with self._mutex:
            self._keep(tab, ())

    def renew(self, tab: str) -> None:
        """Renew the leases of a tab."""
        with self._mutex:
            for lease in self._leases.values():
                if lease.tab == tab:
                    lease.ends = time.monotonic() + LEASE_SECONDS

    def mark_unreadable(self, name: str, reason: str) -> None:
        """Record that a picture cannot be shown."""
        with self._mutex:
            self.unreadable[name] = reason

    def mark_readable(self, name: str) -> None:
        """Record that a picture can be shown, after all."""
        with self._mutex:
            if self.unreadable.pop(name, None) is not None:
                self._closed = 0

    def counts(self) -> dict[str, Any]:
        """Count pictures by their answers."""
        with self._mutex:
            if self._counted[0] != self.store.line_count:
                answers = [
                    answer for name in self.store.files if name in self.places and (answer := self._answer(name))
                ]
                actions = Counter(answer.action for answer in answers)
                labels = Counter(one.label for one in answers if one.label and one.action != "skip")
                self._counted = self.store.line_count, actions, labels
            _, actions, per_class = self._counted
            return {
                "total": len(self.names),
                "labeled": per_class.total(),
                "none": actions["none"],
                "skipped": actions["skip"],
                "unreadable": len([name for name in self.unreadable if not self._answer(name)]),
                "classes": [{"name": name, "count": per_class[name]} for name in self._classes],
            }

    def label_counts(self) -> Counter[str]:
        """Count the current labels of all pictures of the table."""
        with self._mutex:
            return self.store.label_counts()

    def _check_known(self, names: Iterable[str]) -> None:
        """Raise a UserError for a picture that is not here."""
        if unknown := [name for name in names if name not in self.places]:
            raise UserError(f"There is no picture {unknown[0]} here.")

    def _guessed(self) -> list[str]:
        """Return the classes that the hints name, in alphabetical order."""
        return sorted({hint.label for hint in self.hints.values() if hint.label})

    def _answer(self, name: str) -> Answer | None:
        """Return the answer to a picture, None for a label that was emptied by hand; in a review only a new one."""
        answer = self.store[name]
        if answer and answer.action == "label" and not answer.label:
            return None
        return answer if answer and answer.time >= self.review_since else None

    def _is_open(self, name: str, skipped: bool = False) -> bool:
        """Return whether a picture waits for an answer; with ``skipped``, whether it was skipped."""
        if name not in self.places or name in self.unreadable:
            return False
        answer = self._answer(name)
        return (answer is not None and answer.action == "skip") if skipped else answer is None

    def _waiting(self, skipped: bool) -> Iterator[str]:
        """Iterate over the order from the first picture that may be open; with ``skipped``, by time, earliest first."""
        if skipped:
            times = {name: answer.time for name in self.order if (answer := self._answer(name))}
            return iter(sorted(times, key=times.__getitem__))
        while self._closed < len(self.order) and not self._is_open(self.order[self._closed]):
            self._closed += 1
        return itertools.islice(self.order, self._closed, None)

    def _is_free(self, name: str, tab: str) -> bool:
        """Return whether no other tab holds a picture."""
        lease = self._leases.get(name)
        return lease is None or lease.tab == tab or lease.ends < time.monotonic()

    def _keep(self, tab: str, names: Sequence[str]) -> None:
        """End the leases of a tab except for these pictures."""
        for name in [name for name, lease in self._leases.items() if lease.tab == tab and name not in names]:
            del self._leases[name]

    def _lease(self, tab: str, names: Iterable[str]) -> list[dict[str, Any]]:
        """Lease pictures to a tab, and describe them."""
        names = list(names)
        for name in names:
            self._leases[name] = _Lease(tab, time.monotonic() + LEASE_SECONDS)
        return [self._entry(name) for name in names]

    def _entry(self, name: str) -> dict[str, Any]:
        """Describe a picture for the page."""
        hint = self.hints.get(name, Hint())
        return {
            "file": name,
            "place": self.places[name],
            "version": self.store.version(name),
            "given": self.store.label(name),
            "guess": hint.label if hint.label in self._classes else "",
            "probability": hint.probability,
            "reason": hint.reason,
        }

    def _describe(self, name: str) -> str:
        """Say how a picture was answered in another tab."""
        answer = self.store[name]
        if answer is None:
            return f"The answer to {name} was undone in another tab."
        words = {"skip": "skipped", "none": "marked as none of these"}.get(answer.action, f"labelled {answer.label}")
        return f"{name} was {words} in another tab; that answer stays."
