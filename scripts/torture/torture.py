#!/usr/bin/env python3
"""Attack the program and count what it does wrong: `scripts/torture/torture.py`.

moment: SIGKILL around each fsync, rename, removal and new file or folder, and in the middle of each write. Continued,
    the training leaves the same bits.
random: SIGKILL at random, also of what continues the training: the same bits.
fuzz: damaged, odd and hostile input for every reader. Exit status 0, 2 or 130, no traceback, an end within 15 s of CPU,
    no other file touched.
disk: a disk with less and less room (Linux, as root): a sentence, and with room again the same bits.
leak: permuted hidden labels and test labels, for every method: the same bits.

Each attack on each target gives a row of `results/rows/reliability.jsonl`, with the number of cases and of violations.
A target that has its row at this commit is left out, so the script can be stopped and started again. The folder of each
violation is kept below `--scratch`. The exit status is 1 where there was one.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # this checkout, and what its tests have to make input

import torch  # noqa: E402
from disks import NAMES, NoDisk, ladder  # noqa: E402
from fuzz import FUZZERS, fuzz  # noqa: E402
from kills import TRAININGS, every_moment, random_moments  # noqa: E402
from leaks import METHODS, SPACES, permutations  # noqa: E402
from processes import Case  # noqa: E402

from ssgan import runs  # noqa: E402
from ssgan.devices import device_name  # noqa: E402

OUT, SCRATCH = ROOT / "results" / "rows" / "reliability.jsonl", ROOT / "runs" / "torture"
RANDOM_KILLS = 20  # kills of each training
INPUTS = 500  # for each reader
DRAWS = 5
KEPT = 5  # folders of violations of a target


class Attack(NamedTuple):
    """An attack on a target: its name, and a function of a scratch folder that yields cases."""

    attack: str
    target: str
    cases: Callable[[Path], Iterator[Case]]


def attacks(share: float) -> list[Attack]:
    """List every attack on every target, with so large a share of its cases, at least one."""

    def count(whole: int) -> int:
        return max(1, round(share * whole))

    return [
        *(Attack("leak", f"{m}, {s}", _leaks(m, s, count(DRAWS))) for s in SPACES for m in METHODS),
        *(Attack("disk", name, lambda at, name=name: ladder(name, at, share)) for name in NAMES),
        *(Attack("random", n, lambda at, n=n: random_moments(n, at, count(RANDOM_KILLS))) for n in TRAININGS),
        *(Attack("moment", name, lambda at, name=name: every_moment(name, at, share)) for name in TRAININGS),
        *(Attack("fuzz", name, lambda at, name=name: fuzz(name, at, count(INPUTS))) for name in FUZZERS),
    ]


def _leaks(method: str, space: str, draws: int) -> Callable[[Path], Iterator[Case]]:
    return lambda at: permutations(method, space, draws, at)


def carry_out(attack: Attack, scratch: Path) -> dict[str, Any]:
    """Carry out an attack, print each violation and keep its folder; return the row."""
    started, cases, violations = time.monotonic(), 0, 0
    for case in attack.cases(scratch / attack.attack):
        cases += 1
        if case.faults:
            violations += 1
            print(f"VIOLATION: {attack.attack}: {case.name}: {'; '.join(case.faults)[:2000]}", flush=True)
            if violations <= KEPT and case.folder.exists():
                kept = scratch / "violations" / f"{attack.attack}-{attack.target.replace(' ', '-')}-{cases}"
                shutil.copytree(case.folder, kept, symlinks=True, dirs_exist_ok=True)
    return {
        "attack": attack.attack,
        "target": attack.target,
        "cases": cases,
        "violations": violations,
        "seconds": round(time.monotonic() - started, 1),
        "device_name": device_name(torch.device("cpu")),
        **runs.provenance(),
    }


def main() -> int:
    """Carry out the attacks that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="attacks, or attack:target, with commas between them")
    parser.add_argument("--share", type=float, default=1.0, help="share of the cases of each attack (default: all)")
    parser.add_argument("--out", type=Path, default=OUT, help="the file of rows")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, help="a folder for the cases")
    chosen = parser.parse_args()
    chosen.scratch = chosen.scratch.resolve()  # commands run in folders below it
    wanted = set(filter(None, chosen.only.split(",")))
    done = [json.loads(line) for line in chosen.out.read_text().splitlines()] if chosen.out.exists() else []
    commit, violations = runs.commit(), 0
    for attack in attacks(chosen.share):
        if wanted and not {attack.attack, f"{attack.attack}:{attack.target}"} & wanted:
            continue
        if any((r["attack"], r["target"], r["commit"]) == (attack.attack, attack.target, commit) for r in done):
            continue
        shutil.rmtree(chosen.scratch / attack.attack, ignore_errors=True)
        try:
            row = carry_out(attack, chosen.scratch)
        except NoDisk as cause:
            print(f"disk: left out: {cause}", flush=True)
            continue
        shutil.rmtree(chosen.scratch / attack.attack, ignore_errors=True)
        violations += row["violations"]
        runs.append_rows(chosen.out, [row])
        print(f"{row['attack']}: {row['target']}: {row['cases']} cases, {row['violations']} violations", flush=True)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
