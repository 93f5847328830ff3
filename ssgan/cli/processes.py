"""Run a command in the processes that torchrun has started: one prints, and all exit with the same status."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ssgan.cli import terminal
from ssgan.errors import UserError
from ssgan.files import read_file, write_atomic
from ssgan.settings.config import Config

if TYPE_CHECKING:
    import torch.distributed as dist

    from ssgan.data.dataset import Data
    from ssgan.training.parent import Parent

__all__ = [
    "Outcome",
    "are_launched",
    "begin",
    "check_config",
    "check_same",
    "end",
    "follow",
    "in_turn",
    "is_main",
    "is_restart",
    "run_alike",
]

LAUNCH_NAME = ".torchrun"  # file in a run folder, until the training ends: which torchrun trains it
SECONDS_FOR_OTHERS = 10.0  # time for the others to report their end after a process has failed
SECONDS_AFTER_SIGNAL = 1.0
SECONDS_BETWEEN_LOOKS = 0.02


class Outcome(NamedTuple):
    """How a process ended.

    Attributes
    ----------
    status : int
        The exit status.
    text : str
        The message of an error; may be empty.
    is_lost : bool
        Whether it ended because another process had ended.
    """

    status: int
    text: str = ""
    is_lost: bool = False


def are_launched() -> bool:
    """Return whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ


def run_alike(run: Callable[[list[str]], Outcome], arguments: list[str]) -> int:
    """Run a command in every process that torchrun has started, and return their common exit status.

    Only the process of rank 0 prints. An error of any process is the result of all, and is printed once.
    """
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if count > 1 and arguments[:1] != ["train"]:
        if rank == 0:
            terminal.note(f"ssgan: {count} processes run `ssgan train` and no other command: run it without torchrun.")
        return 2
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # an error is printed once, as a message
    import torch.distributed as dist

    from ssgan import distributed

    store, _, _ = next(iter(dist.rendezvous("env://")))
    store = dist.PrefixStore(f"start {_restarts()}", store)  # the store keeps what was written before a restart
    with _muted(rank > 0):
        try:
            distributed.join(dist.PrefixStore("group", store), rank, count, int(os.environ["LOCAL_RANK"]))
            outcome = run(arguments)
        except distributed.ProcessLost:
            outcome = _lost()
        except Exception:
            outcome = Outcome(1, traceback.format_exc().rstrip())
        outcome, speaker = _agree(dist.PrefixStore("outcome", store), rank, count, outcome)
    if rank == speaker and outcome.text:
        if "\n" in outcome.text:  # a fault of the program
            print(outcome.text, file=sys.stderr)
        else:
            terminal.note(outcome.text)
    return outcome.status


def _agree(store: "dist.Store", rank: int, count: int, own: Outcome) -> tuple[Outcome, int]:
    """Return the common outcome of all processes, and the lowest rank of those that reported one."""
    from ssgan import distributed

    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    store.set(str(rank), json.dumps(own))
    if own.status:
        distributed.leave()  # so that no other waits for this process
    outcomes, deadline = {rank: own}, float("inf")
    while len(outcomes) < count and time.monotonic() < deadline:
        for other in range(count):
            if other not in outcomes and store.check([str(other)]):
                outcomes[other] = Outcome(*json.loads(store.get(str(other))))
        if signals:  # torchrun sends one after a process has ended
            deadline = min(deadline, time.monotonic() + SECONDS_AFTER_SIGNAL)
        elif any(outcome.status for outcome in outcomes.values()):
            deadline = min(deadline, time.monotonic() + SECONDS_FOR_OTHERS)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    distributed.leave()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # torchrun stops the others after one has ended, but each ends by itself
    return _joint(outcomes, count), min(outcomes)


def _joint(outcomes: Mapping[int, Outcome], count: int) -> Outcome:
    """Return the common outcome: the first error with a reason, otherwise a lost process, otherwise success."""
    ranked = [outcomes[rank] for rank in sorted(outcomes)]
    errors = [outcome for outcome in ranked if outcome.status and not outcome.is_lost]
    lost = [outcome for outcome in ranked if outcome.is_lost]
    if len(ranked) < count:
        lost.append(_lost())
    return [*errors, *lost, *ranked][0]


@contextlib.contextmanager
def _muted(muted: bool) -> Iterator[None]:
    """While the block runs, print nothing if ``muted``."""
    with contextlib.ExitStack() as stack:
        if muted:
            null = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(null))
            stack.enter_context(contextlib.redirect_stderr(null))
        yield


def is_main() -> bool:
    """Return whether this process prints and writes; without torchrun always True."""
    if not are_launched():
        return True
    from ssgan import distributed

    return distributed.is_main()


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """Run the block first in the main process and then in the others, which read what it has downloaded or cached."""
    if not are_launched():
        yield
        return
    from ssgan import distributed

    with distributed.main_first():
        yield


def check_config(config: Config) -> None:
    """Check that the processes can train this configuration; raise a UserError if not."""
    if are_launched():
        from ssgan.training.setup import check_processes

        check_processes(config)


def check_same(data: "Data", config: Config) -> None:
    """Check that all processes have the same data and settings; raise a UserError if not.

    Seeds count as well: each process initialises its weights from them and draws the labels by them.
    """
    if are_launched():
        from ssgan import distributed

        settings = {name: value for name, value in config.to_dict().items() if name not in ("preset", "device")}
        settings_sha256 = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        for what, advice, digest in (
            ("data", "give every machine the same files", data.sha256),
            ("settings", "start all of them with the same options", settings_sha256),
        ):
            if not distributed.is_same_everywhere(int(digest[:15], 16)):
                raise UserError(f"The processes have different {what}: {advice}.")


def is_restart(out: Path | None) -> bool:
    """Return whether torchrun has restarted the processes, to resume the run in ``out`` that it began.

    Raises
    ------
    UserError
        If no folder is named, because another one would be created at every start.
    """
    if not are_launched():
        return False
    if out is None:
        raise UserError("Under torchrun, name the run folder with --out: after a restart the training resumes in it.")
    from ssgan import distributed

    begun = False
    if _restarts() and distributed.is_main():
        with contextlib.suppress(OSError):
            begun = read_file(out / LAUNCH_NAME).decode() == _launch()
    return bool(distributed.largest(int(begun)))


def _lost() -> Outcome:
    """Return the outcome if another process has ended without reporting one."""
    again = "torchrun starts all of them again" if _restarts() < _most_restarts() else "continue with --resume"
    return Outcome(1, f"ssgan: A process of this training has ended unexpectedly: {again}.", is_lost=True)


def _most_restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))


def _restarts() -> int:
    """Return how often torchrun has restarted the processes."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _launch() -> str:
    """Return an identifier of this torchrun: its run id, or the id of its process if the run id is the default."""
    name = os.environ["TORCHELASTIC_RUN_ID"]
    return name if name not in ("", "none") else f"{socket.gethostname()} {os.getppid()}"


def begin(folder: Path, trains: bool) -> None:
    """Tell the other processes whether there is anything to train; record in the run folder which torchrun does it."""
    if are_launched():
        from ssgan import distributed

        if trains:
            write_atomic(folder / LAUNCH_NAME, _launch().encode())
        distributed.largest(int(trains))


def end(folder: Path) -> None:
    """Remove the record of :func:`begin`."""
    if are_launched():
        (folder / LAUNCH_NAME).unlink(missing_ok=True)


def follow(data: "Data", config: Config, folder: Path, parent: "Parent | None") -> None:
    """Train in a process that writes nothing, if the main one reports that there is anything to train."""
    from ssgan import distributed
    from ssgan.training import setup

    if distributed.largest(0):
        setup.follow(data, config, folder, parent)
