"""Train in the background while pictures are labelled, and predict every picture.

The work is done by commands of ``ssgan`` in separate processes, one at a time and with a low priority, so that the page
stays usable. They end with the server, even if it is killed.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ssgan import files, runs
from ssgan.data.photographs import backbone_of_photographs
from ssgan.errors import UserError
from ssgan.labeling.tables import Hint, read_hints, read_order

__all__ = ["FOLDS", "BackgroundTrainer", "Commands", "Failed", "latest_run"]

FOLDS = 5
SUGGESTED = (100, 20, 5)  # pictures requested from `ssgan suggest`; the next number is tried if that fails
# Length of a training, whose models order and group the pictures: a minute or two on a laptop.
TOTAL_IMAGES = 30_000
QUICK = ["--image-size", "28"]
REMEASURED_GROWTH = 1.5  # factor by which the labels must grow before the error is measured again
OUTPUT_KEPT = 4000  # characters
STOP_SECONDS = 10.0  # longest wait for a training to finish its step
# A child ends by itself when the pipe to its standard input is closed, also if the server is killed. It does not
# read through sys.stdin, whose lock a waiting thread would still hold when Python shuts down.
CHILD = """
import os, signal, threading
def watch():
    while os.read(0, 1):
        pass
    signal.raise_signal(signal.SIGTERM) if os.name == "nt" else os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
if hasattr(os, "nice"):
    os.nice(10)
from ssgan.cli import main
main()
"""


class Failed(Exception):  # noqa: N818 - about a command of the user's data
    """A command ended with an error; the text is its message."""


class Commands:
    """Run commands of ``ssgan`` one after the other."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._mutex = threading.Lock()
        self.stopped = False

    def run(self, arguments: Sequence[str]) -> str:
        """Run a command and return its standard output.

        Raises
        ------
        Failed
            If the command ends with an error.
        """
        with self._mutex:
            if self.stopped:
                raise Failed("stopped")
            self._process = process = subprocess.Popen(
                [sys.executable, "-c", CHILD, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C reaches only the server
            )
        # Not communicate(), which would close the standard input at once.
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.append(process.stderr.read() if process.stderr else ""))
        reader.start()
        output = process.stdout.read() if process.stdout else ""
        reader.join()
        status = process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
        if status != 0:
            raise Failed(_last_sentence(errors[0][-OUTPUT_KEPT:], status))
        return output

    def stop(self) -> None:
        """Terminate the running command, and start no other."""
        with self._mutex:
            self.stopped = True
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _last_sentence(text: str, status: int) -> str:
    """Return the last line of a command's error output, without the name of the program."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if line.startswith("ssgan: ")), lines[-1] if lines else "")
    return last.removeprefix("ssgan: ") or f"The command ended with status {status}."


class _Measured(NamedTuple):
    """The cross-validated error of a run, from its report, and the number of labels it was measured on."""

    error: float
    interval: list[float]
    labels: int
    folds: int
    run: str


class BackgroundTrainer:
    """Train on the labels so far, in a thread, whenever there are enough new ones.

    Parameters
    ----------
    folder : Path
        The folder of pictures.
    table : Path
        Its table of answers.
    runs_folder : Path
        The folder of new runs, outside that of the pictures.
    run : Path or None
        A run whose models predict first.
    every : int
        Number of new labels after which a training starts; 0 for never.
    on_hints : callable or None
        Called with the hints by picture and the suggested pictures; None if the order is given.
    commands : Commands, optional
    """

    def __init__(
        self,
        folder: Path,
        table: Path,
        runs_folder: Path,
        run: Path | None,
        every: int,
        on_hints: Callable[[Mapping[str, Hint], Sequence[str]], None] | None,
        commands: Commands | None = None,
    ) -> None:
        # Absolute paths, because a folder can have the name of a data set.
        self.folder, self.table, self.runs_folder = folder.resolve(), table.resolve(), runs_folder
        self.run, self.every, self.on_hints = run, every, on_hints
        self.commands = commands or Commands()
        self.trained_on: Counter[str] | None = None
        self._counts: Counter[str] = Counter()
        self._wanted = self._ended = False
        self._phase, self._error, self._note = "", "", ""
        self._measured = _last_measured(run, runs_folder, folder)
        self._current: Path | None = None
        self._started = 0.0
        self._trainings = 0
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self, counts: Counter[str]) -> None:
        """Start the thread with the current numbers of labels per class; with a run, these do not count as new."""
        self._counts = Counter(counts)
        if self.run is not None:
            self.trained_on = Counter(counts)
        self._thread.start()

    def consider(self, counts: Counter[str]) -> None:
        """Update the numbers of labels per class, and start a training if enough are new."""
        with self._condition:
            self._counts = Counter(counts)
            if self.every and self.missing() == 0:
                self._wanted = True
                self._condition.notify()

    def train_now(self) -> None:
        """Start a training as soon as nothing else runs.

        Raises
        ------
        UserError
            If there are too few labels.
        """
        with self._condition:
            if len(+self._counts) < 2:
                raise UserError("A training needs labels of at least two classes.")
            self._wanted = True
            self._condition.notify()

    def missing(self) -> int:
        """Return how many more labels the next training needs."""
        before = self.trained_on or Counter()
        new = ((self._counts - before) + (before - self._counts)).total()
        return max(0 if len(+self._counts) > 1 else 1, self.every - new)

    def stop(self) -> None:
        """Stop the running training; it leaves a checkpoint."""
        with self._condition:
            self._ended = True
            self._condition.notify()
        self.commands.stop()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def status(self) -> dict[str, Any]:
        """Describe the training for the page."""
        measured = self._measured
        return {
            "phase": self._phase,
            "fraction": self._fraction(),
            "seconds": round(time.monotonic() - self._started) if self._phase else 0,
            "error": self._error,
            "note": self._note,
            "trainings": self._trainings,
            "run": str(self.run) if self.run else "",
            "measured": measured._asdict() if measured else None,
            "every": self.every,
            "missing": self.missing(),
            "waiting": self._wanted,
        }

    def _work(self) -> None:
        """Get predictions of the first run, or typical pictures; then train on request."""
        with tempfile.TemporaryDirectory() as place:
            scratch = Path(place)
            self._attempt(lambda: self._ask(scratch))
            while True:
                with self._condition:
                    self._condition.wait_for(lambda: self._wanted or self._ended)
                    if self._ended:
                        return
                    self._wanted = False
                    counts = self._counts
                if self._attempt(lambda counts=counts: self._train(counts)):  # type: ignore[misc]
                    self._attempt(lambda: self._ask(scratch))

    def _attempt(self, work: Callable[[], None]) -> bool:
        """Do some work; keep the message of its error for the page. Return whether it succeeded."""
        self._started = time.monotonic()
        try:
            work()
            return True
        except (Failed, UserError) as failure:
            self._error = "" if self._ended else str(failure)
        except OSError as cause:
            self._error = f"{cause.filename or self.runs_folder} cannot be used ({cause.strerror})."
        except Exception as fault:  # the thread must go on: later labels train again
            self._error = f"The training in the background failed ({type(fault).__name__}: {fault})."
        finally:
            self._phase = ""
        return False

    def _train(self, counts: Counter[str]) -> None:
        """Train on the current labels; also measure the error by folds if there are enough labels and new ones."""
        self._phase, self._error, self._note = "train", "", ""
        self.trained_on = Counter(counts)
        single = [name for name, count in counts.items() if count == 1]
        grown = self._measured is None or counts.total() >= REMEASURED_GROWTH * self._measured.labels
        settings, attempts = self._settings(), []
        if not single and counts.total() >= FOLDS and grown:
            attempts.append([*settings, "--folds", str(FOLDS)])
        elif single:
            again = " again" if self._measured else ""
            self._note = f"The error is not measured{again}: {single[0]} has one label, and needs a second one."
        if self.run is not None:
            attempts.append(["--from", str(self.run)])
        attempts.append(settings)
        for i, options in enumerate(attempts, 1):
            run = self._new_run()
            snapshot = run.with_name(f"{run.name}.labels.csv")
            files.write_atomic(snapshot, files.read_file(self.table))
            self._current = run
            words = ["--labels-csv", str(snapshot), "--set", "test_share=0", "--set", f"total_images={TOTAL_IMAGES}"]
            try:
                self.commands.run(["train", str(self.folder), *words, "--out", str(run), "--json", *options])
            except Failed as failure:
                if not run.exists():
                    snapshot.unlink(missing_ok=True)
                if i == len(attempts) or self.commands.stopped:
                    raise
                self._note = str(failure)
                continue
            self.run = run
            self._measured = _read_measured(run) or self._measured
            self._trainings += 1
            return

    def _settings(self) -> list[str]:
        """Return the options of a quick training: features of photographs if available, otherwise few pixels."""
        return [] if backbone_of_photographs(self.folder, {}).reason == "chosen" else QUICK

    def _ask(self, scratch: Path) -> None:
        """Get predictions and pictures to label next from the models of the run; without a run, typical pictures."""
        if self.on_hints is None:
            return
        hints: dict[str, Hint] = {}
        predictions, suggestions = scratch / "predictions.csv", scratch / "suggestions.csv"
        if self.run is not None:
            self._phase = "predict"
            words = [str(self.run), str(self.folder), "--probabilities", "--out", str(predictions)]
            self.commands.run(["predict", *words])
            hints = read_hints(predictions, self.folder)
            self.on_hints(hints, ())
        self._phase = "suggest"
        source = [str(self.folder)] if self.run is None else [str(self.run), "--data", str(self.folder)]
        source += ["--labels-csv", str(self.table)]  # also without labels: folders may be no classes
        reason = ""
        for count in SUGGESTED:
            try:
                self.commands.run(["suggest", *source, "--n", str(count), "--out", str(suggestions)])
            except Failed as failure:
                reason = str(failure)
                continue
            self.on_hints(hints, read_order(suggestions))
            return
        # There is already an order by margin, or a random one.
        self._note = self._note or f"No pictures are suggested: {reason}"

    def _new_run(self) -> Path:
        """Return the folder of a new run."""
        self.runs_folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((_run_number(path, self.folder) for path in self.runs_folder.iterdir()), default=0)
        return self.runs_folder / f"{_prefix(self.folder)}{number}"

    def _fraction(self) -> float | None:
        """Return the fraction of the training that is done; None if unknown."""
        if self._phase != "train" or self._current is None:
            return None
        folds = self._current / "folds"
        with suppress(UserError, OSError):
            config = runs.read_settings(self._current if (self._current / "config.json").exists() else folds)
            total = int(config["total_images"])
            done = _images_done(self._current)
            if not (folds / "config.json").exists():
                return done / total
            return (FOLDS * (1.0 if done else _images_done(folds) / total) + done / total) / (FOLDS + 1)
        return None


def _prefix(folder: Path) -> str:
    """Return the prefix of the names of runs that the page trains on the pictures of a folder."""
    return f"label-{files.name_to_unicode(folder.resolve().name) or 'pictures'}-"


def _run_number(path: Path, folder: Path) -> int:
    """Return the number in the name of a run of this folder, or of its table; 0 for other files."""
    text = path.name.removeprefix(_prefix(folder)).partition(".")[0]
    return int(text) if path.name.startswith(_prefix(folder)) and text.isdecimal() else 0


def latest_run(runs_folder: Path, folder: Path) -> Path | None:
    """Return the latest finished run that the page trained on the pictures of a folder."""
    return next(_finished_runs(runs_folder, folder), None)


def _finished_runs(runs_folder: Path, folder: Path) -> Iterator[Path]:
    """Iterate over the finished runs that the page trained on the pictures of a folder, the latest first."""
    try:
        entries = sorted(runs_folder.iterdir(), key=lambda path: -_run_number(path, folder))
    except OSError:
        return
    for path in entries:
        if _run_number(path, folder) and (path / "report.json").is_file() and _is_on(path, folder):
            yield path


def _last_measured(run: Path | None, runs_folder: Path, folder: Path) -> _Measured | None:
    """Return the cross-validated error of a run on this folder; for a run of the page, else that of its last one."""
    if run is None or not _is_on(run, folder):
        return None
    finished = list(_finished_runs(runs_folder, folder))
    return next(filter(None, map(_read_measured, [run, *(finished if run in finished else [])])), None)


def _is_on(run: Path, folder: Path) -> bool:
    """Return whether a run learned from the pictures of a folder."""
    with suppress(UserError):
        source = runs.read_report(run).get("source") or {}
        return bool(source.get("data") == files.path_to_text(folder.resolve()))
    return False


def _read_measured(run: Path) -> _Measured | None:
    """Return the cross-validated error of a run; None if it was not measured."""
    with suppress(UserError, OSError):
        folds = runs.read_report(run).get("folds") or {}
        if folds.get("error") is not None:
            return _Measured(folds["error"], folds["interval"], folds["labels"], folds["folds"], str(run))
    return None


def _images_done(run: Path) -> int:
    """Return the number of images that a training has seen so far."""
    with suppress(OSError):
        lines = [line.value for line in files.read_json_lines(run / "log.jsonl") if isinstance(line.value, dict)]
        return int(lines[-1].get("images", 0)) if lines else 0
    return 0
