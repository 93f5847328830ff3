"""Stop a training between two steps where a signal asks for it.

The handlers only note the signal; the training asks between its steps. Before the first step and after the last one,
and where nobody has entered :func:`stop_between_steps`, signals act as they always do.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Interrupts", "current", "stop_between_steps"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Note Ctrl-C and SIGTERM. A second signal acts as it did before.

    Attributes
    ----------
    received : int or None
        The number of the signal.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._former: dict[int, Any] = {}

    def watch(self) -> None:
        """Note signals from now on; only the main thread can. Signals that are ignored stay so."""
        if self._former or self.received is not None or threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._former[number] = signal.signal(number, self._note)

    def unwatch(self) -> None:
        """Let signals act as before."""
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}

    def _note(self, number: int, _: Any) -> None:
        self.received = number
        self.unwatch()


_current: Interrupts | None = None


def current() -> Interrupts | None:
    """Return the interrupts that trainings ask for, if any."""
    return _current


@contextmanager
def stop_between_steps() -> Iterator[None]:
    """While the block runs, let Ctrl-C and SIGTERM stop a training in a run folder after its step, at a checkpoint."""
    global _current
    outer, _current = _current, Interrupts()
    try:
        yield
    finally:
        _current.unwatch()
        _current = outer
