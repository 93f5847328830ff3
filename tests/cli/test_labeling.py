"""`suggest` and `audit`: tables, sheets, next commands, and errors."""

import csv
import json
import shlex
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import grey, packed, table, write
from PIL import Image
from running import contents, last_object, status_of
from small_backbones import FEATURE_OPTIONS, NAME, coloured, use_small_backbone
from small_configs import TINY_OPTIONS

from ssgan import Options, load
from ssgan.cli import labeling
from ssgan.data import file_tree, image_io
from ssgan.data.layouts import folder_labels
from ssgan.data.splits import load as load_splits
from ssgan.errors import Interrupted
from ssgan.inference.sorting import read_tiles
from ssgan.labeling.background import BackgroundTrainer, Commands, Failed
from ssgan.labeling.store import Change, open_store
from ssgan.runs import read_config

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

HEADER = ["path", "label", "place", "strategy", "score", "reason", "predicted", "probability"]


def read(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return write(tmp_path / "flat", {f"deep/{i}.png": grey(i) for i in range(12)} | {"a, b.png": grey(99)})


def test_filled_in_suggestions_work_as_labels_csv(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only half of the labels are filled in: the others stay unlabelled. A table with labels is not overwritten."""
    assert status_of("suggest", "flat", "--n", "4", "--sheet", "s.png") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "flat: 4 of 13 images without a label, strategy typical"
    assert said[-1] == ("Fill in the column label of suggest.csv, then: ssgan train flat --labels-csv suggest.csv")
    assert max(map(len, said[:-1])) <= 80
    rows = read("suggest.csv")
    assert list(rows[0]) == HEADER
    assert [row["place"] for row in rows] == ["1", "2", "3", "4"]
    names = [row["path"] for row in rows]
    assert set(names) <= {f"deep/{i}.png" for i in range(12)} | {"a, b.png"}
    assert rows[0]["reason"].startswith("typical of a cluster of ")
    with Image.open("s.png") as sheet:
        assert sheet.mode == "RGB"
    # A table with an empty label column may be overwritten.
    assert status_of("suggest", "flat", "--n", "4") == 0
    for row, label in zip(rows, ("cat", "dog", "", ""), strict=True):
        row["label"] = label
    with open("suggest.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, HEADER)
        writer.writeheader()
        writer.writerows(rows)
    data = load("flat", options=Options(labels_csv=Path("suggest.csv"), test_share=0))
    labels = dict(zip(data.files_train, data.y_train, strict=True))
    assert [labels[name] for name in names] == [0, 1, -1, -1]
    assert data.classes == ("cat", "dog")
    before = Path("suggest.csv").read_bytes()
    assert status_of("suggest", "flat", "--n", "4") == 2
    assert "suggest.csv holds 2 labels that would be lost: choose another" in capsys.readouterr().err
    assert Path("suggest.csv").read_bytes() == before
    # Labelled pictures are not suggested again.
    assert status_of("suggest", "flat", "--labels-csv", "suggest.csv", "--n", "11", "--out", "next.csv") == 0
    assert not {row["path"] for row in read("next.csv")} & set(names[:2])
    assert capsys.readouterr().out.splitlines()[-1].startswith("Write their labels into suggest.csv, then: ssgan train")


def test_suggest_reads_class_folders_and_zips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"unlabeled/{i}.png": grey(i) for i in range(8)}
    classes = {f"{name}/{i}.png": grey(50 + 10 * k + i) for k, name in enumerate(("cat", "dog")) for i in range(2)}
    write(tmp_path / "p", files | classes)
    packed(tmp_path / "p.zip", files | classes)
    for data in ("p", "p.zip"):
        assert status_of("suggest", data, "--n", "8", "--out", "s.csv", "--sheet", "s.png", "--json") == 0
        result = last_object(capsys.readouterr().out)
        assert {one["path"] for one in result["suggestions"]} == set(files)
        assert (result["images"], result["labeled"], result["sheet"]) == (12, 4, "s.png")
    assert status_of("suggest", "p", "--n", "2") == 0
    expected = "Move them into the folders of their classes, then: ssgan train p"
    assert capsys.readouterr().out.splitlines()[-1] == expected
    # One class folder alone defines no classes yet, but its pictures count as labelled; loose pictures do not.
    shutil.rmtree("p/dog")
    write(tmp_path / "p", {"loose.png": grey(99)})
    assert status_of("suggest", "p", "--n", "9", "--out", "t.csv") == 0
    assert {row["path"] for row in read("t.csv")} == {*files, "loose.png"}


class InProcessCommands(Commands):
    """Run the commands of the labelling page in this process."""

    def run(self, arguments: Sequence[str]) -> str:
        if status_of(*arguments) != 0:
            raise Failed
        return ""


def test_page_suggests_pictures_of_folders_that_are_not_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mistake: Callable[..., str]
) -> None:
    """The table of the page determines which pictures have a label, even if none has one."""
    folder = write(tmp_path / "cam", {f"{year}/{i}.png": grey(year + i) for year in (2021, 2031) for i in range(4)})
    assert mistake("suggest", "cam") == (
        "Every image of cam has a label already, or is a copy of one that has, so there is none to suggest: add "
        "images without a label, or if its folders are not classes, start `ssgan label cam --classes A,B` and "
        "add `--labels-csv cam/labels.csv`."
    )
    hints: list[Sequence[str]] = []
    with open_store(folder, {}) as store:
        trainer = BackgroundTrainer(
            folder, store.path, tmp_path / "runs", None, 4, lambda _, order: hints.append(order), InProcessCommands()
        )
        trainer._ask(tmp_path)
        store.append([Change("2021/0.png", "", "none")])
        assert status_of("suggest", "cam", "--n", "7", "--labels-csv", store.path, "--out", "s.csv") == 0
    assert len(hints[0]) == 5
    assert {row["path"] for row in read("s.csv")} == {f"2021/{i}.png" for i in (1, 2, 3)} | {
        f"2031/{i}.png" for i in range(4)
    }
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"Label them with: ssgan label cam --only s.csv, then: ssgan train cam --labels-csv {store.path}"
    # A run that the page trained has a copy of the answers; the page writes to another table.
    shutil.copy(store.path, "copy.csv")
    assert status_of("suggest", "cam", "--n", "7", "--labels-csv", "copy.csv", "--out", "s.csv") == 0
    assert capsys.readouterr().out.endswith("then: ssgan train cam --labels-csv cam/labels.csv\n")
    store.path.rename("elsewhere.csv")
    assert status_of("suggest", "cam", "--n", "7", "--labels-csv", "copy.csv", "--out", "s.csv") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("Copy copy.csv to cam/labels.csv. Label them with: ")


def test_the_next_command_keeps_the_settings(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("suggest", flat, "--n", "2", "--image-size", "16", "--set", "test_share=0.25") == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.endswith(" --labels-csv suggest.csv --image-size 16 --set test_share=0.25")


def test_suggest_names_array_images_by_row(capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.RandomState(0).randint(0, 256, (30, 6, 6), np.uint8)
    np.savez("a.npz", x_train=x, y_train=np.repeat([0, 1, -1], [5, 5, 20]))
    assert status_of("suggest", "a.npz", "--n", "20", "--out", "-", "--strategy", "random") == 0
    said = capsys.readouterr()
    rows = list(csv.DictReader(said.out.splitlines()))
    assert sorted(int(row["path"]) for row in rows) == list(range(10, 30))
    assert said.err.splitlines()[-1] == "Write their labels into y_train of a.npz, then: ssgan train a.npz"


@pytest.mark.parametrize("strategy", ["typical", "uncertain"])
def test_suggest_for_run_excludes_its_labelled_images(
    run: Path, capsys: pytest.CaptureFixture[str], strategy: str
) -> None:
    """Labels of all its models count. Suggestions have classes and probabilities, and repeat exactly."""
    learned = {row for split in load_splits(run / "split.json") for row in split.indices.tolist()}
    command = ["suggest", run, "--n", "15", "--strategy", strategy, "--device", "cpu", "--json", "--sheet", "s.png"]
    assert status_of(*command) == 0
    result = last_object(capsys.readouterr().out)
    assert {one["row"] for one in result["suggestions"]} & learned == set()
    assert result["labeled"] == len(learned) > 20
    assert {one["strategy"] for one in result["suggestions"]} == {strategy}
    assert all(one["predicted"] in "0123456789" for one in result["suggestions"])
    first = Path("suggest.csv").read_bytes()
    assert status_of(*command) == 0
    assert Path("suggest.csv").read_bytes() == first


def test_suggest_accepts_unfinished_run_with_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "report.json").unlink()
    assert status_of("suggest", run, "--n", "3", "--device", "cpu") == 0
    assert f"{run} has not finished" in capsys.readouterr().err
    (run / "checkpoint").unlink()
    assert status_of("suggest", run) == 2
    assert "is a run that did not finish" in capsys.readouterr().err


def test_suggest_refuses_invalid_options(run: Path, flat: Path, mistake: Callable[..., str]) -> None:
    assert mistake("suggest", "flat", "--n", "0") == "--n is 0, but must be at least 1."
    assert mistake("suggest", "flat", "--n", "x") == "--n is x, but must be an integer."
    for seed in (-1, 2**32):
        expected = f"--seed is {seed}, but must be an integer from 0 to 4294967295."
        assert mistake("suggest", "flat", "--seed", str(seed)) == expected
    assert status_of("suggest", "flat", "--n", "2", "--seed", str(2**32 - 1), "--out", "-") == 0
    expected = "n is 14, but flat holds 13 different images without a label: ask for fewer."
    assert mistake("suggest", "flat", "--n", "14") == expected
    assert "Did you mean 'typical'?" in mistake("suggest", "flat", "--strategy", "typicl")
    assert "needs the class probabilities of a run" in mistake("suggest", "flat", "--strategy", "uncertain")
    assert mistake("suggest", "flat", "--sheet", "s.jpg") == "--sheet is s.jpg, but must end in .png."
    assert mistake("suggest", "flat", "--out", "s.txt").startswith("--out is s.txt, but must end in")
    assert mistake("suggest", "flat", "--data", "flat").startswith("--data is for a run, and this is a data set")
    assert mistake("suggest", run, "--image-size", "8").startswith("--image-size is for a data set, and this is a run")
    assert mistake("suggest", "flet") == "There is no folder flet. Did you mean flat?"
    Path("empty").mkdir()
    assert "has no pictures" in mistake("suggest", "empty")
    write(Path("all"), {f"{name}/{i}.png": grey(i) for name in ("cat", "dog") for i in range(3)})
    assert "Every image of all has a label already" in mistake("suggest", "all")
    assert "flat holds images of shape" in mistake("suggest", run, "--data", "flat")


def test_suggest_with_backbone_features(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """For pictures before training and for a run; without the weights of the run, `suggest` prints one line."""
    use_small_backbone(monkeypatch)
    x, y = coloured(36, 0)
    places = [("red", "green", "blue")[label] if i < 12 else "unlabeled" for i, label in enumerate(y)]
    write(Path("p"), {f"{place}/{i}.png": x[i] for i, place in enumerate(places)})
    assert status_of("suggest", "p", "--backbone", NAME, "--image-size", "16", "--n", "24", "--out", "s.csv") == 0
    unlabeled = {f"unlabeled/{i}.png" for i in range(12, 36)}
    assert {row["path"] for row in read("s.csv")} == unlabeled
    assert status_of("train", "p", "--out", "r", "--device", "cpu", "--set", "test_share=0", *FEATURE_OPTIONS) == 0
    for strategy in ("typical", "uncertain"):
        command = ["suggest", "r", "--n", "24", "--strategy", strategy, "--out", "r.csv", "--sheet", "r.png"]
        assert status_of(*command, "--device", "cpu") == 0
        assert {row["path"] for row in read("r.csv")} == unlabeled
        assert {row["predicted"] for row in read("r.csv")} <= {"red", "green", "blue"}
    use_small_backbone(monkeypatch, "6" * 64)
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"ssgan train {Path('p').resolve()} --config r")
    assert status_of("suggest", "r", "--device", "cpu") == 2
    assert "install those of the run" in capsys.readouterr().err


# Audits


@pytest.fixture
def mislabeled(tmp_path: Path) -> Path:
    """Dark cats and bright dogs, with one dog among the cats and one picture in both folders."""
    files = {}
    for name, lowest in (("cat", 0), ("dog", 180)):
        for i in range(8):
            pixels = np.random.RandomState(lowest + i).randint(lowest, lowest + 70, (8, 8)).astype(np.uint8)
            files[f"{name}/{i}.png"] = pixels
    files["cat/wrong.png"] = np.random.RandomState(500).randint(180, 250, (8, 8)).astype(np.uint8)
    files["cat/twin.png"] = files["dog/0.png"]
    return write(tmp_path / "p", files)


AUDITED_RUN_OPTIONS = ["--device", "cpu", "--preset", "vectors", *TINY_OPTIONS]


def test_audit_uses_folds_of_run(mislabeled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("train", "p", "--out", "r", "--folds", "3", *AUDITED_RUN_OPTIONS) == 0
    before = contents(Path("r"))
    capsys.readouterr()
    assert status_of("audit", "r", "--sheet", "a.png") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("18 labels, 3 models that never saw the judged image: ")
    assert contents(Path("r")) == before
    rows = read("audit.csv")
    assert list(rows[0]) == ["path", "given", "suggested", "margin", "reason"]
    assert [row["path"] for row in rows[:2]] == ["cat/twin.png", "dog/0.png"]
    assert rows[0]["reason"] == "the same image as dog/0.png, whose label is dog"
    assert (rows[2]["path"], rows[2]["given"], rows[2]["suggested"]) == ("cat/wrong.png", "cat", "dog")
    assert float(rows[2]["margin"]) > 0
    assert max(map(len, said[:-1])) <= 80
    place = mislabeled.resolve()
    assert said[-1] == (
        f"Look at each one, and fix wrong labels in the browser: ssgan label {place} --only audit.csv; "
        f"then: ssgan train {place} --config r --labels-csv {place}/labels.csv"
    )
    with Image.open("a.png") as sheet:
        assert sheet.mode == "RGB"
    # Answer on the page, then run the printed command.
    with (
        file_tree.open_tree(mislabeled, image_io.SUFFIXES) as tree,
        open_store(mislabeled, folder_labels(tree)) as store,
    ):
        shutil.copy(mislabeled / "labels.csv", "copy.labels.csv")
        store.append([Change("cat/wrong.png", "dog", "label"), Change("cat/twin.png", "", "none")])
    # A run that the page trained has a copy of the answers; the page writes to another table.
    assert (
        status_of("train", "p", "--out", "s", "--labels-csv", "copy.labels.csv", "--folds", "3", *AUDITED_RUN_OPTIONS)
        == 0
    )
    capsys.readouterr()
    assert status_of("audit", "s") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"--config s --labels-csv {place}/labels.csv")
    command = shlex.split(said[-1].split("; then: ssgan ")[1])
    assert status_of(*command, "--out", "mended") == 0
    assert read_config(Path("mended")) == read_config(Path("r"))
    data = load("p", options=Options(labels_csv=mislabeled / "labels.csv", test_share=0))
    labels = {name: data.classes[label] for name, label in zip(data.files_train, data.y_train, strict=True)}
    assert labels == {f"{name}/{i}.png": name for name in ("cat", "dog") for i in range(8)} | {"cat/wrong.png": "dog"}


@pytest.mark.usefixtures("mislabeled")
def test_audit_by_folds_excludes_held_out_test_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    """The folds were made without the held-out test pictures, so the audit leaves them out too."""
    assert status_of("train", "p", "--out", "r", "--folds", "3", "--set", "test_share=0.2", *AUDITED_RUN_OPTIONS) == 0
    capsys.readouterr()
    assert status_of("audit", "r") == 0
    assert capsys.readouterr().out.startswith("14 labels, 3 models that never saw the judged image: ")
    assert status_of("audit", "r", "--folds", "2") == 0
    assert "18 labels, 2 models" in capsys.readouterr().out


def test_interrupted_audit_explains_how_to_continue(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise Interrupted(number=signal.SIGTERM)

    monkeypatch.setattr("ssgan.labeling.audit.train_folds", interrupt)
    with pytest.raises(
        Interrupted, match="audit holds what the models have learned; the same command continues"
    ) as stop:
        labeling.audit(run)
    assert stop.value.number == signal.SIGTERM


def test_audit_trains_missing_folds_once(mislabeled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They cover every label, including those held out for testing; a second audit reuses the models."""
    assert status_of("train", "p", "--out", "r", *AUDITED_RUN_OPTIONS) == 0
    capsys.readouterr()
    assert status_of("audit", "r", "--folds", "2", "--rounds", "2") == 0
    said = capsys.readouterr().out
    assert "Training 2 models into r/audit/2-0" in said
    assert "18 labels, 4 models" in said
    before, first = contents(Path("r")), Path("audit.csv").read_bytes()
    assert status_of("audit", "r", "--folds", "2", "--rounds", "2", "--json") == 0
    result = last_object(capsys.readouterr().out)
    assert (result["labels"], result["models"], result["copies_with_two_labels"]) == (18, 4, 2)
    assert set(result["thresholds"]) == {"cat", "dog"}
    assert json.dumps(result["mistakes"][0]["path"]) == '"cat/twin.png"'
    assert contents(Path("r")) == before
    assert Path("audit.csv").read_bytes() == first
    # Changed data are refused.
    write(mislabeled, {"cat/more.png": grey(7)})
    assert status_of("audit", "r") == 2
    assert "p has changed since r was trained" in capsys.readouterr().err


def test_audit_of_label_draw_checks_only_drawn_labels(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("audit", run, "--folds", "2", "--json") == 0
    result = last_object(capsys.readouterr().out)
    drawn = {str(row) for row in load_splits(run / "split.json")[0].indices}
    assert result["labels"] == 20
    assert {one["path"] for one in result["mistakes"]} <= drawn


@pytest.mark.parametrize("pad", range(3))
def test_no_command_overwrites_answers_that_a_spreadsheet_saved(
    tmp_path: Path, mistake: Callable[..., str], pad: int
) -> None:
    """The first 4,096 bytes may end inside a multi-byte character."""
    out = tmp_path / "labels.csv"
    out.write_bytes(f"\ufefffile;label;time;action\r\n{'a' * pad};cat;1;label\r\n{'図.png;犬;1;label' * 999}".encode())
    said = mistake("suggest", "digits", "--n", "2", "--out", out)
    assert said == f"{out} holds the answers of `ssgan label`, which would be lost: choose another file."


@pytest.mark.parametrize("line", ["", "a.png,,t,skip\n", "a.png,cat,t,label\n"], ids=["none", "skipped", "labelled"])
def test_no_command_overwrites_the_answers_of_the_page(
    run: Path, tmp_path: Path, mistake: Callable[..., str], line: str
) -> None:
    out = tmp_path / "labels.csv"
    out.write_text("file,label,time,action\n" + line)
    for command in (["predict", run, "x.png"], ["audit", run], ["suggest", "digits", "--n", "2"]):
        said = mistake(*command, "--out", out)
        assert said == f"{out} holds the answers of `ssgan label`, which would be lost: choose another file."


def test_audit_refuses_invalid_options_and_runs(run: Path, tmp_path: Path, mistake: Callable[..., str]) -> None:
    assert mistake("audit", run, "--folds", "1") == "--folds is 1, but must be at least 2."
    assert mistake("audit", run, "--rounds", "0") == "--rounds is 0, but must be at least 1."
    assert mistake("audit", run, "--sheet", "a.gif") == "--sheet is a.gif, but must end in .png."
    assert "must lie between 2 and 20" in mistake("audit", run, "--folds", "21")
    assert "There is no run folder gone" in mistake("audit", "gone")
    (tmp_path / "pictures").mkdir()
    assert mistake("audit", "pictures").startswith("pictures is not a run folder")
    table(tmp_path / "mine.csv", "a.png,cat")
    assert "mine.csv holds 1 label that would be lost" in mistake("audit", run, "--out", "mine.csv")
    assert status_of("train", "digits", "--labels", "0", "--out", "gan", *TINY_OPTIONS, "--device", "cpu") == 0
    assert "has no labels to audit" in mistake("audit", "gan")
    (run / "report.json").unlink()
    assert "is a run that did not finish" in mistake("audit", run)


def test_sheet_reads_pictures_with_control_characters_in_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["a\x1b[2J.png", "b\nc.png", "d.png"]
    write(tmp_path / "odd", {f"unlabeled/{name}": grey(k, 40) for k, name in enumerate(names)})
    data = load(str(tmp_path / "odd"), None, Options(classes=False))
    tiles = read_tiles(data, range(3), str(tmp_path / "odd"))
    assert all(tile is not None for tile in tiles)
