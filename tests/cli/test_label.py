"""``ssgan label`` as a command: what it says, what it refuses, and how it ends."""

import http.cookiejar
import os
import re
import signal
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from labeling_server import Server
from pictures_on_disk import classes, grey, write
from running import status_of

pytest.importorskip("uvicorn", reason="needs the extra label")

from ssgan import runs
from ssgan.cli import label
from ssgan.labeling import page
from ssgan.labeling.store import Change, open_store

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[page.LabelingApp]:
    """Apps that would be served; a Ctrl-C ends each at once."""
    apps = []

    def serve(app: page.LabelingApp, listener: socket.socket) -> None:
        apps.append(app)
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "serve", serve)
    return apps


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "flat", {f"{i}.png": grey(i) for i in range(4)})


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one sentence of a command that is refused."""
    assert status_of("label", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_the_link_and_the_next_command_are_said(
    folder: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(folder) as store:
        store.append([Change("0.png", "cat", "label"), Change("1.png", "dog", "label")])
    assert status_of("label", folder, "--classes", "cat,dog,cow") == 130
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "2 of 4 pictures labelled."
    assert out.splitlines()[-1] == served[0].link
    assert err == (
        f"ssgan: 2 pictures labelled in {folder}/labels.csv; train on them with: ssgan train {folder} --labels-csv "
        f"{folder}/labels.csv\n"
    )
    assert served[0].session.classes == ["cat", "dog", "cow"]


def test_what_is_not_as_it_seems_is_said_at_the_start(
    folder: Path, tmp_path: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels of folders, of pictures that are gone, and a review, in which an earlier answer does not count."""
    write(folder, {"phone/5.png": grey(5)})
    status_of("label", folder)
    out, _ = capsys.readouterr()
    assert out.splitlines()[:2] == [
        "1 of 5 pictures labelled.",
        "Labelled by their folders (phone: 1); --classes names others.",
    ]
    assert served[-1].session.classes == ["phone"]
    status_of("label", folder, "--classes", "cat,dog")
    assert capsys.readouterr().out.splitlines()[0] == "0 of 5 pictures labelled."
    assert served[-1].session.classes == ["cat", "dog"]
    (folder / "phone/5.png").unlink()
    (folder / "phone").rmdir()
    with open_store(folder) as store:
        store.append([Change("0.png", "cat", "label"), Change("gone.png", "dog", "label")])
    table = tmp_path / "predictions.csv"
    time.sleep(0.005)  # times are in milliseconds
    table.write_text(f"file,class\n{folder}/0.png,dog\n{folder}/9.png,cat\n")
    status_of("label", folder, "--only", table)
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == [
        "0 of 1 picture reviewed.",
        "Open this link on this machine; Ctrl-C stops the server:",
    ]
    assert f"{folder}/labels.csv names 2 pictures not in {folder}: not counted." in err
    assert f"{table} names 1 picture not in {folder}, such as {folder}/9.png." in err
    assert (
        err.splitlines()[-1] == f"ssgan: 1 picture labelled in {folder}/labels.csv; continue with: ssgan label {folder}"
    )
    assert served[-1].trainer.on_hints is None


def test_the_next_command_is_that_of_the_folder_and_not_of_a_data_set(
    tmp_path: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(write(tmp_path / "digits", {f"{i}.png": grey(i) for i in range(4)})) as store:
        store.append([Change("0.png", "1", "label"), Change("1.png", "2", "label")])
    status_of("label", "digits")
    assert "ssgan train ./digits --labels-csv" in capsys.readouterr().err
    assert served[0].trainer.folder == tmp_path / "digits"


def test_class_folders_are_classes_with_labels(tmp_path: Path, served: list[Any]) -> None:
    folder = write(tmp_path / "mixed", {**classes(each=2), "unlabeled/1.png": grey(9), "test/cat/1.png": grey(8)})
    status_of("label", folder)
    session = served[0].session
    assert session.classes == ["cat", "dog"]
    assert session.counts()["labeled"] == 4
    assert session.counts()["total"] == 5
    assert [one["file"] for one in session.next_pictures("a")] == ["unlabeled/1.png"]


def test_folders_that_are_no_classes_are_named_by_classes(
    tmp_path: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "dates", classes(each=2, names=("2024", "2025")))
    assert "lies in a class folder (2024, 2025), so none is left to label" in refusal(capsys, folder)
    status_of("label", folder, "--classes", "cat,dog")
    assert served[0].session.counts()["labeled"] == 0
    assert served[0].session.classes == ["cat", "dog"]


@pytest.mark.parametrize("loose", [True, False], ids=["with loose pictures", "all in folders"])
def test_folders_that_are_no_classes_stay_so_at_the_next_start(
    tmp_path: Path, loose: bool, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--classes` is remembered: the next command that is printed, or a review, does not name it."""
    files = {f"{year}/{i}.png": grey(10 * year + i) for year in (1, 2) for i in range(3)}
    cam = write(tmp_path / "cam", {**files, **({"0.png": grey(99)} if loose else {})})
    assert status_of("label", cam, "--classes", "cat,dog") == 130
    served[0].session.answer([("1/0.png", 0)], "label", "cat")
    (tmp_path / "t.csv").write_text("file\n2/1.png\n")
    for options in ([], ["--only", tmp_path / "t.csv"]):
        assert status_of("label", cam, *options) == 130
        assert served[-1].session.label_counts() == {"cat": 1}
        assert served[-1].session.classes == ["cat", "dog"]
    (cam / "labels.csv").unlink()  # without the answers it is forgotten
    capsys.readouterr()
    assert status_of("label", cam) == (130 if loose else 2)
    if loose:
        assert "Labelled by their folders (1: 3, 2: 3)" in capsys.readouterr().out


def test_classes_that_differ_in_case_alone_are_two(tmp_path: Path, served: list[Any]) -> None:
    """As in a training; a name that is typed is that of a class in any case."""
    files = {f"{label}/{i}.png": grey(10 * k + i) for k, label in enumerate(("Dog", "dog", " cat")) for i in range(2)}
    folder = write(tmp_path / "ab", {**files, "unlabeled/9.png": grey(99)})
    for _ in range(2):
        assert status_of("label", folder) == 130
        session = served[-1].session
        assert session.classes == ["Dog", "cat", "dog"]  # sorted as in training
        assert session.label_counts() == {"Dog": 2, "dog": 2, "cat": 2}
        assert session.store.line_count == 6
    assert [session.add_class(name) for name in ("dog", "Dog", "DOG", "CAT")] == ["dog", "Dog", "Dog", "cat"]
    assert status_of("label", folder, "--classes", "cat,dog,Dog") == 130  # as folders with blanks around their names
    assert served[-1].session.label_counts() == {"Dog": 2, "dog": 2, "cat": 2}


def test_the_classes_of_a_run_are_there_from_the_start(
    folder: Path, tmp_path: Path, served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "check_usable", lambda run: None)
    monkeypatch.setattr(runs, "read_report", lambda run: {"classes": ["cow", "pig"], "labels": 9})
    status_of("label", folder, "--run", tmp_path / "run")
    assert served[0].session.classes == ["cow", "pig"]
    assert served[0].trainer.run == tmp_path / "run"
    (folder / ".labels.csv.classes").write_text("cat\n")
    status_of("label", folder, "--run", tmp_path / "run")
    assert served[1].session.classes == ["cat", "cow", "pig"]


def test_a_review_names_pictures_of_the_test_set_and_rows_without_a_file(
    folder: Path, tmp_path: Path, served: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, {"test/9.png": grey(9)})
    table = tmp_path / "only.csv"
    table.write_text("class,file\ncat,0.png\ndog,test/9.png\ncat\nunlabeled,1.png\n")
    status_of("label", folder, "--only", table)
    assert f"{table} names 1 picture in test/, which are not shown." in capsys.readouterr().err
    assert served[0].session.names == ("0.png", "1.png")
    table.write_text("file\ntest/9.png\n")
    assert refusal(capsys, folder, "--only", table) == (
        f"ssgan: {table} names only pictures in test/, which are not shown, such as test/9.png.\n"
    )
    table.write_text("class,file\ncat,\n")
    assert "names no picture: its column of files is empty" in refusal(capsys, folder, "--only", table)


def test_a_label_that_was_emptied_by_hand_is_asked_for_again(folder: Path, served: list[Any]) -> None:
    (folder / "labels.csv").write_text("file,label,time,action\n0.png,cat,1,label\n0.png,,2,label\n1.png,cat,3,label\n")
    status_of("label", folder)
    shown = {picture["file"] for picture in served[0].session.next_pictures("a", [], False)}
    assert "0.png" in shown
    assert "1.png" not in shown


def test_a_name_that_is_no_class_is_named_with_its_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "labels.csv").write_text("file,label,time,action\n0.png,-1,1,label\n")
    assert f"The class -1 of a folder or of {folder}/labels.csv: " in refusal(capsys, folder)


def test_runs_do_not_lie_among_the_pictures(folder: Path, served: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    status_of("label", folder)
    assert served[0].trainer.runs_folder == Path("runs")
    monkeypatch.chdir(folder)
    status_of("label", ".")
    assert served[1].trainer.runs_folder == folder.parent / "runs"


def test_what_cannot_be_labelled_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "p.zip").write_bytes(b"PK")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    assert "none.png does not exist: give a folder" in refusal(capsys, "none.png")
    assert "p.zip is a zip: unpack it first" in refusal(capsys, "p.zip")
    assert "0.png is not a folder" in refusal(capsys, folder / "0.png")
    assert "empty holds no picture: no JPEG, PNG" in refusal(capsys, "empty")
    assert "run is a run: give the folder of pictures" in refusal(capsys, "run")
    assert "--port is x, but must be an integer" in refusal(capsys, folder, "--port", "x")
    assert "--port is 70000, but must lie between" in refusal(capsys, folder, "--port", "70000")
    assert "--train-every is -1, but must be at least 0" in refusal(capsys, folder, "--train-every", "-1")
    assert "--classes names cat twice" in refusal(capsys, folder, "--classes", "cat,dog, cat")
    assert "--classes is 'cat,,dog': A class needs a name" in refusal(capsys, folder, "--classes", "cat,,dog")
    assert "There is no file none.csv: --only" in refusal(capsys, folder, "--only", "none.csv")
    assert "none" in refusal(capsys, folder, "--run", "none")
    (folder / "labels.csv").write_text("image,label\n")
    assert "other columns than file,label,time,action" in refusal(capsys, folder)


def test_a_folder_that_is_labelled_already_is_busy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(folder):
        assert "Another `ssgan label` is writing" in refusal(capsys, folder)


def test_a_port_in_use_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with page.open_socket(0) as taken:
        number = str(taken.getsockname()[1])
        assert f"--port is {number}, which cannot be used" in refusal(capsys, folder, "--port", number)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.chmod(0o500)
    assert "cannot be written to" in refusal(capsys, folder)


def test_the_missing_extra_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label, "find_spec", lambda name: None)
    words = "ssgan: ssgan label needs starlette and uvicorn: pip install 'ssgan[label]'\n"
    assert refusal(capsys, folder) == words


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_in_one_line(folder: Path, number: int, status: int) -> None:
    with Server(folder, "--train-every", "0") as server:
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        opener = urllib.request.build_opener(jar)
        with opener.open(server.link, timeout=30) as forward:
            path = re.search('url=([^"]*)', forward.read().decode())
        assert path is not None
        with opener.open(urljoin(server.link, path[1]), timeout=30) as shown:
            assert b"<h1>flat</h1>" in shown.read()
        assert server.stop(number).splitlines() == [
            f"ssgan: 0 pictures labelled in {folder}/labels.csv; continue with: ssgan label {folder}"
        ]
        assert server.process.returncode == status
    assert (folder / "labels.csv").read_text() == "file,label,time,action\n"
