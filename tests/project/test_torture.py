"""The attacks of `scripts/torture/`: they detect faults, and a sample of them finds no fault in the program."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import kills
import leaks
import processes
import pytest
import torture
from disks import NoDisk, leave_room, small_disk
from fuzz import FUZZERS, fuzz
from kills import Training, Victim
from moments import Moments

from ssgan import files, runs
from ssgan.files import write_atomic

ROOT = Path(__file__).parents[2]


def outcome_of(work: Callable[[], object], folder: Path, **limits: int) -> processes.Outcome:
    """Run a function in a separate process, instead of a command."""

    def before() -> None:
        work()
        raise SystemExit(0)

    return processes.run([], folder, before=before, **limits)  # type: ignore[arg-type]


# Faults that an attack must detect


def fail() -> None:
    raise RuntimeError("a fault")


def loop_forever() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (fail, "a traceback: ['RuntimeError: a fault']"),
        (loop_forever, "no end after"),
        (lambda: os._exit(3), "exit status 3"),
        (lambda: os._exit(2), "exit status 2 without a word"),
        (lambda: print("\x1b[31mred", file=sys.stderr), "a control character on standard error"),
        (lambda: bytearray(2**34), "a traceback: ['MemoryError']"),
    ],
)
def test_faults_of_a_command_are_detected(work: Callable[[], None], words: str, tmp_path: Path) -> None:
    outcome = outcome_of(work, tmp_path, cpu_seconds=1)
    assert words in "; ".join(outcome.faults())


def test_success_and_refusal_are_not_faults(tmp_path: Path) -> None:
    done, refused = processes.run(["--help"], tmp_path), processes.run(["data", "nowhere"], tmp_path)
    assert (done.status, done.faults(), refused.status, refused.faults()) == (0, [], 2, [])
    assert refused.err.startswith("ssgan: Unknown data set")


# Kills at exact moments


def test_kill_at_any_moment_of_a_write_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    path, old, new = tmp_path / "file", b"old", b"the new content"
    watched = Moments()
    path.write_bytes(old)
    outcome_of(lambda: (watched.install(), write_atomic(path, new)), tmp_path)
    assert path.read_bytes() == new
    # Creating the new file, the middle of its one write, before and after fsync and replace.
    assert watched.count == 1 + 1 + 2 + 2
    found, parts = [], set()
    for moment in range(1, watched.count + 1):
        path.write_bytes(old)
        at = Moments(moment)
        assert outcome_of(lambda at=at: (at.install(), write_atomic(path, new)), tmp_path).status == -9
        found.append(path.read_bytes())
        part = tmp_path / ".file.part"
        parts.add(part.read_bytes() if part.exists() else None)
        part.unlink(missing_ok=True)
    assert found == [old] * (watched.count - 1) + [new]
    assert parts == {None, b"", new[:7], new}


def victim_of(before: Callable[[], object], folder: Path) -> Victim:
    gan = kills.TRAININGS["gan"]
    victim = Victim(gan, folder / "case")
    victim.training = Training(gan.command, gan.resume_command, before=before)
    return victim


def write_in_place(path: Path, content: bytes) -> None:
    with files.open_file(path, "wb") as stream:
        stream.write(content)


def save_in_place() -> None:
    runs.write_atomic = write_in_place  # type: ignore[attr-defined]


def forget_a_step() -> None:
    real = runs.load_checkpoint

    def load(path: Path) -> dict[str, object]:
        state = real(path)
        return {**state, "steps_done": max(0, state["steps_done"] - 1)}

    runs.load_checkpoint = load


def test_kill_that_changes_the_results_is_detected(tmp_path: Path) -> None:
    """A partly written checkpoint leaves a folder that cannot resume; one that is read wrongly gives other weights."""
    victim = victim_of(save_in_place, tmp_path)
    # The first checkpoint is written at moment 32 or soon after.
    assert any("a dead folder" in fault for moment in range(31, 45) for fault in victim.kill_at(moment))
    victim.training = victim.training._replace(before=forget_a_step)
    assert any("checkpoint" in fault for fault in victim.kill_at(victim.moments - 20))


# Disks, leaks and input


def test_small_disk_runs_out_of_space(tmp_path: Path) -> None:
    try:
        with small_disk(tmp_path / "disk") as disk:
            leave_room(disk, 8)
            with pytest.raises(OSError, match="No space left"):
                (disk / "x").write_bytes(bytes(9 * 1024))
            leave_room(disk, 64)
            (disk / "x").write_bytes(bytes(9 * 1024))
    except NoDisk as reason:
        pytest.skip(f"no disk can be mounted: {reason}")
    assert list((tmp_path / "disk").iterdir()) == []


def test_method_that_uses_hidden_labels_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = leaks._result

    def leaky(method: str, space: leaks.Space, data: leaks.Data) -> object:
        return [real(method, space, data), float(data.y_train @ range(len(data.y_train)))]

    (whole,) = leaks.permutations("knn", "pixels", 1, tmp_path)
    assert whole.faults == []
    monkeypatch.setattr(leaks, "_result", leaky)
    (case,) = leaks.permutations("knn", "pixels", 1, tmp_path)
    assert case.faults == [f"changed by labels that are hidden: {case.faults[0].split(': ', 1)[1]}"]
    monkeypatch.setattr(leaks, "_result", lambda method, space, data: 0)
    (case,) = leaks.permutations("knn", "pixels", 1, tmp_path)
    assert case.faults == ["not changed by the labels that are visible: the test shows nothing"]


def test_fuzzer_is_deterministic(tmp_path: Path) -> None:
    first, again = ([case.name for case in fuzz("arguments", tmp_path / "torture", 6)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 3


def test_fuzzer_detects_changed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def harmful(draw: object, folder: Path) -> list[str]:
        return ["report", "rows.jsonl", "--out", "../temporary/page"]

    monkeypatch.setitem(FUZZERS, "rows", harmful)
    (case,) = fuzz("rows", tmp_path / "torture", 1)
    assert case.faults[0].startswith("files were changed: ['temporary/page', ")


# Attacks on the program


@pytest.mark.slow
def test_sample_of_the_attacks_finds_no_violation(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "torture" / "torture.py"), "--share", "0.01"]
    command += ["--only", "random:gan,moment:gan,fuzz", "--out", "rows.jsonl", "--scratch", "scratch"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["target"] for row in found] == ["gan", "gan", *FUZZERS]
    assert sum(row["cases"] for row in found) == 1 + 1 + 5 * len(FUZZERS)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_attacks_with_a_row_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attacked: list[str] = []

    def carry_out(attack: torture.Attack, scratch: Path) -> dict[str, object]:
        attacked.append(attack.target)
        return {**row, "target": attack.target}

    monkeypatch.setattr(torture, "run_attack", carry_out)
    row = {"attack": "fuzz", "cases": 1, "violations": 1, "commit": runs.commit()}
    monkeypatch.setattr(sys, "argv", ["torture.py", "--only", "fuzz", "--out", str(tmp_path / "rows.jsonl")])
    assert torture.main() == 1
    assert torture.main() == 0
    assert attacked == list(FUZZERS)
