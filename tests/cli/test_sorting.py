"""`predict --sort-into` and `--sheet`: one folder of pictures per class, and a sheet of the least sure pictures."""

import csv
import errno
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import grey, packed, write
from PIL import Image
from running import contents, last_object, status_of

from ssgan.inference.inputs import InputSource
from ssgan.inference.predict import Prediction
from ssgan.inference.sorting import Pictures, Sorter, folder_names

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def files_in(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(folder).items() if content is not None}


def predicted(run: Path, capsys: pytest.CaptureFixture[str], *images: str) -> list[dict[str, str]]:
    assert status_of("predict", run, *images, "--device", "cpu") == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def row(file: str, label: str | None, probability: float | None = 0.9) -> Prediction:
    return Prediction(file, label, None if label is None else probability, None, "", None)


def test_a_long_name_in_a_zip_keeps_its_suffix(tmp_path: Path) -> None:
    packed(tmp_path / "more.zip", {f"{'x' * 125}.png": grey(5)})
    pictures = Pictures([InputSource(str(tmp_path / "more.zip"))])
    Sorter(tmp_path / "sorted", ["cat"], pictures).add(row(f"{tmp_path}/more.zip/{'x' * 125}.png", "cat"))
    pictures.close()
    (name,) = files_in(tmp_path / "sorted")
    assert name == f"cat/{'x' * 120}.png"


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("name", ["./more.zip", ".//more.zip"])
def test_a_zip_is_sorted_whatever_its_path(run: Path, tmp_path: Path, name: str) -> None:
    packed(tmp_path / "more.zip", {"z.png": grey(5)})
    assert status_of("predict", run, name, "--sort-into", "sorted", "--device", "cpu") == 0
    assert [Path(file).name for file in files_in(Path("sorted"))] == ["z.png"]


def test_missing_picture_is_counted_and_others_are_sorted(tmp_path: Path) -> None:
    """Earlier, this gave a traceback, and the table was lost."""
    write(tmp_path, {"a.png": grey(1), "b.png": grey(2)})
    names = [str(tmp_path / name) for name in ("a.png", "gone.png", "b.png")]
    sorter = Sorter(tmp_path / "sorted", ["cat"], Pictures([InputSource(name) for name in names]))
    for name in names:
        sorter.add(row(name, "cat"))
    assert set(files_in(tmp_path / "sorted")) == {"cat/a.png", "cat/b.png"}
    assert sorter.failed == [f"{names[1]} (No such file or directory)"]
    assert sorter.counts == {"cat": 2}


def test_folder_without_symlink_support_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.png": grey(1)})
    name = str(tmp_path / "a.png")

    def refuse(self: Path, target: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", target, None, str(self))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(PermissionError):
        Sorter(tmp_path / "sorted", ["cat"], Pictures([InputSource(name)]), link=True).add(row(name, "cat"))


@pytest.mark.usefixtures("pictures")
def test_sort_into_expands_tilde_after_equals_sign(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert status_of("predict", run, "pictures", "--sort-into=~/sorted", "--device", "cpu") == 0
    assert (tmp_path / "home/sorted").is_dir()
    assert not Path("~").exists()


@pytest.mark.parametrize("unsure", ["0", "0.5", "1"])
def test_pictures_are_copied_by_class(
    run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str], unsure: str, tmp_path: Path
) -> None:
    """Inputs are a folder, a file and a zip; a broken picture is not copied, and the inputs stay unchanged."""
    packed(tmp_path / "more.zip", {"deep/z.png": grey(5)})
    Path("pictures/broken.png").write_bytes(b"\x89PNG")
    rows = predicted(run, capsys, "pictures/deep", "pictures/a.png", "pictures/broken.png", "more.zip")
    expected = {}
    for one in rows:
        if one["class"]:
            place = one["class"] if float(one["probability"]) >= float(unsure) else "unsure"
            content = grey_bytes(5) if "zip" in one["file"] else Path(one["file"]).read_bytes()
            expected[f"{place}/{Path(one['file']).name}"] = content
    before = contents(tmp_path / "pictures")
    arguments = ["pictures/deep", "pictures/a.png", "pictures/broken.png", "more.zip", "--sort-into", "sorted"]
    assert status_of("predict", run, *arguments, "--unsure", unsure, "--device", "cpu", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert files_in(Path("sorted")) == expected
    assert len(expected) == 3
    assert contents(tmp_path / "pictures") == before
    counts = {one["folder"]: one["count"] for one in result["sorted"]["folders"]}
    assert sum(counts.values()) == 3
    assert counts["unsure"] == sum(name.startswith("unsure/") for name in expected)


def grey_bytes(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(grey(seed)).save(stream, "PNG")
    return stream.getvalue()


def test_counts_are_printed_and_second_run_overwrites_nothing(
    run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", run, "pictures", "--sort-into", "sorted", "--unsure", "0", "--device", "cpu"]
    assert status_of(*command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 of 3 images classified"
    assert lines[-1] == "3 pictures copied into sorted"
    assert lines[-2].split() == ["0", "unsure"]
    first = files_in(Path("sorted"))
    assert status_of(*command) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "3 pictures already there"
    assert files_in(Path("sorted")) == first
    (name,) = [name for name in first if name.endswith("/a.png")]
    Path("sorted", name).write_bytes(b"mine")
    assert status_of(*command) == 0
    assert files_in(Path("sorted")) == {**first, name: b"mine", name.replace("a.png", "a-2.png"): first[name]}


@pytest.mark.parametrize("link", [[], ["--link"]])
def test_copies_of_earlier_run_in_another_folder_are_counted(
    run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str], link: list[str]
) -> None:
    """A picture with the same name but other bytes is not a copy."""
    command = ["predict", run, "pictures", "--sort-into", "sorted", "--device", "cpu", *link]
    words = "also in another folder, from an earlier run"
    assert status_of(*command, "--unsure", "1") == 0
    assert words not in capsys.readouterr().out
    Path("sorted/unsure/a.png").unlink()
    Path("sorted/unsure/a.png").write_bytes(b"mine")
    assert status_of(*command, "--unsure", "0") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"2 {words}"
    assert len(list(Path("sorted/unsure").iterdir())) == 3


def test_links_point_to_original_pictures(run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        command = ["predict", run, "pictures", "--sort-into", "s", "--link", "--unsure", "0", "--device", "cpu"]
        assert status_of(*command) == 0
    links = list(Path("s").rglob("*.png"))
    assert sorted(os.readlink(path) for path in links) == sorted(os.path.abspath(name) for name in pictures)
    assert "3 pictures already there" in capsys.readouterr().out.splitlines()


def test_array_rows_are_counted_but_not_sorted(run: Path, digits: object, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("x.npz", x_test=np.zeros((2, 8, 8), np.uint8))
    assert status_of("predict", run, "x.npz", "--sort-into", "s", "--out", "p.csv", "--device", "cpu") == 0
    assert "2 rows of arrays not sorted, because they are not files" in capsys.readouterr().out.splitlines()
    assert files_in(Path("s")) == {}
    assert len(Path("p.csv").read_text().splitlines()) == 3


ODD_CLASS_NAMES = [
    "../up",
    "/etc",
    "a/b",
    "..",
    ".",
    "",
    "con",
    "NUL.txt",
    "x\n\x1b[31m",
    "Unsure",
    "UNSURE",
    "a\\b",
    "猫" * 99,
    "end. ",
]


def test_folder_names_are_safe_and_unique() -> None:
    names = folder_names([*ODD_CLASS_NAMES, "cat", "Cat"])
    assert names[-2:] == ["cat", "Cat-2"]
    assert len({name.casefold() for name in [*names, "unsure"]}) == len(ODD_CLASS_NAMES) + 3
    for name in names:
        assert name == Path(name).name
        assert name not in ("", ".", "..")
        assert not set(name) & set('/\\:*?"<>|')
        assert name.isprintable()
        assert len(name.encode()) < 200
        assert not name.endswith((".", " "))
    assert names[6:8] == ["_con", "_NUL.txt"]


def test_odd_class_names_do_not_escape_output_folder(tmp_path: Path) -> None:
    write(tmp_path / "in", {"1.png": grey(1)})
    file = str(tmp_path / "in" / "1.png")
    pictures = Pictures([InputSource(file)])
    sorter = Sorter(tmp_path / "out" / "sorted", ODD_CLASS_NAMES, pictures)
    for label in ODD_CLASS_NAMES:
        sorter.add(row(file, label))
    sorter.add(row(file, None))
    assert {path.name for path in tmp_path.iterdir()} >= {"in", "out"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sorted"]
    found = files_in(tmp_path / "out" / "sorted")
    assert {str(Path(name).parent) for name in found} == set(folder_names(ODD_CLASS_NAMES))
    assert len(found) == len(ODD_CLASS_NAMES)


def test_many_pictures_of_one_name_are_sorted_in_linear_time(tmp_path: Path) -> None:
    """1,500 took over a minute when each read all earlier ones; a second run recognises each one by its content."""
    count = 1500
    files = {f"{i}/scan.png": i.to_bytes(4, "big") * 500 for i in range(count)}
    names = [str(write(tmp_path / "in", {name: files[name]}) / name) for name in files]
    for present in (0, count):
        pictures = Pictures([InputSource(name) for name in names])
        sorter, began = Sorter(tmp_path / "sorted", ["cat"], pictures), time.process_time()
        for name in names:
            sorter.add(row(name, "cat"))
        assert time.process_time() - began < 15
        assert sorter.present == present
    assert sorted(files_in(tmp_path / "sorted").values()) == sorted(files.values())


def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "in", {"1.png": grey(1)})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted" / "cat").symlink_to(tmp_path / "elsewhere")
    file = str(tmp_path / "in" / "1.png")
    sorter = Sorter(tmp_path / "sorted", ["cat"], Pictures([InputSource(file)]))
    with pytest.raises(Exception, match="is a link or a file, not a folder"):
        sorter.add(row(file, "cat"))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_sheet_shows_the_least_sure_first(
    run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [one for one in predicted(run, capsys, "pictures") if one["class"]]
    shown = {}
    draw = "ssgan.inference.sorting.draw_table"
    from ssgan.figures.image_grid import draw_table

    def watch(table: list[list[object]], captions: list[list[str]], pixels: int) -> Image.Image:
        shown.update(names=[line[0] for line in table], captions=captions)
        return draw_table(table, captions, pixels)  # type: ignore[arg-type]

    monkeypatch.setattr(draw, watch)
    assert status_of("predict", run, "pictures", "--sheet", "s.png", "--device", "cpu") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Least sure pictures of each class: s.png"
    with Image.open("s.png") as sheet:
        assert sheet.mode == "RGB"
        assert sheet.height > 96
    expected = []
    for name in dict.fromkeys(sorted(one["class"] for one in rows)):
        own = sorted((one for one in rows if one["class"] == name), key=lambda one: float(one["probability"]))
        expected.append([f"{float(one['probability']):.2f} {Path(one['file']).name}" for one in own])
    assert [[words for words in line if words] for line in shown["captions"]] == expected
    assert shown["names"] == [
        f"{name} ({len(line)})" for name, line in zip(sorted({o["class"] for o in rows}), expected, strict=True)
    ]


def test_invalid_sort_and_sheet_options_are_refused(
    run: Path, pictures: list[str], mistake: Callable[..., str]
) -> None:
    assert mistake("predict", run, "pictures", "--link") == "--link has no effect: it is for --sort-into."
    assert mistake("predict", run, "pictures", "--unsure", "0.3").startswith("--unsure has no effect")
    for text in ("2", "x", "nan"):
        expected = f"--unsure is {text}, but must be a number from 0 to 1."
        assert mistake("predict", run, "pictures", "--sort-into", "s", "--unsure", text) == expected
    expected = "--sort-into pictures/s lies in pictures, among the pictures: choose a folder elsewhere."
    assert mistake("predict", run, "pictures", "--sort-into", "pictures/s") == expected
    assert "which is not a folder" in mistake("predict", run, pictures[1], "--sort-into", pictures[0])
    assert mistake("predict", run, "pictures", "--sheet", "s.jpg") == "--sheet is s.jpg, but must end in .png."
    assert "lies in gone, which is not a folder" in mistake("predict", run, "pictures", "--sheet", "gone/s.png")


def test_sort_into_refuses_folder_with_labels_csv(
    run: Path, pictures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("flat").mkdir()
    Path("flat/labels.csv").write_text("file,label,time,action\n")
    assert status_of("predict", run, "pictures", "--sort-into", "flat", "--device", "cpu") == 2
    assert "flat holds labels.csv, the answers of `ssgan label`" in capsys.readouterr().err
