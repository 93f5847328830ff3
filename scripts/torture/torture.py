#!/usr/bin/env python3
"""Attack the program and count the violations: `scripts/torture/torture.py`.

moment: SIGKILL around each fsync, rename, removal and new file or folder, and in the middle of each write. The
    resumed training must give the same results, bit by bit.
random: SIGKILL at random times, also of the resumed training. It must give the same results.
fuzz: damaged, odd and hostile input for every reader. The command must end with status 0, 2 or 130, without a
    traceback, within 15 s of CPU, and change no other file.
disk: a nearly full disk (Linux, as root). The command must print a message. With free space it
    must then give the same results.
leak: permuted hidden labels and test labels, for every method. The results must not change.

Each attack on each target gives a row of `results/rows/reliability.jsonl`, with the number of cases and of violations.
A target that has a row of this commit is skipped, so the script can be stopped and started again. The folders of the
first violations are kept below `--scratch`. The exit status is 1 if there was a violation.
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
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # this checkout, and the test helpers that make input

import torch  # noqa: E402
from disks import DISK_TRAININGS, NoDisk, full_disk_cases  # noqa: E402
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
MAX_KEPT = 5  # violation folders kept for each target


class Attack(NamedTuple):
    """An attack on a target: its name, and a function of a scratch folder that yields cases."""

    attack: str
    target: str
    cases: Callable[[Path], Iterator[Case]]


def attacks(share: float) -> list[Attack]:
    """List every attack on every target, with a share of its cases, at least one."""

    def count(total: int) -> int:
        return max(1, round(share * total))

    return [
        *(Attack("leak", f"{m}, {s}", _leaks(m, s, count(DRAWS))) for s in SPACES for m in METHODS),
        *(Attack("disk", name, lambda at, name=name: full_disk_cases(name, at, share)) for name in DISK_TRAININGS),
        *(Attack("random", n, lambda at, n=n: random_moments(n, at, count(RANDOM_KILLS))) for n in TRAININGS),
        *(Attack("moment", name, lambda at, name=name: every_moment(name, at, share)) for name in TRAININGS),
        *(Attack("fuzz", name, lambda at, name=name: fuzz(name, at, count(INPUTS))) for name in FUZZERS),
    ]


def _leaks(method: str, space: str, draws: int) -> Callable[[Path], Iterator[Case]]:
    return lambda at: permutations(method, space, draws, at)


def run_attack(attack: Attack, scratch: Path) -> dict[str, Any]:
    """Run an attack, print each violation and keep its folder; return the row."""
    start, cases, violations = time.monotonic(), 0, 0
    for case in attack.cases(scratch / attack.attack):
        cases += 1
        if case.faults:
            violations += 1
            print(f"VIOLATION: {attack.attack}: {case.name}: {'; '.join(case.faults)[:2000]}", flush=True)
            if violations <= MAX_KEPT and case.folder.exists():
                target_folder = scratch / "violations" / f"{attack.attack}-{attack.target.replace(' ', '-')}-{cases}"
                shutil.copytree(case.folder, target_folder, symlinks=True, dirs_exist_ok=True)
    return {
        "attack": attack.attack,
        "target": attack.target,
        "cases": cases,
        "violations": violations,
        "seconds": round(time.monotonic() - start, 1),
        "device_name": device_name(torch.device("cpu")),
        **runs.provenance(),
    }


def main() -> int:
    """Run the attacks that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="attacks, or attack:target, separated by commas")
    parser.add_argument("--share", type=float, default=1.0, help="share of the cases of each attack (default: all)")
    parser.add_argument("--out", type=Path, default=OUT, help="the file of rows")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, help="a folder for the cases")
    args = parser.parse_args()
    args.scratch = args.scratch.resolve()  # commands run in folders below it
    selection = set(filter(None, args.only.split(",")))
    old_rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    commit, violations = runs.commit(), 0
    for attack in attacks(args.share):
        if selection and not {attack.attack, f"{attack.attack}:{attack.target}"} & selection:
            continue
        if any((r["attack"], r["target"], r["commit"]) == (attack.attack, attack.target, commit) for r in old_rows):
            continue
        shutil.rmtree(args.scratch / attack.attack, ignore_errors=True)
        try:
            row = run_attack(attack, args.scratch)
        except NoDisk as cause:
            print(f"disk: skipped: {cause}", flush=True)
            continue
        shutil.rmtree(args.scratch / attack.attack, ignore_errors=True)
        violations += row["violations"]
        runs.append_rows(args.out, [row])
        print(f"{row['attack']}: {row['target']}: {row['cases']} cases, {row['violations']} violations", flush=True)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
