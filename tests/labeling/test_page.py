"""The server of the labelling page: access control, responses, and pictures shared between tabs."""

import io
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures_on_disk import grey, png, write
from PIL import Image

pytest.importorskip("starlette", reason="needs the extra label")
pytest.importorskip("httpx2", reason="needs the test extra")

from starlette.testclient import TestClient

from ssgan.data import file_tree, image_io
from ssgan.data.file_tree import open_tree
from ssgan.data.image_io import SUFFIXES
from ssgan.data.label_table import read_label_table
from ssgan.errors import UserError
from ssgan.labeling import page, session
from ssgan.labeling.background import BackgroundTrainer
from ssgan.labeling.page import LabelingApp
from ssgan.labeling.session import LabelingSession, rank
from ssgan.labeling.store import Change, LabelStore, open_store, timestamp
from ssgan.labeling.tables import Hint, read_review

PORT = 8731
ROOT = f"http://127.0.0.1:{PORT}"


def tall() -> bytes:
    """A JPEG of 60 x 30 that is shown upright as 30 x 60."""
    exif, stream = Image.Exif(), io.BytesIO()
    exif[image_io.ORIENTATION] = 6
    Image.new("RGB", (60, 30), "red").save(stream, "JPEG", exif=exif)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.png").write_bytes(b"outside")
    files = {f"{i}.png": grey(i) for i in range(6)}
    return write(tmp_path / "pictures", {**files, "sub/tall.jpg": tall()})


@pytest.fixture
def app(folder: Path) -> Iterator[LabelingApp]:
    with file_tree.open_tree(folder, image_io.SUFFIXES) as tree, open_store(folder) as store:
        pictures = LabelingSession(tree.pictures, store, ["cat", "dog"])
        trainer = BackgroundTrainer(folder, store.path, folder.parent / "runs", None, 0, pictures.set_hints)
        yield LabelingApp(tree, pictures, trainer, PORT)


class TabClient:
    """A tab of a browser that has opened the link."""

    def __init__(self, app: LabelingApp, name: str = "a") -> None:
        self.app, self.name = app, name
        self.client = TestClient(app.app, base_url=ROOT + app.base)
        assert self.client.get(app.link).status_code == 200

    def post(self, work: str, headers: dict[str, str] | None = None, /, **body: Any) -> Any:
        answer = self.client.post(
            f"/do/{work}",
            json={"tab": self.name, **body},
            headers={page.TOKEN_HEADER: self.app.page_token} | (headers or {}),
        )
        return answer if headers is not None else (answer.raise_for_status() and answer.json())

    def answer(self, file: str, version: int = 0, action: str = "label", label: str = "cat") -> Any:
        return self.post("answer", items=[[file, version]], action=action, label=label)

    def files(self, **body: Any) -> list[str]:
        return [picture["file"] for picture in self.post("next", **body)["pictures"]]

    def picture(self, name: str, side: int = 1600) -> Any:
        return self.client.get(f"/picture/{self.app.start}/{self.app.session.places[name]}/{side}")


# Access control


def test_link_sets_a_strict_http_only_cookie(app: LabelingApp) -> None:
    client = TestClient(app.app, base_url=ROOT)
    answer = client.get(app.link)
    # No redirect: browsers do not send a strict cookie with it if the link is on a page of another site.
    assert (answer.status_code, answer.url.path) == (200, "/")
    assert f'content="0;url={app.base}"' in answer.text
    assert app.link_token not in answer.text
    assert {"HttpOnly", "SameSite=strict", f"Path={app.base}"} <= set(answer.headers["set-cookie"].split("; "))
    assert app.link_token not in answer.headers["set-cookie"]
    # Without an icon in the page, browsers ask for /favicon.ico, which is refused and reported as an error.
    assert f'<link rel="icon" type="image/svg+xml" href="{app.base}static/icon.svg">' in answer.text
    assert client.get(f"{app.base}static/icon.svg").status_code == 200
    assert client.get("/").status_code == 403  # browsers send the cookie only to the path of the page
    shown = client.get(app.base)
    assert shown.status_code == 200
    assert app.link_token not in shown.text
    policy = shown.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert shown.headers["x-content-type-options"] == "nosniff"
    assert shown.headers["cache-control"] == "no-store"
    assert not any(name.startswith("access-control") for name in shown.headers)


@pytest.mark.parametrize("token", ["", "x", "%C3%A9", "0" * 32])
def test_wrong_token_is_refused(app: LabelingApp, token: str) -> None:
    client = TestClient(app.app, base_url=ROOT)
    below = app.base.rstrip("/")
    for path in ("/", f"/?token={token}", f"{below}/static/page.js", f"{below}/picture/{app.start}/0/1600"):
        answer = client.get(path, headers={"Cookie": f"ssgan-label-{PORT}={token}"})
        assert answer.status_code == 403
        assert "with the link that" in answer.text
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": f"127.0.0.1:{PORT + 1}"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({page.TOKEN_HEADER: "x"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Length": str(page.BODY_LIMIT + 1)}, 413),
        ({"Transfer-Encoding": "chunked"}, 413),
    ],
)
def test_refuses_changes_with_wrong_host_origin_token_or_body(
    app: LabelingApp, headers: dict[str, str], status: int
) -> None:
    tab = TabClient(app)
    body = {"items": [["0.png", 0]], "action": "label", "label": "cat"}
    assert tab.post("answer", headers, **body).status_code == status
    assert app.session.store["0.png"] is None
    assert tab.post("answer", {}, **body).status_code == 200


def test_accepts_localhost_and_refuses_other_http_methods(app: LabelingApp) -> None:
    tab = TabClient(app)
    assert tab.client.get("/", headers={"Host": f"localhost:{PORT}"}).status_code == 200
    assert tab.client.put("/").status_code == 405


def test_default_port_may_be_omitted_in_host_and_origin(app: LabelingApp) -> None:
    guard = page.Guard(app.app, 80, app.base, app.link_token, app.page_token)
    client = TestClient(guard, base_url="http://127.0.0.1")
    assert client.get(f"/?token={app.link_token}").status_code == 200
    assert client.get("/", headers={"Host": "127.0.0.1:81"}).status_code == 421
    for origin, status in (("http://127.0.0.1", 200), ("http://127.0.0.1:81", 403)):
        assert client.get(f"/?token={app.link_token}", headers={"Origin": origin}).status_code == status


def test_picture_that_becomes_readable_is_shown(app: LabelingApp) -> None:
    session = app.session
    for name in session.names:
        session.mark_unreadable(name, "is damaged")
    assert session.next_pictures("a") == []
    session.mark_readable("0.png")
    assert [picture["file"] for picture in session.next_pictures("a")] == ["0.png"]


def test_link_for_browser_works_once(app: LabelingApp) -> None:
    """Other users of the machine can see the arguments of a process."""
    first, second = (TestClient(app.app, base_url=ROOT) for _ in range(2))
    assert first.get(app.link_for_browser).status_code == 200
    assert second.get(app.link_for_browser).status_code == 403
    assert second.get(app.link).status_code == 200
    assert first.get(app.base).status_code == 200


def test_repeated_request_is_executed_once(app: LabelingApp) -> None:
    """A response may be lost: the same request gets the same result, so that it can be undone."""
    tab = TabClient(app)
    body = {"id": "1", "items": [["0.png", 0]], "action": "label", "label": "cat"}
    first, again = tab.post("answer", **body), tab.post("answer", **body)
    assert first["saved"] == again["saved"] == [["0.png", 1]]
    assert again["changed"] == []
    assert app.session.store.line_count == 1
    undo = {"id": "2", "items": first["saved"]}
    assert [tab.post("undo", **undo)["changed"] for _ in range(2)] == [[], []]
    assert app.session.store.line_count == 2


def test_refused_answer_adds_no_class(app: LabelingApp) -> None:
    tab, other = TabClient(app), TabClient(app, "b")
    other.answer("0.png")
    late = tab.answer("0.png", label="mouse")
    assert (late["saved"], app.session.classes) == ([], ["cat", "dog"])


def test_skipped_pictures_are_shown_again_in_order_of_skipping(app: LabelingApp) -> None:
    tab, shown = TabClient(app), []
    while files := tab.files():
        tab.answer(files[0], action="skip")
    for _ in range(7):
        time.sleep(0.002)  # times of answers are in milliseconds
        picture = tab.post("next", skipped=True)["pictures"][0]
        shown.append(picture["file"])
        tab.answer(picture["file"], picture["version"], action="skip")
    assert sorted(shown) == sorted(app.session.names)


ANSWER = '"items": [["0.png", 0]], "action": "label", "label": "cat"'


@pytest.mark.parametrize(
    "body",
    [
        *("", "[]", "{", '{"tab": 1}', '{"tab": "a", "items": 3, "action": "label"}', "[" * 9999),
        f"{{{ANSWER}}}",
        f'{{"tab": "a", "exceptions": 5, {ANSWER}}}',
        f'{{"tab": "a", "exceptions": [5], {ANSWER}}}',
        f'{{"tab": "a", {ANSWER.replace(", 0]", ", 0.0]")}}}',
        f'{{"tab": "a", {ANSWER.replace(", 0]", ", true]")}}}',
        *(f'{{"tab": "a", {ANSWER.replace(chr(34) + "cat" + chr(34), label)}}}' for label in ("null", '["cat"]', "3")),
        '{"tab": "a", "items": [["\\ud800", 0]], "action": "label", "label": "cat"}',
        '{"tab": "a", "items": [["0.png", 0]], "action": "label", "label": "\\ud800"}',
    ],
)
def test_malformed_request_returns_an_error_and_changes_nothing(app: LabelingApp, body: str) -> None:
    client = TabClient(app).client
    headers = {page.TOKEN_HEADER: app.page_token, "Content-Type": "application/json"}
    answer = client.post("/do/answer", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (400, {"error": "The request is not understood: reload the page."})
    assert app.session.store.line_count == 0
    assert app.session.classes == ["cat", "dog"]


def test_malformed_request_starts_no_training(app: LabelingApp) -> None:
    tab = TabClient(app)
    for number in range(4):
        tab.answer(f"{number}.png", label="cat" if number % 2 else "dog")
    headers = {page.TOKEN_HEADER: app.page_token, "Content-Type": "application/json"}
    assert tab.client.post("/do/train", content="{}", headers=headers).status_code == 400
    assert not app.trainer.status()["waiting"]


def test_unknown_pictures_are_not_found(app: LabelingApp) -> None:
    tab = TabClient(app)
    for place, side in (
        ("7", "320"),
        ("9" * 5000, "320"),
        ("0", "9" * 5000),
        ("-1", "320"),
        ("x", "320"),
        ("0", "321"),
    ):
        assert tab.client.get(f"/picture/{app.start}/{place}/{side}").status_code == 404
    undone = tab.post("undo", items=[["../../x", 0]])
    assert (undone["pictures"], undone["changed"]) == ([], ["There is no picture ../../x here."])
    assert tab.post("answer", items=[], action="label", label="new")["counts"]["classes"] == [
        {"name": "cat", "count": 0},
        {"name": "dog", "count": 0},
    ]


def test_refuses_versions_that_are_not_finite_numbers(app: LabelingApp) -> None:
    tab = TabClient(app)
    headers = {page.TOKEN_HEADER: app.page_token, "Content-Type": "application/json"}
    for number in ("Infinity", "1e999", "NaN"):
        body = f'{{"tab": "{tab.name}", "items": [["0.png", {number}]], "action": "label", "label": "cat"}}'
        for work in ("answer", "undo"):
            assert tab.client.post(f"/do/{work}", content=body, headers=headers).status_code == 400


# Responses


def test_picture_is_sent_upright_as_png(app: LabelingApp) -> None:
    answer = TabClient(app).picture("sub/tall.jpg")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"].startswith("private")
    assert Image.open(io.BytesIO(answer.content)).size == (30, 60)


def test_large_picture_is_resized_and_12_bit_picture_is_scaled(app: LabelingApp, folder: Path) -> None:
    Image.new("RGB", (4000, 1000), "blue").save(folder / "0.png")
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(folder / "1.png")
    tab = TabClient(app)
    large = tab.picture("0.png")
    assert large.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(large.content)).size == (1600, 400)
    assert Image.open(io.BytesIO(tab.picture("0.png", 320).content)).size == (320, 80)
    assert Image.open(io.BytesIO(tab.picture("1.png").content)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "content",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"<html><script>alert(1)</script></html>",
        b"",
        png(100_000, 100_000),
    ],
    ids=["svg", "html", "empty", "decompression bomb"],
)
def test_unreadable_picture_is_not_sent_and_is_skipped(app: LabelingApp, folder: Path, content: bytes) -> None:
    (folder / "0.png").write_bytes(content)
    tab = TabClient(app)
    answer = tab.picture("0.png")
    assert answer.status_code == 415
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith("0.png ")
    assert b"script" not in answer.content
    seen = set()
    while files := tab.files():
        seen.update(files)
        tab.answer(files[0])
    assert "0.png" not in seen
    assert tab.post("status")["counts"]["unreadable"] == 1


@pytest.mark.parametrize(
    "path",
    [
        "/picture/{start}/99/1600", "/picture/{start}/-1/1600", "/picture/{start}/0/9999", "/picture/0/0/1600",
        "/picture/{start}/..%2fsecret.png/1600", "/static/../page.py", "/static/..%2f..%2fpage.py", "/static/page.html",
        "/secret.png",
    ],
)  # fmt: skip
def test_path_traversal_returns_404(app: LabelingApp, path: str) -> None:
    assert TabClient(app).client.get(path.format(start=app.start)).status_code == 404


def test_picture_replaced_by_a_pipe_is_not_read(app: LabelingApp, folder: Path) -> None:
    import os

    (folder / "0.png").unlink()
    os.mkfifo(folder / "0.png")
    assert TabClient(app).picture("0.png").status_code == 415


def test_refuses_answers_with_unknown_picture_empty_label_or_unknown_action(app: LabelingApp) -> None:
    tab = TabClient(app)
    refused = tab.post("answer", {}, items=[["../secret.png", 0]], action="label", label="cat")
    assert (refused.status_code, refused.json()["error"]) == (409, "There is no picture ../secret.png here.")
    assert tab.post("answer", {}, items=[["0.png", 0]], action="label", label=" ").status_code == 409
    assert tab.post("answer", {}, items=[["0.png", 0]], action="folder").status_code == 400


def test_names_are_escaped_on_the_page(tmp_path: Path) -> None:
    folder = write(tmp_path / "<script>", {"0.png": grey(0)})
    with file_tree.open_tree(folder, image_io.SUFFIXES) as tree:
        pictures = LabelingSession(tree.pictures, LabelStore(folder / "labels.csv"), [])
        trainer = BackgroundTrainer(folder, folder / "labels.csv", tmp_path / "runs", None, 0, pictures.set_hints)
        shown = TabClient(LabelingApp(tree, pictures, trainer, PORT)).client.get("/").text
    assert "<h1>&lt;script&gt;</h1>" in shown


# Tabs


def test_tabs_get_different_pictures(app: LabelingApp) -> None:
    a, b = TabClient(app, "a"), TabClient(app, "b")
    of_a, of_b = a.files(), b.files()
    assert len(of_a) == len(of_b) == 3
    assert not set(of_a) & set(of_b)
    assert a.files(holding=of_a) == of_a
    a.post("release")
    assert set(b.files(holding=of_b[:1])) <= {of_b[0], *of_a, *of_b}


def test_pictures_of_an_inactive_tab_are_released(app: LabelingApp, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = TabClient(app, "a"), TabClient(app, "b")
    first = a.files()
    monkeypatch.setattr(session.time, "monotonic", lambda clock=session.time.monotonic: clock() + 100)
    a.post("status")
    monkeypatch.undo()
    now = session.time.monotonic()
    monkeypatch.setattr(session.time, "monotonic", lambda: now + 200)  # 100 seconds after its last request
    assert not set(first) & set(b.files())
    monkeypatch.setattr(session.time, "monotonic", lambda: now + 600)
    assert set(first) & set(b.files())


def test_second_answer_to_a_picture_is_refused_with_a_message(app: LabelingApp) -> None:
    a, b = TabClient(app, "a"), TabClient(app, "b")
    assert a.answer("0.png")["saved"] == [["0.png", 1]]
    late = b.answer("0.png", label="dog")
    assert late["saved"] == []
    assert late["changed"] == ["0.png was labelled cat in another tab; that answer stays."]
    assert app.session.store["0.png"].label == "cat"  # type: ignore[union-attr]
    assert b.answer("0.png", 1, label="dog")["saved"] == [["0.png", 2]]
    assert a.post("undo", items=[["0.png", 1]])["changed"] == [
        "0.png was labelled dog in another tab; that answer stays."
    ]


def test_undo_brings_the_picture_back(app: LabelingApp) -> None:
    tab = TabClient(app)
    (file, *_) = tab.files()
    tab.answer(file, label="bird")
    undone = tab.post("undo", items=[[file, 1]])
    assert [picture["file"] for picture in undone["pictures"]] == [file]
    assert undone["counts"]["labeled"] == 0
    # The answer had added the class; a class with other labels, or given at the start, stays.
    assert [one["name"] for one in undone["counts"]["classes"]] == ["cat", "dog"]
    for name in tab.files()[:2]:
        tab.answer(name, label="bird")
    undone = tab.post("undo", items=[[name, 1]])
    assert [one["name"] for one in undone["counts"]["classes"]] == ["cat", "dog", "bird"]


def test_skipped_pictures_are_shown_again_on_request(app: LabelingApp) -> None:
    tab = TabClient(app)
    (file, *_) = tab.files()
    tab.answer(file, action="skip")
    assert file not in tab.files()
    assert tab.files(skipped=True) == [file]
    counts = tab.answer("1.png" if file != "1.png" else "2.png", action="none")["counts"]
    assert (counts["skipped"], counts["none"], counts["labeled"]) == (1, 1, 0)


def test_a_large_folder_is_listed_without_opening_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "many", {f"{i}.png": b"" for i in range(2000)})
    opened: list[object] = []
    monkeypatch.setattr(file_tree, "open_file", lambda path: opened.append(path))
    with file_tree.open_tree(folder, image_io.SUFFIXES) as tree, open_store(folder) as store:
        pictures = LabelingSession(tree.pictures, store, ["cat", "dog"])
        assert len(pictures.next_pictures("a")) == session.AHEAD
        assert pictures.counts()["total"] == 2000
    assert opened == []


# Order and groups


def test_rank_puts_suggested_then_uncertain_pictures_first() -> None:
    names = [f"{i}.png" for i in range(5)]
    hints = {
        "0.png": Hint("cat", 0.9, 0.8),
        "1.png": Hint("cat", 0.5, 0.1),
        "2.png": Hint("dog", 0.5, 0.05, unlike=True),
        "3.png": Hint("dog", 0.6, 0.2),
    }
    assert rank(names, hints, ["4.png"]) == ["4.png", "1.png", "3.png", "0.png", "2.png"]
    assert rank(names, {}) == rank(names[:], {})
    assert rank(names, {}) != names


def test_group_is_labeled_except_for_its_exceptions(app: LabelingApp) -> None:
    tab = TabClient(app)
    assert tab.post("group")["pictures"] == []
    app.session.set_hints({f"{i}.png": Hint("cat" if i < 4 else "dog", 0.5 + i / 10, 0.1) for i in range(6)})
    group = tab.post("group")
    assert group["label"] == "cat"
    assert group["sizes"] == {"cat": 4, "dog": 2}
    files = [picture["file"] for picture in group["pictures"]]
    assert files == ["3.png", "2.png", "1.png", "0.png"]  # the most probable first
    assert TabClient(app, "b").post("group", label="cat")["label"] == "dog"  # the first tab holds the cats
    saved = tab.post("answer", items=[[f, 0] for f in files[1:]], action="label", label="cat", exceptions=files[:1])[
        "saved"
    ]
    assert [file for file, _ in saved] == files[1:]
    assert tab.post("group", label="cat")["sizes"].get("cat") is None
    assert "3.png" in [file for _ in range(3) for file in tab.files()]


def test_exceptions_of_a_group_last_until_a_new_model(app: LabelingApp) -> None:
    """The hints of a model come twice, the second time with the order that was chosen by them."""
    tab, hints = TabClient(app), {f"{i}.png": Hint("cat", 0.5 + i / 10, 0.1) for i in range(4)}
    app.session.set_hints(hints)
    first, *others = [picture["file"] for picture in tab.post("group")["pictures"]]
    tab.post("answer", items=[[others[0], 0]], action="label", label="cat", exceptions=[first])
    app.session.set_hints(hints, others)
    assert [picture["file"] for picture in tab.post("group", label="cat")["pictures"]] == others[1:]
    app.session.set_hints({**hints, first: Hint("cat", 0.9, 0.1)})
    assert first in [picture["file"] for picture in tab.post("group", label="cat")["pictures"]]


def test_review_shows_pictures_in_the_order_of_its_table(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "audit.csv"
    table.write_text("path,given,suggested,margin,reason\n4.png,cat,dog,0.9,contradicted\n2.png,dog,cat,0.5,copy\n")
    with open_store(folder) as store:
        names = [f"{i}.png" for i in range(6)]
        first = LabelingSession(names, store, ["cat", "dog"])
        first.answer([("4.png", 0)], "label", "cat")
        hints, missing = read_review(table, names, folder)
        assert missing == []
        time.sleep(0.005)  # times are in milliseconds
        again = LabelingSession(list(hints), store, [], timestamp(), hints)
        time.sleep(0.005)
        (entry, other) = again.next_pictures("a")
        assert (entry["file"], entry["given"], entry["guess"], entry["reason"]) == (
            "4.png",
            "cat",
            "dog",
            "contradicted",
        )
        assert again.answer([("4.png", entry["version"])], "label", "dog")["saved"] == [("4.png", 2)]
        assert [one["file"] for one in again.next_pictures("a")] == [other["file"]] == ["2.png"]


def test_a_picture_that_is_skipped_in_a_review_keeps_its_label(folder: Path) -> None:
    """Also in the file. An unreadable picture is counted as unreadable, whatever its earlier label."""
    with open_store(folder) as store:
        store.append([Change(f"{i}.png", "cat", "label") for i in range(3)])
        time.sleep(0.005)
        review = LabelingSession([f"{i}.png" for i in range(3)], store, [], timestamp(), {})
        time.sleep(0.005)
        assert review.answer([("0.png", 1)], "skip")["saved"] == [("0.png", 2)]
        review.mark_unreadable("1.png", "is damaged")
        counts = {key: review.counts()[key] for key in ("total", "labeled", "skipped", "unreadable")}
        assert counts == {"total": 3, "labeled": 0, "skipped": 1, "unreadable": 1}
        assert [one["file"] for one in review.next_pictures("a")] == ["2.png"]
        assert [(one["file"], one["given"]) for one in review.next_pictures("a", skipped=True)] == [("0.png", "cat")]
        assert store.label_counts() == {"cat": 3}
        review.undo("a", [("0.png", 2)])
        assert store.label("0.png") == "cat"
    assert {row.file: row.label for row in read_label_table(folder / "labels.csv").rows}["0.png"] == "cat"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no picture"),
        ("a,b\n1,2\n", "names no picture"),
        ("file\n9.png\n", "line 2: there is no picture '9.png'"),
    ],
)
def test_review_refuses_tables_without_known_pictures(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read_review(tmp_path / "t.csv", ["1.png", "2.png"], tmp_path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_review_accepts_paths_and_skips_missing_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delimiter: str
) -> None:
    """Tables of `ssgan predict` have paths relative to the current folder; Excel writes semicolons."""
    monkeypatch.chdir(tmp_path)
    rows = [
        ["file", "class", "probability"],
        ["in/2.png", "cat", "0.5"],
        ["in/9.png", "cat", "0.6"],
        ["1.png", "dog", "0.9"],
    ]
    (tmp_path / "t.csv").write_text("\n".join(map(delimiter.join, rows)), encoding="utf-8-sig")
    hints, missing = read_review(Path("t.csv"), ["1.png", "2.png"], Path("in"))
    assert list(hints) == ["2.png", "1.png"]
    assert (hints["2.png"].label, hints["2.png"].probability) == ("cat", 0.5)
    assert missing == ["in/9.png"]


@pytest.mark.parametrize(
    "content",
    [
        "file_name,class\nbär 1.png,cat\n".encode(),
        "Image Path;class\nbär 1.png;cat\n".encode("cp1252"),
        "sep=;\r\nfile;class\r\nbär 1.png;cat\r\n".encode("utf-16"),
        "file|class\n./ba\u0308r 1.png|cat\n".encode(),
    ],
    ids=["another header", "Windows-1252", "UTF-16 of Excel", "vertical bars, decomposed Unicode"],
)
def test_review_reads_all_formats_of_label_tables(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    hints, missing = read_review(tmp_path / "t.csv", ["bär 1.png", "2.png"], tmp_path)
    assert [(name, hint.label) for name, hint in hints.items()] == [("bär 1.png", "cat")]
    assert missing == []


def test_review_accepts_file_names_that_are_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has them as written by `predict`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_bytes(b"file,class\nin/b\xe4r.png,cat\n")
    assert list(read_review(Path("t.csv"), ["b\\udce4r.png"], Path("in")).hints) == ["b\\udce4r.png"]


def test_order_of_classes_is_kept_after_restart(folder: Path) -> None:
    """The order is as given, not that of the picture names, and includes classes that have no label yet."""
    names = [f"{i}.png" for i in range(6)]
    with open_store(folder) as store:
        first = LabelingSession(names, store, ["zebra", "glass", "apple"])
        first.answer([("0.png", 0)], "label", "glass")
        first.answer([("1.png", 0)], "label", "new")
        assert first.classes == ["zebra", "glass", "apple", "new"]
    with open_store(folder) as store:
        assert LabelingSession(names, store, store.read_classes()).classes == first.classes
        (folder / ".labels.csv.classes").unlink()
        assert LabelingSession(names, store, store.read_classes()).classes == ["glass", "new"]  # in order of first use
    with open_tree(folder, SUFFIXES) as tree:
        assert not any("classes" in name for name in (*tree.pictures, *tree.ignored))


def test_labels_of_pictures_that_are_gone_do_not_count(folder: Path) -> None:
    with open_store(folder) as store:
        store.append([Change("0.png", "cat", "label"), Change("gone.png", "dog", "label")])
    with open_store(folder, present=[f"{i}.png" for i in range(6)]) as store:
        session = LabelingSession(["0.png"], store, [])
        assert session.label_counts() == {"cat": 1}
        assert store.notes == [f"{folder}/labels.csv names 1 picture not in {folder}: not counted."]
        store.undo([("gone.png", 1)])
        assert session.label_counts() == {"cat": 1}


def test_labels_of_folders_that_are_no_longer_given_are_undone(folder: Path) -> None:
    given = {"a/0.png": "a", "b/1.png": "b"}
    with open_store(folder, given) as store:
        store.append([Change("b/1.png", "cat", "label")])
        assert store.folder_labels() == {"a": 1}
    with open_store(folder, {}) as store:
        assert [store["a/0.png"], store["b/1.png"].label] == [None, "cat"]
        assert store.label_counts() == {"cat": 1}
    with open_store(folder, given) as store:
        assert store["a/0.png"].label == "a"


def test_a_skipped_label_of_a_folder_is_undone_with_it(folder: Path) -> None:
    given = {"a/0.png": "a", "b/1.png": "b"}
    with open_store(folder, given) as store:
        session = LabelingSession([*given], store, ["a", "b"], "0", {})
        session.answer([("a/0.png", 1)], "skip")
        session.answer([("a/0.png", 2)], "skip")
        assert store.label_counts() == {"a": 1, "b": 1}
    with open_store(folder, {"b/1.png": "b"}) as store:
        assert store.label_counts() == {"b": 1}
        assert store["a/0.png"] is None


def test_skipping_a_picture_of_no_class_keeps_its_answer(folder: Path) -> None:
    with open_store(folder) as store:
        session = LabelingSession(["0.png"], store, ["a"])
        session.answer([("0.png", 0)], "none")
        session.answer([("0.png", 1)], "skip")
        assert [answer.action for answer in store.answers("0.png")] == ["none", "none"]


def test_incremental_counts_match_recomputed_counts(folder: Path) -> None:
    """Each line updates the counts; they equal the counts of a new session."""
    random = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(6)]
    with open_store(folder) as store:
        session = LabelingSession(names, store, ["cat", "dog"])
        for _ in range(200):
            name = str(random.choice(names))
            if random.random() < 0.3 and store[name]:
                session.undo("a", [(name, store.version(name))])
            else:
                action = str(random.choice(["label", "none", "skip"]))
                session.answer([(name, store.version(name))], action, str(random.choice(["cat", "dog"])))
            anew = LabelingSession(names, store, ["cat", "dog"])
            assert session.counts() == anew.counts()
            answers = [store[name] for name in names]
            assert session.label_counts() == Counter(one.label for one in answers if one and one.label)
            shown = {one["file"] for one in session.next_pictures("a")}
            assert shown == {one["file"] for one in anew.next_pictures("a")}


def test_review_handles_invalid_numbers_bytes_and_line_separators(folder: Path, tmp_path: Path) -> None:
    """JSON has no NaN, and UTF-8 no lone surrogates; a Unicode line separator in a name does not end a line."""
    write(folder, {"x\u2028y.png": grey(1)})
    table = tmp_path / "t.csv"
    rows = [b"file,probability,reason", b"0.png,nan,caf\xe9", b"1.png,inf,", b"2.png,1.5,", b"3.png,0.5,"]
    table.write_bytes(b"\n".join([*rows, "x\u2028y.png,0.25,".encode()]))
    names = [f"{i}.png" for i in range(4)] + ["x\u2028y.png"]
    hints, missing = read_review(table, names, folder)
    assert [hints[name].probability for name in names] == [None, None, None, 0.5, 0.25]
    assert missing == []
    hints["0.png"].reason.encode()
