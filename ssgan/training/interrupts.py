"""Stop a training between two steps on a signal.

The handlers only record the signal; the training checks between its steps. Before the first step and after the last
one, and outside of :func:`stop_between_steps`, signals have their usual effect.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Interrupts", "agree", "current", "stop_between_steps"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Record Ctrl-C and SIGTERM. A second signal has its usual effect.

    Parameters
    ----------
    patient : bool
        Whether a second signal is only recorded too, because a launcher sends one after the user's.

    Attributes
    ----------
    received : int or None
        The number of the signal.
    """

    def __init__(self, patient: bool = False) -> None:
        self.patient = patient
        self.received: int | None = None
        self._former: dict[int, Any] = {}

    def watch(self) -> None:
        """Record signals from now on; only the main thread can. Ignored signals stay ignored."""
        if self._former or self.received is not None or threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._former[number] = signal.signal(number, self._note)

    def unwatch(self) -> None:
        """Restore the former signal handlers."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def _note(self, number: int, _: Any) -> None:
        self.received = number
        if not self.patient:
            self.unwatch()


_current: Interrupts | None = None


def current() -> Interrupts | None:
    """Return the interrupts that trainings check, if any."""
    return _current


def agree(wanted: bool) -> bool:
    """Return whether a report is wanted by any process of a training; a signal to one is passed on to all."""
    from ssgan import distributed  # imports torch, which the handlers do not need

    if distributed.count() == 1:
        return wanted
    received = None if _current is None else _current.received
    code = distributed.largest(int(wanted) if received is None else 1 + received)
    if code > 1 and _current is not None:
        _current.received = code - 1
    return code > 0


@contextmanager
def stop_between_steps(patient: bool = False) -> Iterator[None]:
    """While the block runs, let Ctrl-C and SIGTERM stop a training in a run folder after its step, at a checkpoint."""
    global _current
    outer, _current = _current, Interrupts(patient)
    try:
        yield
    finally:
        _current.unwatch()
        _current = outer
