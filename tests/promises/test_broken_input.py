"""Broken input on the command line: one sentence, no traceback, and no changes outside the run and the cache."""

import io
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from pictures_on_disk import Content, classes, encoded, grey, packed, photographs, png, write
from PIL import Image
from running import contents, last_object, status_of

import ssgan
from ssgan import runs

TINY = ["total_images=40", "discriminator_widths=16,8", "generator_widths=16", "batch_size=10", "init_images=20"]
TRAIN = ["--out", "run", "--device", "cpu", *(word for setting in TINY for word in ("--set", setting))]
GOOD = classes(each=6)
X, Y = np.random.RandomState(0).randint(0, 256, (30, 8, 8), np.uint8), np.arange(30) % 3


@pytest.fixture(autouse=True)
def _in_an_empty_folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path_factory.mktemp("cache")))


def jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG")
    return stream.getvalue()


# One broken file among good ones is skipped and reported.

PIXELS = (b"IDAT", zlib.compress(bytes(1000)))
TEXT_CHUNK = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**24)))
BROKEN = {
    "truncated PNG": ("cat/a.png", encoded(grey(1, 40))[:900], "cannot be decoded ("),
    "truncated JPEG": ("dog/a.jpg", jpeg(grey(1, 40))[:500], "cannot be decoded ("),
    "PNG header only": ("cat/a.png", encoded(grey(1))[:20], "cannot be decoded ("),
    "text": ("cat/a.png", b"I am no picture", "is not a picture that can be read"),
    "empty": ("unlabeled/a.webp", b"", "is empty"),
    "zip": ("cat/a.gif", b"PK\x03\x04" + bytes(50), "is not a picture that can be read"),
    "bomb": ("cat/a.png", png(60_000, 60_000, PIXELS), "has far more pixels than the limit of 89,478,485"),
    "small bomb": ("cat/a.png", png(10_000, 10_000, PIXELS), "has 10,000 x 10,000 pixels, above the limit of 89,478"),
    "text bomb": ("cat/a.png", png(8, 8, TEXT_CHUNK, PIXELS), "cannot be decoded (Decompressed data too large"),
    "non-ASCII name": ("日本/ünï ☃.png", b"", "is empty"),
}


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(("name", "content", "reason"), BROKEN.values(), ids=BROKEN)
def test_train_skips_and_reports_a_broken_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, reason: str, as_zip: bool
) -> None:
    files = {**GOOD, **classes(each=2, names=("日本",), first=500), "unlabeled/0.png": grey(900), name: content}
    source = packed(tmp_path / "a.zip", files) if as_zip else write(tmp_path / "a", files)
    before = contents(tmp_path)
    assert status_of("train", source, "--image-size", "8", *TRAIN) == 0
    errors = capfd.readouterr().err.splitlines()
    assert errors[0].startswith("Skipped files that cannot be read: 1 (")
    assert f"labelled): {name} {reason}" in errors[0]
    first, second = errors[1:]  # two lines of progress, and no warnings of other libraries
    assert first.startswith("100%  40 images, ")
    assert second.startswith("      ")
    assert {path: was for path, was in contents(tmp_path).items() if Path(path).parts[0] != "run"} == before
    assert status_of("data", source, "--image-size", "8") == 0
    shown = capfd.readouterr()
    assert errors[0] in shown.out.splitlines()
    assert shown.err == ""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on grey squares of 8 pixels."""
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSGAN_CACHE", "off")
        assert status_of("train", write(place / "a", GOOD), *TRAIN, "--out", place / "run", "--json") == 0
    return place / "run"


@pytest.mark.parametrize(("name", "content", "reason"), BROKEN.values(), ids=BROKEN)
def test_predict_reports_a_broken_file_with_the_reason(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, reason: str
) -> None:
    write(tmp_path / "a", {"good.png": grey(1), name: content})
    before = contents(tmp_path)
    assert status_of("predict", run, "a", "--device", "cpu", "--json") == 0
    captured = capfd.readouterr()
    summary = last_object(captured.out)
    assert (summary["images"], summary["classified"]) == (2, 1)
    (unread,) = summary["unreadable"]
    assert unread["file"] == f"a/{name}"
    assert unread["reason"].startswith(f"a/{name} {reason}")
    first, *others = captured.err.splitlines()[1:]
    assert first == unread["reason"]
    assert all(line.startswith("Images of none of the classes are not flagged: ") for line in others)
    assert status_of("predict", run, f"a/{name}", "--device", "cpu") == 2
    assert capfd.readouterr().err.splitlines()[1:] == [unread["reason"], "ssgan: None of the images could be read."]
    assert contents(tmp_path) == before


# Input without any usable image: one sentence, status 2


def folder(files: dict[str, Content], *empty: str) -> list[str]:
    write(Path("a"), files)
    for name in empty:
        Path("a", name).mkdir()
    return ["a"]


def archive(files: dict[str, Content]) -> list[str]:
    return [str(packed(Path("a.zip"), files))]


def table(text: str) -> list[str]:
    write(Path("a"), {f"{i}.png": grey(i) for i in range(6)})
    Path("l.csv").write_text(text)
    return ["a", "--labels-csv", "l.csv"]


def symlink_loop() -> list[str]:
    Path("a").symlink_to("b")
    Path("b").symlink_to("a")
    return ["a"]


def file(content: bytes, name: str) -> list[str]:
    Path(name).write_bytes(content)
    return [name]


def arrays(**changed: Any) -> list[str]:
    found = {"x_train": X, "y_train": Y, **changed}
    np.savez("a.npz", **{name: array for name, array in found.items() if array is not None})
    return ["a.npz"]


FATAL: dict[str, tuple[Callable[[], list[str]], str]] = {
    "empty folder": (lambda: folder({}), "has no pictures"),
    "empty class": (lambda: folder(GOOD, "owl"), "The class folder a/owl holds no picture"),
    "all broken": (lambda: folder({"cat/1.png": b"", "dog/1.png": b"x"}), "can be read, of 2 (the first: cat/1.png is"),
    "a class broken": (lambda: folder({**GOOD, "owl/1.png": b"x"}), "'owl' of a has no picture left to learn from"),
    "mixed sizes": (lambda: folder({**GOOD, "cat/x.png": grey(7, 20)}), "2 sizes (8x8: 12, 20x20: 1): set --im"),
    "symlink loop": (symlink_loop, "Unknown data set 'a': choose from"),
    "name too long": (lambda: ["x" * 5000], "cannot be used (File name too long)."),
    "zip, leading ..": (lambda: archive({**GOOD, "../x.png": grey(1)}), "holds a member named '../x.png'"),
    "zip, inner ..": (lambda: archive({**GOOD, "cat/../../x.png": grey(1)}), "holds a member named 'cat/../../x.png"),
    "not a zip": (lambda: file(b"no zip", "a.zip"), "cannot be read as a zip"),
    "table, missing file": (lambda: table("file,label\n0.png,a\n9.png,b\n"), "line 3: a holds no picture 9.png"),
    "table, duplicate file": (lambda: table("file,label\n0.png,a\n1.png,b\n0.png,b\n"), "line 4: 0.png is in line 2"),
    "table, unknown column": (lambda: table("file,lable\n0.png,a\n"), "Did you mean 'label'?"),
    "table, no file": (lambda: [*folder(GOOD), "--labels-csv", "no.csv"], "There is no file no.csv"),
    "arrays, wrong keys": (lambda: arrays(x_train=None, images=X), "holds images, y_train, but no x_train"),
    "arrays, floats": (
        lambda: arrays(x_train=X / 1),
        "x_train holds values from 0 to 255, but images must",
    ),
    "arrays, integers": (lambda: arrays(x_train=X.astype(int)), "x_train is int64 of shape [30, 8, 8]"),
    "arrays, one image": (lambda: arrays(x_train=X[0]), "x_train is uint8 of shape [8, 8]"),
    "arrays, no pixel": (lambda: arrays(x_train=X[:, :0]), "x_train is of shape [30, 0, 8]: its images have no pixels"),
    "arrays, no channel": (lambda: arrays(x_train=X[..., None][..., :0]), "its images have no pixels"),
    "arrays, objects": (lambda: arrays(x_train=np.array([{}], object)), "cannot be read as an .npz of plain arrays"),
    "arrays, too few labels": (lambda: arrays(y_train=Y[1:]), "y_train is int64 of shape [29]"),
    "arrays, -1 as a word": (lambda: arrays(y_train=(Y - 1).astype(str)), "y holds the text '-1', which would be"),
    "arrays, labels below -1": (lambda: arrays(y_train=Y - 2), "y_train holds -2 to 0"),
    "arrays, other test images": (lambda: arrays(x_test=X[:, :4], y_test=Y), "must have the same type and shape"),
    "no arrays": (lambda: file(b"no arrays", "a.npz"), "cannot be read as an .npz of plain arrays"),
}


@pytest.mark.parametrize("command", ["data", "train"])
@pytest.mark.parametrize(("build", "words"), FATAL.values(), ids=FATAL)
def test_unusable_training_data_are_refused_in_one_sentence(
    mistake: Callable[..., str], command: str, build: Callable[[], list[str]], words: str
) -> None:
    assert words in mistake(command, *build(), *(TRAIN if command == "train" else []))


UNREAD: dict[str, tuple[Callable[[], list[str]], str]] = {
    "empty folder": (lambda: folder({}), "a holds no picture ("),
    "symlink loop": (symlink_loop, "a cannot be opened (Too many levels of symbolic links)."),
    "name too long": (lambda: ["x" * 5000], "cannot be opened (File name too long)."),
    "zip": (lambda: archive({**GOOD, "../x.png": grey(1)}), "a.zip holds a member named '../x.png', but"),
    "arrays, wrong keys": (lambda: arrays(x_train=None, a=X, b=X), "a.npz holds a, b: name the array to classify x_"),
    "arrays, floats": (lambda: arrays(x_train=X / 25), "a.npz: x_train holds values from 0 to 10.2, but images must"),
    "arrays, other shape": (lambda: arrays(x_train=X[:, 1:]), "uint8 of shape [30, 7, 8], but the models accept uint8"),
    "arrays, one image": (lambda: arrays(x_train=X[0]), "uint8 of shape [8, 8], but the models accept uint8"),
    "arrays, no image": (lambda: arrays(x_train=X[:0]), "uint8 of shape [0, 8, 8], but the models accept uint8"),
    "arrays, objects": (lambda: arrays(x_train=np.array([{}], object)), "cannot be read as an .npz of plain arrays"),
    "no arrays": (lambda: file(b"no arrays", "a.npz"), "a.npz cannot be read as an .npz of plain arrays"),
}


@pytest.mark.parametrize(("build", "words"), UNREAD.values(), ids=UNREAD)
def test_unusable_images_to_predict_are_refused_in_one_sentence(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], build: Callable[[], list[str]], words: str
) -> None:
    named = build()
    before = contents(tmp_path)
    assert status_of("predict", run, *named, "--device", "cpu") == 2
    _, reason, last = capfd.readouterr().err.splitlines()
    assert words in reason
    assert last == "ssgan: None of the images could be read."
    assert contents(tmp_path) == before


# Unusual but valid input


def test_training_accepts_unusual_folders(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A class of one image, non-ASCII names, and symlink loops."""
    write(tmp_path / "ünï 日本", {**classes(each=6, names=("Éclair", "a b")), "☃/1.png": grey(900)})
    (tmp_path / "ünï 日本" / "a b" / "loop").symlink_to("..")
    (tmp_path / "ünï 日本" / "☃" / "ring.png").symlink_to("ring.png")
    assert status_of("train", "ünï 日本", *TRAIN, "--json") == 0
    captured = capfd.readouterr()
    report = last_object(captured.out)
    assert (report["dataset"], report["classes"], report["labels"]) == ("ünï 日本", ["a b", "Éclair", "☃"], 11)
    assert captured.err.splitlines()[:2] == [
        "Skipped files that cannot be read: 1 (1 of them labelled): ☃/ring.png is a broken link",
        "Ignored files that are not pictures: 1 (link: 1)",
    ]
    assert status_of("data", "ünï 日本") == 0
    assert "No test image of 1 class: ☃." in capfd.readouterr().out.splitlines()


def test_training_works_on_photographs_of_many_formats(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A thousand pictures of many formats, of which twenty are broken and reported."""
    files, broken = photographs(1000)
    write(tmp_path / "photos", files)
    assert status_of("train", "photos", "--image-size", "16", *TRAIN, "--json") == 0
    captured = capfd.readouterr()
    report = last_object(captured.out)
    assert report["labels"] > 300
    assert 0 <= report["error_mean"] <= 100
    first, *others = captured.err.splitlines()
    assert first.startswith(f"Skipped files that cannot be read: 20 ({sum('unl' not in n for n in broken)} of them la")
    assert broken[0] in first
    assert others == []
    assert status_of("data", "run", "--json") == 0
    assert [name for name, _ in last_object(capfd.readouterr().out)["skipped"]] == broken


def test_commands_write_only_to_the_run_folder_and_the_cache(tmp_path: Path) -> None:
    """Separate processes with their own home and temporary folders, and an ASCII terminal."""
    for name in ("home", "temporary", "cache"):
        (tmp_path / name).mkdir()
    files = {**classes(each=6, names=("日本", "Éclair")), "日本/é.png": b"", "unlabeled/a.png": png(10_000, 10_000)}
    write(tmp_path / "photos", files)
    before = contents(tmp_path)
    environment = {
        "PYTHONPATH": str(Path(ssgan.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "ascii",
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
        "SSGAN_DATA": str(tmp_path / "cache"),
        "MPLCONFIGDIR": matplotlib.get_cachedir(),  # a list of fonts takes seconds to make
    }

    def run_ssgan(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "ssgan.cli", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=90)
        assert b"Traceback" not in done.stderr
        assert b"Warning" not in done.stderr
        return done

    trained = run_ssgan("train", "photos", *TRAIN)
    assert trained.returncode == 0, trained.stderr
    assert rb"\u65e5\u672c/\xe9.png is empty" in trained.stderr
    shown = run_ssgan("data", "photos")
    assert shown.returncode == 0
    assert rb"\u65e5\u672c " in shown.stdout
    found = run_ssgan("predict", "run", "photos", "--device", "cpu")
    assert found.returncode == 0
    assert "photos/日本/0.png,".encode() in found.stdout
    assert {row for row in found.stdout.decode().splitlines() if "10,000 x 10,000 pixels" in row}
    after = {name: was for name, was in contents(tmp_path).items() if Path(name).parts[0] not in ("run", "cache")}
    assert after == {name: was for name, was in before.items() if name != "cache"}
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"decoded"}
    assert runs.read_report(tmp_path / "run")["classes"] == ["Éclair", "日本"]
