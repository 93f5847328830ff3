"""Fuzz every reader with damaged, odd and hostile input; a command succeeds or prints why it fails.

Hypothesis draws the input from a fixed seed, so the same number of cases gives the same cases. A case is one command
on one input, in a separate folder with files that must not change.
"""

import io
import json
import operator
import os
import shutil
import signal
import stat
import zipfile
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import typer.main
from altered_content import OTHER_VALUES, altered, places
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from pictures_on_disk import classes, encoded, grey, packed, write
from PIL import Image
from processes import Case, run

from ssgan import runs
from ssgan.cli.app import app

SEED = 0  # seed of the first batch of cases; each batch has the next one
BATCH_CASES = 100
Draw = Callable[[st.SearchStrategy[Any]], Any]
Command = list[str]

TINY = [
    *("--device", "cpu", "--set", "total_images=40", "--set", "batch_size=10", "--set", "init_images=20"),
    *("--set", "discriminator_widths=8,6", "--set", "generator_widths=8", "--preset", "digits"),
]
# Files that the commands write or the fuzzers alter; all other files must not change.
WRITABLE_PATHS = ("inside/out", "inside/run", "inside/rows.jsonl", "cache", "home/.cache", "home/.config")
HOSTILE_NAMES = ["../x.png", "/x.png", "a/../../x.png", "\x1b[31m/x.png", "a\nb/x.png", "..", "C:\\x.png", "con.png"]
ODD_FOLDERS = ["", "cat", "train", "test/cat", "unlabeled", "Train/x", "unknown", "owl"]
ODD_NAMES = ["x.png", "lat\udce9.png", "日本/x.png", "\x1b[31m.png", "a\nb.PNG", "x.txt", ".x"]
ODD_TEXTS = [
    *("", " ", "-1", "0", "1", "2", "nan", "inf", "1e308", "1e-9", "--", "-", "None", "true", "x", "../..", "~", "."),
    *("=", "a=b", "lat\udce9", "日本", "\x1b[31mred", "x" * 300, "run", "a.npz", "photos", "digits", "gan,gan", "/"),
]
#: Options that can set the length of a training; train and compare get --dry-run with them.
LENGTHS = {"--epochs", "--set", "--seeds", "--folds", "--preset", "--config", "--methods", "--method", "--rounds"}
DOWNLOADED = {"mnist", "fashion-mnist", "cifar10", "svhn"}


def damage(draw: Draw, content: bytes) -> bytes:
    """Set, cut, insert, delete, repeat or clear bytes at some places."""
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.integers(1, 64))
        before, piece, after = content[:place], content[place : place + length], content[place + length :]
        change = draw(st.sampled_from(["set", "cut", "insert", "delete", "repeat", "clear"]))
        if change == "cut":
            content = before
        elif change == "delete":
            content = before + after
        elif change == "repeat":
            content = before + piece * draw(st.integers(2, 40)) + after
        elif change == "clear":
            content = before + bytes(len(piece)) + after
        else:
            new = draw(st.binary(min_size=1, max_size=8))
            content = before + new + (content[place:] if change == "insert" else content[place + len(new) :])
    return content


def damage_file(draw: Draw, path: Path) -> None:
    """Damage the bytes of a file."""
    path.write_bytes(damage(draw, path.read_bytes()))


def alter(draw: Draw, content: Any) -> Any:
    """Delete a field of nested content, or give it a value of another kind."""
    place = draw(st.sampled_from(list(places(content))))
    if draw(st.booleans()):
        return altered(content, place)
    value = draw(st.sampled_from(OTHER_VALUES))
    number = reduce(operator.getitem, place, content)
    if isinstance(number, int | float) and draw(st.booleans()):
        value = draw(st.one_of(st.integers(-(2**65), 2**65), st.floats(allow_nan=False, allow_infinity=False)))
    return altered(content, place, value)


# One fuzzer for each reader: it alters files of the folder and returns the command to run on them.


def fuzz_npz(draw: Draw, folder: Path) -> Command:
    """Write arrays of odd types, shapes and values, or damage the bytes."""
    with np.load(folder / "a.npz") as stored:
        arrays = dict(stored)
    name = draw(st.sampled_from(sorted(arrays)))
    change = draw(st.sampled_from(["bytes", "type", "shape", "value", "missing", "none"]))
    if change == "type":
        kind = draw(st.sampled_from(["?", "i1", "u2", "i8", "f2", "f4", "f8", "c8", "U3", "S2", "M8[s]", "O"]))
        arrays[name] = arrays[name].astype(kind)
    elif change == "shape":
        shape = draw(st.sampled_from([(), (0,), (1,), (24, 8), (24, 8, 0), (24, 1, 1), (24, 8, 8, 5), (2, 3, 4, 2, 1)]))
        arrays[name] = np.resize(arrays[name], shape) if np.prod(shape) else np.zeros(shape, arrays[name].dtype)
    elif change == "value":
        low, high = draw(st.integers(-300, 300)), draw(st.integers(0, 70_000))
        arrays[name] = (arrays[name].astype(np.int64) * high + low).astype(draw(st.sampled_from([np.uint8, np.int64])))
    elif change == "missing":
        arrays[draw(st.sampled_from(["x", "images", "classes", "\x1b[31m"]))] = arrays.pop(name)
    np.savez(folder / "a.npz", **arrays, allow_pickle=True)
    if change == "bytes":
        damage_file(draw, folder / "a.npz")
    return draw(st.sampled_from(_data_commands("a.npz")))


def fuzz_zip(draw: Draw, folder: Path) -> Command:
    """Add members with hostile names, links and copies, or damage the bytes."""
    path = folder / "a.zip"
    if draw(st.booleans()):
        damage_file(draw, path)
    else:
        with zipfile.ZipFile(path, "a") as archive:
            for _ in range(draw(st.integers(1, 3))):
                name = draw(st.one_of(st.sampled_from(HOSTILE_NAMES), st.text(min_size=1, max_size=12)))
                member = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
                if draw(st.booleans()):
                    member.external_attr = draw(st.sampled_from([stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR])) << 16
                archive.writestr(member, draw(st.sampled_from([b"", b"../../outside", encoded(grey(1))])))
    return draw(st.sampled_from(_data_commands("a.zip")))


def fuzz_table(draw: Draw, folder: Path) -> Command:
    """Write tables of labels in odd forms and encodings."""
    path = folder / "l.csv"
    if draw(st.booleans()):
        damage_file(draw, path)
    else:
        cell = st.one_of(st.sampled_from(["0.png", "1.png", "a", "file", "label", *ODD_TEXTS]), st.text(max_size=6))
        rows = draw(st.lists(st.lists(cell, min_size=1, max_size=4), min_size=1, max_size=8))
        comma = draw(st.sampled_from([",", ";", "\t", "|", '"', ",,"]))
        text = path.read_text() * draw(st.booleans()) + "\n".join(comma.join(row) for row in rows)
        coding = draw(st.sampled_from(["utf-8", "utf-16", "utf-8-sig", "cp1252", "utf-32"]))
        path.write_bytes(text.encode(coding, "replace"))
    commands = [[*command, "--labels-csv", "l.csv"] for command in _data_commands("flat") if command[0] != "predict"]
    return draw(st.sampled_from(commands))


def fuzz_folder(draw: Draw, folder: Path) -> Command:
    """Make folders with odd names, links, other files, and classes without pictures."""
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(ODD_NAMES))
        path = folder / "photos" / draw(st.sampled_from(ODD_FOLDERS)) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = draw(st.sampled_from(["picture", "empty", "folder", "link", "ring", "outside"]))
        if path.exists() or path.is_symlink():
            continue
        if kind == "folder":
            path.mkdir()
        elif kind in ("link", "ring", "outside"):
            path.symlink_to({"link": "../cat/0.png", "ring": name, "outside": "../../../outside"}[kind])
        else:
            size = draw(st.integers(1, 12))
            path.write_bytes(encoded(grey(1, size)) if kind == "picture" else b"")
    if draw(st.integers(0, 3)) == 0:
        shutil.rmtree(folder / "photos" / draw(st.sampled_from(["cat", "dog"])))
    return draw(st.sampled_from(_data_commands("photos")))


def fuzz_pictures(draw: Draw, folder: Path) -> Command:
    """Write pictures of several formats with damaged bytes."""
    form = draw(st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "ICO"]))
    stream = io.BytesIO()
    Image.fromarray(grey(draw(st.integers(0, 9)))).convert(draw(st.sampled_from(["L", "RGB"]))).save(stream, form)
    suffix = draw(st.sampled_from([form.lower(), "png", "jpg", "tif", "heic"]))
    (folder / "photos" / "cat" / f"x.{suffix}").write_bytes(damage(draw, stream.getvalue()))
    prediction = ["predict", "run/done", f"photos/cat/x.{suffix}", "--device", "cpu"]
    return draw(st.sampled_from([*_data_commands("photos"), prediction]))


def _json_fuzzer(name: str) -> Callable[[Draw, Path], Command]:
    def fuzz(draw: Draw, folder: Path) -> Command:
        run_name = draw(st.sampled_from(["done", "half"] if name != "report.json" else ["done"]))
        path = folder / "run" / run_name / name
        if draw(st.integers(0, 3)) == 0:
            damage_file(draw, path)
        else:
            content = json.loads(path.read_text())
            for _ in range(draw(st.integers(1, 3))):
                content = alter(draw, content) if content else content
            path.write_text(json.dumps(content))
        return draw(st.sampled_from(_run_commands(run_name)))

    fuzz.__doc__ = f"Alter fields or damage bytes of {name}."
    return fuzz


def fuzz_checkpoint(draw: Draw, folder: Path) -> Command:
    """Alter fields or damage bytes of a checkpoint."""
    run_name = draw(st.sampled_from(["done", "half"]))
    path = folder / "run" / run_name / "checkpoint"
    if draw(st.integers(0, 3)) == 0:
        damage_file(draw, path)
    else:
        state = runs.load_checkpoint(path)
        for _ in range(draw(st.integers(1, 3))):
            state = alter(draw, state) if state else state
        runs.save_checkpoint(path, state)
    return draw(st.sampled_from(_run_commands(run_name)))


def fuzz_rows(draw: Draw, folder: Path) -> Command:
    """Alter rows of results, or damage bytes."""
    path = folder / "rows.jsonl"
    if draw(st.integers(0, 2)) == 0:
        damage_file(draw, path)
    else:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        number = draw(st.integers(0, len(lines) - 1))
        for _ in range(draw(st.integers(1, 3))):
            lines[number] = alter(draw, lines[number]) if lines[number] else {}
        path.write_text("\n".join(map(json.dumps, lines)))
    report = ["report", "rows.jsonl", "--out", "out"]
    again = ["compare", "a.npz", "--methods", "knn", "--labels", "6", "--seeds", "2", "--out", "rows.jsonl"]
    return draw(st.sampled_from([report, report, [*report, "--baseline", "knn"], again]))


def fuzz_arguments(draw: Draw, folder: Path) -> Command:
    """Make a command with odd options and values."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    name = draw(st.sampled_from(sorted(commands.keys() - {"label"})))  # label serves a page until it is stopped
    letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    odd = st.one_of(st.sampled_from(ODD_TEXTS), st.text(letters, max_size=6))
    words, sets_length = [name], False
    for parameter in commands[name].params:
        if parameter.param_type_name == "argument":
            sources = [*("a.npz", "photos", "a.zip", "digits", "run/done", "run/half", "rows.jsonl"), "flat"]
            words += [draw(st.one_of(st.sampled_from(sources), odd)) for _ in range(draw(st.integers(0, 4)) and 1)]
        elif draw(st.integers(0, 4)) == 0:
            option = draw(st.sampled_from(parameter.opts))
            words.append(option)
            sets_length |= option in LENGTHS
            if not parameter.is_flag:
                words.append("out" if option == "--out" and draw(st.booleans()) else draw(odd))
    if draw(st.integers(0, 4)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(odd))
    if name in ("train", "compare"):
        words = [word for word in words if word not in DOWNLOADED]
        words += ["--dry-run"] if sets_length else TINY
    return words


FUZZERS: dict[str, Callable[[Draw, Path], Command]] = {
    "npz": fuzz_npz,
    "zip": fuzz_zip,
    "table of labels": fuzz_table,
    "folder": fuzz_folder,
    "pictures": fuzz_pictures,
    "config.json": _json_fuzzer("config.json"),
    "split.json": _json_fuzzer("split.json"),
    "report.json": _json_fuzzer("report.json"),
    "checkpoint": fuzz_checkpoint,
    "rows": fuzz_rows,
    "arguments": fuzz_arguments,
}


def _data_commands(data: str) -> list[Command]:
    """List commands that read data."""
    return [
        ["data", data],
        ["data", data, "--image-size", "8"],
        ["train", data, *TINY, "--out", "out"],
        ["train", data, *TINY, "--out", "out", "--image-size", "8", "--folds", "2"],
        ["predict", "run/done", data, "--device", "cpu", "--out", "out.csv"],
        ["evaluate", "run/done", "--data", data, "--device", "cpu"],
        ["compare", data, "--methods", "knn", "--labels", "4", "--seeds", "1", "--out", "out.jsonl"],
        ["suggest", data, "--n", "3", "--out", "out.csv"],
    ]


def _run_commands(name: str) -> list[Command]:
    """List commands that read a run."""
    path = f"run/{name}"
    return [
        ["train", "a.npz", "--out", path, "--resume"],
        ["train", "a.npz", "--config", path, "--out", "out"],
        ["evaluate", path, "--device", "cpu"],
        ["predict", path, "a.npz", "--device", "cpu", "--out", "out.csv"],
        ["data", path],
        ["sample", path, "--device", "cpu", "--out", "out.png"],
        ["sample", path, "--device", "cpu", "--nearest", "--out", "out.png"],
        ["train", "a.npz", "--from", path, "--out", "out"],
        ["suggest", path, "--n", "3", "--device", "cpu", "--out", "out.csv"],
        ["audit", path, "--device", "cpu", "--out", "out.csv"],
        ["export", path, "--format", "safetensors", "--out", "out.weights"],
    ]


def make_base(folder: Path) -> None:
    """Make the files of every case: data of each kind, a finished run with folds, an unfinished run, and rows.

    Raises
    ------
    RuntimeError
        If a command fails.
    """
    inside = folder / "inside"
    for name in ("inside", "home", "temporary", "cache"):
        (folder / name).mkdir(parents=True)
    (folder / "outside").write_text("not to be touched")
    random = np.random.RandomState(0)
    y = np.arange(36) % 2
    x = random.randint(0, 120, (36, 8, 8)) + 100 * (np.arange(8) // 4 == y[:, None])[:, None, :]
    x = x.astype(np.uint8)
    np.savez(inside / "a.npz", x_train=x[:24], y_train=y[:24], x_test=x[24:], y_test=y[24:])
    write(inside / "photos", {**classes(each=6), "unlabeled/0.png": grey(900)})
    packed(inside / "a.zip", {**classes(each=6), "unlabeled/0.png": grey(900)})
    write(inside / "flat", {f"{i}.png": grey(i) for i in range(12)})
    (inside / "l.csv").write_text("file,label\n" + "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(10)))
    train = ["train", "a.npz", *TINY, "--labels", "8", "--seeds", "2", "--draw-seed", "0", "--out"]
    _run(folder, [*train, "run/done", "--folds", "2"])
    often = ["--set", "report_every_images=20", "--set", "checkpoint_every_seconds=0"]
    _run(folder, [*train, "run/half", *often], _stop_at_the_first_checkpoint, -signal.SIGKILL)
    _run(folder, ["compare", "a.npz", "--methods", "knn,svm", "--labels", "6", "--seeds", "2", "--out", "rows.jsonl"])
    shutil.rmtree(folder / "cache")
    (folder / "cache").mkdir()


def _stop_at_the_first_checkpoint() -> None:
    save = runs.save_checkpoint

    def save_and_stop(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        os.kill(os.getpid(), signal.SIGKILL)

    runs.save_checkpoint = save_and_stop


def _run(folder: Path, command: Command, before: Callable[[], None] | None = None, status: int = 0) -> None:
    outcome = run(command, folder / "inside", before=before, environment=_environment(folder))
    if outcome.status != status:
        raise RuntimeError(f"{command} ends with {outcome.status}: {outcome.err}")


def _environment(folder: Path) -> dict[str, str]:
    return {
        **{"HOME": str(folder / "home"), "TMPDIR": str(folder / "temporary"), "SSGAN_DATA": str(folder / "cache")},
        **{"COLUMNS": "80", "SSGAN_CACHE": "on"},
    }


def _contents(folder: Path) -> dict[str, Any]:
    """Read every file and link that a command must not change."""
    contents: dict[str, Any] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not name.startswith(WRITABLE_PATHS):
            contents[name] = path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
    return contents


def fuzz(name: str, scratch: Path, count: int) -> Iterator[Case]:
    """Run a number of cases of a fuzzer."""
    base, number, seed = scratch / "base", 0, SEED
    if not base.exists():
        make_base(base)
    while number < count:
        for command, folder in _draws(FUZZERS[name], base, scratch / "case", min(count - number, BATCH_CASES), seed):
            before = _contents(folder)
            outcome = run(command, folder / "inside", environment=_environment(folder))
            faults = outcome.faults()
            if before != (after := _contents(folder)):
                changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
                faults.append(f"files were changed: {changed[:3]}")
            number += 1
            yield Case(f"{name}: {command}", faults, folder)
        seed += 1


def _draws(
    fuzzer: Callable[[Draw, Path], Command], base: Path, folder: Path, count: int, seed: int
) -> Iterator[tuple[Command, Path]]:
    """Yield the commands of a fuzzer, each with its input on disk.

    Hypothesis calls a function for each example, so all examples are recorded before the commands run.
    """
    examples: list[tuple[Command, Path]] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(st.data())
    def example(data: st.DataObject) -> None:
        case = folder / str(len(examples))
        shutil.rmtree(case, ignore_errors=True)  # left by an example that hypothesis discarded
        shutil.copytree(base, case, symlinks=True)
        examples.append((fuzzer(data.draw, case / "inside"), case))

    shutil.rmtree(folder, ignore_errors=True)
    example()
    for command, case in examples:
        yield command, case
        shutil.rmtree(case, ignore_errors=True)
