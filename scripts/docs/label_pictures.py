#!/usr/bin/env python3
"""Make the pictures of docs/labelling.md: the labelling page after a training, in a headless Chromium.

    scripts/docs/label_pictures.py trashnet.zip

The photographs are those of TrashNet (MIT licence), with a folder for each class.
"""

import argparse
import io
import random
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from headless_browser import Tab, headless
from labeling_server import Server

from ssgan.files import write_atomic
from ssgan.labeling.store import Change, open_store

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
COUNT, LABELED = 480, 120
VISIBLE = 15  # pictures of a group that fit into the window
DESKTOP, PHONE = (1120, 700), (390, 760)
LOADED = "[...document.querySelectorAll('.cell img')].every((image) => image.complete && image.naturalWidth)"


def unpack(archive: Path, folder: Path) -> dict[str, str]:
    """Write some of the photographs into one folder; return the class of each file."""
    folder.mkdir()
    with zipfile.ZipFile(archive) as members:
        names = sorted(name for name in members.namelist() if name.lower().endswith(".jpg"))
        random.Random(1).shuffle(names)
        classes = {f"IMG_{4000 + i}.jpg": name.split("/")[-2] for i, name in enumerate(names[:COUNT])}
        for file, name in zip(classes, names, strict=False):
            (folder / file).write_bytes(members.read(name))
    return classes


def save(tab: Tab, name: str) -> None:
    """Write a screenshot of the tab as WebP."""
    time.sleep(0.5)
    content = io.BytesIO()
    with Image.open(io.BytesIO(tab.picture())) as image:
        image.convert("RGB").save(content, "WEBP", quality=82, method=6)
    write_atomic(PICTURES / f"{name}.webp", content.getvalue())


def main() -> None:
    """Label some photographs by their classes, wait for a training, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path)
    archive = parser.parse_args().archive
    with tempfile.TemporaryDirectory() as place, headless() as browser:
        folder = Path(place) / "photos"
        classes = unpack(archive, folder)
        with open_store(folder) as store:
            store.append([Change(name, label, "label") for name, label in list(classes.items())[:LABELED]])
        with Server(folder, "--classes", ",".join(sorted(set(classes.values()))), "--train-every", "20") as server:
            tab = browser.tab("about:blank")
            tab.resize(*DESKTOP)
            tab.open(server.link)
            tab.wait("state.shown")
            tab.wait("state.order > 0 && !state.training.phase", 300)  # the first suggestions are there
            tab.click("#train")
            tab.wait("state.training.phase === 'train'", 60)
            tab.wait("state.training.trainings && !state.training.phase", 900)
            file = tab.value("state.pictures[0].file")
            keys = tab.value("Object.fromEntries(state.counts.classes.map(({name}, i) => [name, state.keys[i]]))")
            tab.press(keys[classes[file]])
            tab.wait(f"state.shown && !state.busy && state.pictures[0].file !== '{file}'")
            save(tab, "label-one")
            tab.click("#view-group")
            tab.wait(f"!state.busy && document.querySelectorAll('.cell').length > 0 && {LOADED}")
            wrong: list[int] = []
            for label in tab.value("Object.keys(state.group.sizes)"):  # find one with a few wrong pictures at the top
                tab.value(f"showGroup('{label}')")
                files = tab.value("state.group.pictures.map(({file}) => file)")
                wrong = [i for i, name in enumerate(files) if classes[name] != label]
                if 1 <= len(wrong) <= 4 and wrong[0] < VISIBLE:
                    break
            for i in wrong:
                tab.click(".cell", i)
            tab.wait(LOADED)
            tab.value("document.querySelector('#grid').scrollTo(0, 0)")
            save(tab, "label-group")
            tab.resize(*PHONE, phone=True)
            tab.dark(True)
            tab.click("#view-one")
            tab.wait("state.shown && !state.busy")
            save(tab, "label-phone")


if __name__ == "__main__":
    main()
