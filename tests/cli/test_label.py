"""The command ``ssgan label``: output, refused options, and how it ends."""

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
def served_apps(monkeypatch: pytest.MonkeyPatch) -> list[page.LabelingApp]:
    """The apps that the command would serve; Ctrl-C stops each one at once."""
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
    """Return the one-line error of a refused command."""
    assert status_of("label", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_prints_link_and_next_command(folder: Path, served_apps: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(folder) as store:
        store.append([Change("0.png", "cat", "label"), Change("1.png", "dog", "label")])
    assert status_of("label", folder, "--classes", "cat,dog,cow") == 130
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "2 of 4 pictures labelled."
    assert out.splitlines()[-1] == served_apps[0].link
    assert err == (
        f"ssgan: 2 pictures labelled in {folder}/labels.csv; train on them with: ssgan train {folder} --labels-csv "
        f"{folder}/labels.csv\n"
    )
    assert served_apps[0].session.classes == ["cat", "dog", "cow"]


def test_start_reports_folder_labels_missing_pictures_and_review_count(
    folder: Path, tmp_path: Path, served_apps: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels from folders and labels of missing pictures are reported; a review does not count earlier answers."""
    write(folder, {"phone/5.png": grey(5)})
    status_of("label", folder)
    out, _ = capsys.readouterr()
    assert out.splitlines()[:2] == [
        "1 of 5 pictures labelled.",
        "Labelled by their folders (phone: 1); --classes names others.",
    ]
    assert served_apps[-1].session.classes == ["phone"]
    status_of("label", folder, "--classes", "cat,dog")
    assert capsys.readouterr().out.splitlines()[0] == "0 of 5 pictures labelled."
    assert served_apps[-1].session.classes == ["cat", "dog"]
    (folder / "phone/5.png").unlink()
    (folder / "phone").rmdir()
    with open_store(folder) as store:
        store.append([Change("0.png", "cat", "label"), Change("gone.png", "dog", "label")])
    table = tmp_path / "predictions.csv"
    time.sleep(0.005)  # answer times have a resolution of milliseconds
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
    assert served_apps[-1].trainer.on_hints is None


def test_folder_named_like_data_set_is_trained_as_folder(
    tmp_path: Path, served_apps: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with open_store(write(tmp_path / "digits", {f"{i}.png": grey(i) for i in range(4)})) as store:
        store.append([Change("0.png", "1", "label"), Change("1.png", "2", "label")])
    status_of("label", "digits")
    assert "ssgan train ./digits --labels-csv" in capsys.readouterr().err
    assert served_apps[0].trainer.folder == tmp_path / "digits"


def test_class_folders_are_classes_with_labels(tmp_path: Path, served_apps: list[Any]) -> None:
    folder = write(tmp_path / "mixed", {**classes(each=2), "unlabeled/1.png": grey(9), "test/cat/1.png": grey(8)})
    status_of("label", folder)
    session = served_apps[0].session
    assert session.classes == ["cat", "dog"]
    assert session.counts()["labeled"] == 4
    assert session.counts()["total"] == 5
    assert [one["file"] for one in session.next_pictures("a")] == ["unlabeled/1.png"]


def test_classes_option_overrides_folder_names(
    tmp_path: Path, served_apps: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "dates", classes(each=2, names=("2024", "2025")))
    assert "lies in a class folder (2024, 2025), so none is left to label" in refusal(capsys, folder)
    status_of("label", folder, "--classes", "cat,dog")
    assert served_apps[0].session.counts()["labeled"] == 0
    assert served_apps[0].session.classes == ["cat", "dog"]


@pytest.mark.parametrize("loose", [True, False], ids=["with loose pictures", "all in folders"])
def test_classes_option_is_remembered_at_next_start(
    tmp_path: Path, loose: bool, served_apps: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--classes` is stored, because the printed next command and a review do not repeat it."""
    files = {f"{year}/{i}.png": grey(10 * year + i) for year in (1, 2) for i in range(3)}
    cam = write(tmp_path / "cam", {**files, **({"0.png": grey(99)} if loose else {})})
    assert status_of("label", cam, "--classes", "cat,dog") == 130
    served_apps[0].session.answer([("1/0.png", 0)], "label", "cat")
    (tmp_path / "t.csv").write_text("file\n2/1.png\n")
    for options in ([], ["--only", tmp_path / "t.csv"]):
        assert status_of("label", cam, *options) == 130
        assert served_apps[-1].session.label_counts() == {"cat": 1}
        assert served_apps[-1].session.classes == ["cat", "dog"]
    (cam / "labels.csv").unlink()  # `--classes` is forgotten with the answers
    capsys.readouterr()
    assert status_of("label", cam) == (130 if loose else 2)
    if loose:
        assert "Labelled by their folders (1: 3, 2: 3)" in capsys.readouterr().out


def test_class_folders_are_case_sensitive_but_typed_names_are_not(tmp_path: Path, served_apps: list[Any]) -> None:
    """As in training, `Dog` and `dog` are two classes; a typed name matches a class of any case."""
    files = {f"{label}/{i}.png": grey(10 * k + i) for k, label in enumerate(("Dog", "dog", " cat")) for i in range(2)}
    folder = write(tmp_path / "ab", {**files, "unlabeled/9.png": grey(99)})
    for _ in range(2):
        assert status_of("label", folder) == 130
        session = served_apps[-1].session
        assert session.classes == ["Dog", "cat", "dog"]  # sorted as in training
        assert session.label_counts() == {"Dog": 2, "dog": 2, "cat": 2}
        assert session.store.line_count == 6
    assert [session.add_class(name) for name in ("dog", "Dog", "DOG", "CAT")] == ["dog", "Dog", "Dog", "cat"]
    assert status_of("label", folder, "--classes", "cat,dog,Dog") == 130  # matches folder names with blanks around them
    assert served_apps[-1].session.label_counts() == {"Dog": 2, "dog": 2, "cat": 2}


def test_session_starts_with_classes_of_run(
    folder: Path, tmp_path: Path, served_apps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "check_usable", lambda run: None)
    monkeypatch.setattr(runs, "read_report", lambda run: {"classes": ["cow", "pig"], "labels": 9})
    status_of("label", folder, "--run", tmp_path / "run")
    assert served_apps[0].session.classes == ["cow", "pig"]
    assert served_apps[0].trainer.run == tmp_path / "run"
    (folder / ".labels.csv.classes").write_text("cat\n")
    status_of("label", folder, "--run", tmp_path / "run")
    assert served_apps[1].session.classes == ["cat", "cow", "pig"]


def test_review_skips_test_pictures_and_rows_without_file(
    folder: Path, tmp_path: Path, served_apps: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, {"test/9.png": grey(9)})
    table = tmp_path / "only.csv"
    table.write_text("class,file\ncat,0.png\ndog,test/9.png\ncat\nunlabeled,1.png\n")
    status_of("label", folder, "--only", table)
    assert f"{table} names 1 picture in test/, which are not shown." in capsys.readouterr().err
    assert served_apps[0].session.names == ("0.png", "1.png")
    table.write_text("file\ntest/9.png\n")
    assert refusal(capsys, folder, "--only", table) == (
        f"ssgan: {table} names only pictures in test/, which are not shown, such as test/9.png.\n"
    )
    table.write_text("class,file\ncat,\n")
    assert "names no picture: its column of files is empty" in refusal(capsys, folder, "--only", table)


def test_picture_with_emptied_label_is_shown_again(folder: Path, served_apps: list[Any]) -> None:
    (folder / "labels.csv").write_text("file,label,time,action\n0.png,cat,1,label\n0.png,,2,label\n1.png,cat,3,label\n")
    status_of("label", folder)
    shown = {picture["file"] for picture in served_apps[0].session.next_pictures("a", [], False)}
    assert "0.png" in shown
    assert "1.png" not in shown


def test_error_names_table_with_invalid_class(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "labels.csv").write_text("file,label,time,action\n0.png,-1,1,label\n")
    assert f"The class -1 of a folder or of {folder}/labels.csv: " in refusal(capsys, folder)


def test_runs_folder_is_outside_pictures_folder(
    folder: Path, served_apps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    status_of("label", folder)
    assert served_apps[0].trainer.runs_folder == Path("runs")
    monkeypatch.chdir(folder)
    status_of("label", ".")
    assert served_apps[1].trainer.runs_folder == folder.parent / "runs"


def test_invalid_folders_and_options_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_folder_open_in_another_session_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_refused_table_changes_no_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """New classes for labelled pictures were written before the table was read."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert "typo.csv" in refusal(capsys, folder, "--classes", "A,B", "--only", "typo.csv")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_missing_extra_prints_install_command(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label, "find_spec", lambda name: None)
    words = "ssgan: ssgan label needs starlette and uvicorn: pip install 'ssgan[label]'\n"
    assert refusal(capsys, folder) == words


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_stops_server_with_one_line_summary(folder: Path, number: int, status: int) -> None:
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
