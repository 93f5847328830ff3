"""The labelling page in a real browser: keys, groups, undo, a killed server, two tabs, and a phone."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from headless_browser import CHROMIUM, Browser, Tab, headless
from labeling_server import Server
from pictures_on_disk import grey, write

from ssgan.data.label_table import read_label_table
from ssgan.labeling.session import AHEAD

pytest.importorskip("websockets", reason="needs the test extra")
pytest.importorskip("uvicorn", reason="needs the extra label")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

COUNT = 180
LABELS = ["cat" if i % 2 else "dog" for i in range(COUNT)]
IDLE = "state.shown && !state.busy"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with headless() as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of pictures, and next to it a table with a predicted class for each picture."""
    folder = write(tmp_path / "pictures", {f"{i:03}.png": grey(i) for i in range(COUNT)})
    lines = [f"{i:03}.png,{label},{1 - i / 1000}\n" for i, label in enumerate(LABELS)]
    (tmp_path / "table.csv").write_text("file,class,probability\n" + "".join(lines))
    return folder


def shown(tab: Tab) -> str:
    tab.wait(IDLE)
    return str(tab.value("state.pictures[0].file"))


def press(tab: Tab, key: str) -> str:
    """Press a key, wait until the answer is saved and the next picture is shown, and return the answered file."""
    file = shown(tab)
    tab.press(key)
    tab.wait(f"{IDLE} && state.pictures[0].file !== '{file}'")
    return file


def labels(folder: Path) -> dict[str, str | None]:
    return {row.file: row.label for row in read_label_table(folder / "labels.csv").rows}


def test_labeling_session_by_keyboard_and_groups(folder: Path, browser: Browser) -> None:
    options = ("--only", str(folder.parent / "table.csv"), "--classes", "dog,cat", "--train-every", "0")
    given: dict[str, str | None] = {}
    with Server(folder, *options) as server:
        tab = browser.tab(server.link)
        # 50 answers by keyboard: a skip, a picture of no class, an undo, new classes, Enter for the predicted class.
        for i in range(44):
            file = press(tab, "1" if i % 2 else "2")
            given[file] = "dog" if i % 2 else "cat"
            assert file in tab.text("#saved")
        given[press(tab, " ")] = None
        given[press(tab, "0")] = None
        undone = press(tab, "1")
        tab.press("Backspace")
        tab.wait(f"{IDLE} && state.pictures[0].file === '{undone}'")
        assert "Undone" in tab.text("#saved")
        given[press(tab, "Enter")] = LABELS[int(undone[:3])]
        for name in ("cow", "pig"):
            file = shown(tab)
            tab.press("+")
            tab.wait("document.activeElement.id === 'new-name'")
            tab.type(name)
            tab.press("Enter")
            tab.wait(f"{IDLE} && state.pictures[0].file !== '{file}'")
            given[file] = name
        file = press(tab, "3")
        given[file] = "cow"
        assert f"{file} saved as cow (48 of 180)" in tab.text("#saved")
        assert tab.value("document.querySelector('#saved').getAttribute('aria-live')") == "polite"
        assert tab.errors == []
        # The server is killed between two answers.
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(30)
        assert labels(folder) == given
        waiting = shown(tab)
        tab.press("1")
        tab.wait("!document.querySelector('#banner').hidden")
        assert "The last answer may not be saved" in tab.text("#banner")
        assert waiting not in labels(folder)
    with Server(folder, *options) as server:
        tab = browser.tab(server.link)
        assert shown(tab) == waiting
        assert "48 of 180" in tab.text("#count")
        # 100 answers by groups, with two exceptions in the first group.
        tab.click("#view-group")
        taken = 0
        while taken < 100:
            tab.wait("!state.busy && document.querySelectorAll('.cell').length > 0")
            label, files = tab.value("[state.group.label, state.group.pictures.map((picture) => picture.file)]")
            left = [] if taken else [files[0], files[3]]
            if left:
                tab.click(".cell", 0)
                tab.value("document.querySelectorAll('.cell')[2].focus()")
                tab.press("ArrowRight")
                tab.press(" ")
                assert "leave 2" in tab.text("#take")
            tab.press("Enter")
            tab.wait(f"!state.busy && state.group.pictures[0]?.file !== '{files[0]}'")
            chosen = [file for file in files if file not in left]
            given |= dict.fromkeys(chosen, label)
            taken += len(chosen)
        assert labels(folder) == given
        tab.press("Backspace")
        tab.wait("!state.busy && document.querySelector('#saved').innerText.startsWith('Undone')")
        assert len(labels(folder)) == len(given)
        assert sum(label is None for label in labels(folder).values()) == 2 + len(chosen)
        assert tab.errors == []


def test_keys_act_on_pictures_after_a_click_on_a_view(folder: Path, browser: Browser) -> None:
    """Regression test: Enter and Space pressed the clicked button again."""
    with Server(folder, "--only", str(folder.parent / "table.csv"), "--train-every", "0") as server:
        tab = browser.tab(server.link)
        tab.wait(IDLE)
        for _ in range(2):
            for view in ("#view-group", "#view-one"):
                tab.value(f"document.querySelector('{view}').focus()")
                tab.click(view)
                tab.wait("!state.busy")
        file = shown(tab)
        tab.press(" ")
        tab.wait(f"{IDLE} && state.pictures[0].file !== '{file}'")
        tab.value("document.querySelector('#view-group').focus()")
        tab.click("#view-group")
        tab.wait("state.view === 'group' && !state.busy && state.group.pictures.length > 0")
        tab.press("Enter")
        tab.wait("!state.busy && state.counts.labeled === 24")


def test_click_during_a_fetch_is_executed_afterwards(folder: Path, browser: Browser) -> None:
    """Regression test: a click on "Train now" was lost just after a new order of the pictures arrived."""
    with Server(folder, "--only", str(folder.parent / "table.csv"), "--train-every", "0") as server:
        tab = browser.tab(server.link)
        tab.wait(IDLE)
        for id, done in (("view-group", "state.view === 'group'"), ("view-one", "state.view === 'one'")):
            tab.wait("!state.busy")
            tab.value(
                "(() => { attempt(() => new Promise((done) => setTimeout(done, 300)), true);"
                f"document.querySelector('#{id}').click(); return state.busy }})()"
            )
            tab.wait(f"!state.busy && {done}")
        assert tab.errors == []


def answer_during_a_fetch(tab: Tab) -> tuple[str, str]:
    """Answer a picture where each fetch of more takes a second; return it and the next one, which shows meanwhile."""
    first = shown(tab)
    tab.value(
        "window.send = fetch, fetch = async (path, how) => {"
        " if (path === 'do/next') await new Promise((done) => setTimeout(done, 1000));"
        " return send(path, how); }, 0"
    )
    tab.press("1")
    tab.wait(f"state.shown && state.shown !== '{first}'")
    second = tab.value("state.busy && state.shown")
    assert second, "the next pictures have come before a key can be pressed"
    return first, second


def test_key_pressed_during_a_fetch_answers_the_shown_picture(folder: Path, browser: Browser) -> None:
    """Regression test: the next picture was already shown, but the key had no effect."""
    with Server(folder, "--classes", "dog,cat", "--train-every", "0") as server:
        tab = browser.tab(server.link)
        first, second = answer_during_a_fetch(tab)
        tab.press("2")
        tab.wait("!state.busy && state.counts.labeled === 2")
        assert labels(folder) == {first: "dog", second: "cat"}


def test_undo_during_a_fetch_takes_back_the_waiting_answer(folder: Path, browser: Browser) -> None:
    """The picture before was undone instead, and the waiting answer was lost."""
    with Server(folder, "--classes", "dog,cat", "--train-every", "0") as server:
        tab = browser.tab(server.link)
        first, second = answer_during_a_fetch(tab)
        tab.press("2")
        tab.press("Backspace")
        tab.wait("!state.busy")
        assert labels(folder) == {first: "dog"}
        assert shown(tab) == second
        assert "not saved" in tab.text("#saved")


def test_skipped_pictures_are_shown_until_none_is_left(tmp_path: Path, browser: Browser) -> None:
    """Then the page returns to the pictures without an answer."""
    folder = write(tmp_path / "pictures", {f"{i}.png": grey(i) for i in range(3)})
    with Server(folder, "--classes", "dog,cat", "--train-every", "0") as server:
        tab = browser.tab(server.link)
        press(tab, "1")
        press(tab, " ")
        tab.press(" ")
        tab.wait("!document.querySelector('#message').hidden")
        tab.click("#message button")
        tab.wait("state.skipped && state.shown")
        press(tab, "2")
        tab.press("2")
        tab.wait("!document.querySelector('#message').hidden && !state.skipped")
        tab.press("Backspace")
        tab.wait("state.shown")
        tab.press("1")
        tab.wait("!state.busy && state.counts.labeled === 3")
        assert sorted(labels(folder).values()) == ["cat", "dog", "dog"]


def test_two_tabs_label_different_pictures(folder: Path, browser: Browser) -> None:
    with Server(folder, "--classes", "dog,cat", "--train-every", "0") as server:
        tabs = [browser.tab(server.link), browser.tab(server.link)]
        given = {}
        for i in range(10):
            given[press(tabs[i % 2], "12"[i % 2])] = ("dog", "cat")[i % 2]
        assert labels(folder) == given
        assert len(given) == 10
        # Both tabs show one picture: the second answer is refused with a message, and the tab shows the next picture.
        file, picture = shown(tabs[0]), tabs[0].value("state.pictures[0]")
        place = f"file: '{file}', place: {picture['place']}"
        tabs[1].value(f"state.pictures[0] = {{...state.pictures[0], {place}}}, show()")
        press(tabs[0], "1")
        press(tabs[1], "2")
        assert tabs[1].text("#saved") == f"{file} was labelled dog in another tab; that answer stays."
        assert labels(folder)[file] == "dog"


def test_answers_apply_to_the_shown_picture_until_all_are_answered(tmp_path: Path, browser: Browser) -> None:
    """This tab gets the pictures of a closed tab, and the page reports that every picture has an answer."""
    folder = write(tmp_path / "pictures", {f"{i}.png": grey(i) for i in range(4)})
    with Server(folder, "--classes", "dog,cat", "--train-every", "0") as server:
        tab, other = browser.tab(server.link), browser.tab(server.link)
        held = shown(other)
        for _ in range(2):
            press(tab, "1")
        other.open("about:blank")
        for key in "12":
            file = shown(tab)
            assert tab.text("#caption").startswith(file)
            tab.press(key)
            tab.wait(f"!state.busy && state.pictures[0]?.file !== '{file}'")
        assert labels(folder)[held] == "cat"
        tab.wait("!document.querySelector('#message').hidden")
        assert "Every picture has an answer." in tab.text("#message")
        assert len(labels(folder)) == 4


def test_tab_without_picture_reports_that_another_tab_shows_it(tmp_path: Path, browser: Browser) -> None:
    folder = write(tmp_path / "pictures", {"0.png": grey(0)})
    with Server(folder, "--classes", "dog,cat", "--train-every", "0") as server:
        first = browser.tab(server.link)
        shown(first)
        second = browser.tab(server.link)
        second.wait("!document.querySelector('#message').hidden")
        assert second.text("#message") == "1 picture without an answer: another tab shows it."
        first.press(" ")
        second.wait("!!document.querySelector('#message button')")
        assert "Show the 1 skipped picture again" in second.text("#message")


def test_answer_with_lost_response_can_be_retried_and_undone(folder: Path, browser: Browser) -> None:
    with Server(folder, "--classes", "dog,cat", "--train-every", "0") as server:
        tab = browser.tab(server.link)
        for lost in ("do/answer", "do/next"):
            file = shown(tab)
            tab.value(
                f"window.send ??= fetch, fetch = async (path, how) => {{ const answer = await send(path, how);"
                f" if (path === '{lost}') {{ fetch = send; throw new TypeError('lost'); }} return answer; }}, 0"
            )
            tab.press("1")
            tab.wait("!document.querySelector('#banner').hidden")
            tab.click("#retry")
            tab.wait(f"{IDLE} && state.pictures[0].file !== '{file}'")
            assert labels(folder) == {file: "dog"}
            tab.press("Backspace")
            tab.wait(f"{IDLE} && state.pictures[0].file === '{file}'")
            assert labels(folder) == {file: None}
            tab.press("1")
            tab.wait(f"{IDLE} && state.pictures[0].file !== '{file}'")
            tab.press("Backspace")
            tab.wait(f"{IDLE} && state.pictures[0].file === '{file}'")


def test_failed_picture_request_can_be_retried(folder: Path, browser: Browser) -> None:
    """Regression test: the page kept an empty frame, and keys had no effect."""
    with Server(folder, "--classes", "dog,cat", "--train-every", "0") as server:
        tab = browser.tab(server.link)
        tab.wait(IDLE)
        tab.call("Network.enable")
        tab.call("Network.setBlockedURLs", urls=["*/picture/*"])
        tab.press("1")
        for _ in range(AHEAD):  # pictures that are already loaded
            tab.wait("!state.busy")
            if not tab.value("document.querySelector('#banner').hidden"):
                break
            tab.press("1")
        tab.wait("!document.querySelector('#banner').hidden && !state.busy")
        assert "The server does not send " in tab.text("#banner")
        tab.call("Network.setBlockedURLs", urls=[])
        tab.click("#retry")
        file = shown(tab)
        tab.press("2")
        tab.wait(f"{IDLE} && state.pictures[0].file !== '{file}'")
        assert labels(folder)[file] == "cat"


def test_enter_gives_no_answer_if_keys_are_disabled(folder: Path, browser: Browser) -> None:
    with Server(folder, "--only", str(folder.parent / "table.csv"), "--train-every", "0") as server:
        tab = browser.tab(server.link)
        file = shown(tab)
        tab.value("document.querySelector('#keys').checked = false")
        tab.press("Enter")
        tab.value("document.querySelector('#keys').checked = true")
        tab.press(" ")  # the first answer
        tab.wait(f"{IDLE} && state.pictures[0].file !== '{file}'")
        assert labels(folder) == {file: None}


def test_answers_of_another_folder_are_not_undone(tmp_path: Path, browser: Browser) -> None:
    """With a fixed port, all folders share one storage in the browser."""
    folders = [write(tmp_path / name, {f"{i}.png": grey(i) for i in range(5)}) for name in ("a", "b")]
    with Server(folders[0], "--classes", "dog,cat", "--train-every", "0") as server:
        tab = browser.tab(server.link)
        press(tab, "1")
        port = server.link.partition("127.0.0.1:")[2].partition("/")[0]
    with Server(folders[1], "--classes", "dog,cat", "--train-every", "0", "--port", port) as server:
        tab.open(server.link)
        shown(tab)
        tab.press("Backspace")
        tab.wait("document.querySelector('#saved').textContent")
        assert tab.text("#saved") == "This tab has no answer to undo."


def test_page_fits_a_phone_screen_and_controls_have_names(folder: Path, browser: Browser) -> None:
    options = (
        "--only",
        str(folder.parent / "table.csv"),
        "--classes",
        ",".join(f"a long name of class {i}" for i in range(30)),
    )
    with Server(folder, *options) as server:
        tab = browser.tab("about:blank")
        tab.resize(360, 640, phone=True)
        tab.open(server.link)
        shown(tab)
        for view in ("#view-group", "#view-one"):
            assert tab.value("document.documentElement.scrollWidth") == 360
            tab.click(view)
            tab.wait("!state.busy")
        # Every control has a name and can be reached by Tab.
        unnamed = tab.value(
            "[...document.querySelectorAll('button, input, select, progress')].filter((one) => one.offsetParent &&"
            " !(one.innerText || one.getAttribute('aria-label') || one.labels?.length)).map((one) => one.outerHTML)"
        )
        assert unnamed == []
        tree = tab.call("Accessibility.getFullAXTree")["nodes"]
        names = {node["name"]["value"] for node in tree if node.get("name", {}).get("value")}
        assert {"Which class?", "One by one", "Labelled pictures", "New class", "Training"} <= {
            n.lstrip("+ ") for n in names
        }
