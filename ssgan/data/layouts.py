"""Find the label of each picture of a folder or a zip, and whether it is a test picture, before any is opened."""

import dataclasses
import difflib
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssgan.data import label_log
from ssgan.data.dataset import UNLABELED
from ssgan.data.file_tree import FileTree
from ssgan.data.label_table import MISSING, NEVER_CLASSES, match_pictures, read_label_table
from ssgan.errors import UserError, counted, did_you_mean
from ssgan.files import read_file
from ssgan.settings.options import Options

__all__ = [
    "SUBSETS",
    "WITHOUT_LABELS",
    "Labeling",
    "class_folders",
    "folder_labels",
    "label_by_folders",
    "label_by_table",
    "label_without_classes",
    "note_answers",
    "note_level",
]


# The American spelling is documented; the British one must not silently become a class.
WITHOUT_LABELS = ("unlabeled", "unlabelled")
SUBSETS = ("train", "test", *WITHOUT_LABELS)
# Folder names of other programs, and what each should be called here.
OTHER_SUBSETS = {"training": "train", "testing": "test", "val": "test", "valid": "test", "validation": "test"}
# Names, reduced to letters and digits, under which people often keep pictures without a label.
VAGUE = frozenset(
    [
        *("unknown", "unsorted", "unclassified", "unassigned", "undefined", "unspecified", "uncategorized"),
        *("nolabel", "nolabels", "notlabeled", "notlabelled", "nonlabeled", "other", "others", "misc"),
        *("miscellaneous", "rest", "todo", "na", "nan", "none", "null"),
    ]
)
TYPING_ERROR = 0.85  # similarity from which a folder name may be a typing error of train, test or unlabeled


@dataclass(frozen=True)
class Labeling:
    """The label of each file and whether it is a test file, known before any is opened.

    Attributes
    ----------
    classes : tuple of str
    labels : mapping of str to int
        Class index of every picture, -1 for unlabelled.
    test : frozenset of str or None
        Pictures of the test set; None if the source has no test set.
    notes : tuple of str
        Sentences for the user.
    left_out : frozenset of str
        Pictures of none of the classes, which belong to neither the pool nor the test set.
    """

    classes: tuple[str, ...]
    labels: Mapping[str, int]
    test: frozenset[str] | None
    notes: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()


def class_folders(tree: FileTree) -> list[str]:
    """List the class folders."""
    tops = {_top(name) for name in tree.pictures if "/" in name}
    train = next((top for top in sorted(tops) if top.lower() == "train"), None)
    return _folders_in(tree, f"{train}/") if train else sorted(top for top in tops if top.lower() not in SUBSETS)


def folder_labels(tree: FileTree) -> dict[str, str]:
    """Return the class of each picture that lies in a class folder, of the pool or of the test set."""
    classes = {name for name in class_folders(tree) if name.lower() not in WITHOUT_LABELS and name not in NEVER_CLASSES}
    labels = {}
    for name in tree.pictures:
        parts = name.split("/")[:-1]
        folders = parts[1:] if parts and _subset(name) in ("train", "test") else parts
        if folders and folders[0] in classes:
            labels[name] = folders[0]
    return labels


def label_without_classes(tree: FileTree) -> Labeling:
    """Leave every picture unlabelled; those in test/ are the test set and have one class."""
    test = frozenset(name for name in tree.pictures if _subset(name) == "test" and "/" in name)
    labels = {name: 0 if name in test else UNLABELED for name in tree.pictures}
    return Labeling(("picture",), labels, test or None)


def label_by_folders(tree: FileTree) -> Labeling:
    """Take the labels from the names of folders.

    Raises
    ------
    UserError
        If the folders match none of the layouts of :mod:`ssgan.data.image_folder`.
    """
    tops = {_top(name) for name in (*tree.folders, *(name for name in tree.pictures if "/" in name))}
    subsets = _find_subsets(tree, tops)
    above = f"{subsets['train']}/" if "train" in subsets else ""
    classes = _folders_in(tree, above) if above else sorted(tops - set(subsets.values()))
    _check_class_names(tree, classes, above)
    others = sorted({_top(name) for name in tree.pictures if "/" in name} - set(subsets.values())) if above else []
    if others:
        raise UserError(
            f"{tree.path} holds {others[0]}/ next to {above}, which is not recognized: next to train/ there may be "
            f"test/ and unlabeled/.{did_you_mean(others[0], SUBSETS)}"
        )
    if not classes:
        raise UserError(
            f"{tree.path} holds pictures but no class folders: {_in_browser(tree)}sort the labelled ones into a folder "
            f"for each class, or give their labels in a table with --labels-csv FILE; --labels 0 trains a GAN without "
            f"classes on them." + "".join(f" {note}" for note in note_answers(tree.path))
        )
    loose = [name for name in tree.pictures if name.count("/") < (2 if _subset(name) in ("train", "test") else 1)]
    if loose:
        in_test = f"{_top(loose[0])}/ has class folders of its own" if _subset(loose[0]) == "test" else ""
        raise UserError(
            f"{tree.path} holds {counted(len(loose), 'picture')} outside its class folders (the first: {loose[0]}): "
            f"{in_test or 'move them into a class folder or into unlabeled/'}."
        )
    if len(classes) == 1:
        raise UserError(
            f"{tree.path} holds one class folder, {above}{classes[0]}, but at least two classes are needed"
            f"{_folder_to_give(tree, f'{above}{classes[0]}', bool(subsets))}"
        )
    _check_test_classes(tree, classes, above, subsets)
    labels = _labels_of(tree, classes)
    test = frozenset(name for name in tree.pictures if _subset(name) == "test")
    _check_classes(tree, classes, [labels[name] for name in tree.pictures if name not in test], above)
    return Labeling(tuple(classes), labels, test or None, tuple(_note_names(classes, above, subsets)))


def label_by_table(tree: FileTree, path: Path, options: Options) -> Labeling:
    """Take the labels from a table; a file that it does not list, or lists without a label, is unlabelled.

    Only a table of answers may be used besides class folders, because it holds their labels too. Labelled pictures in
    test/ are then the test set. Where no classes are needed it may hold no label yet.

    Raises
    ------
    UserError
        If the table cannot be read or names missing pictures, or the folders give labels already.
    """
    words = _label_words(options)
    flat = any("/" not in name for name in tree.pictures)
    folders = {_top(name) for name in tree.pictures if "/" in name}
    in_train = any(_subset(name) == "train" and name.count("/") > 1 for name in tree.pictures)
    has_classes = in_train or (sum(top.lower() not in SUBSETS for top in folders) > 1 and not flat)
    if has_classes and path.is_file() and not label_log.is_log(read_file(path)):
        raise UserError(
            f"labels_csv={path} has no effect: {tree.path} holds class folders, whose names are the labels; omit "
            f"it, or put the pictures into one folder."
        )
    table = read_label_table(path, words)
    labels, notes, left_out = match_pictures(table, tree)
    classes = sorted({label for label in labels.values() if label is not None})
    if not classes and table.is_log and not options.classes:
        options.refuse(["test_share", "test_seed"], f"{path} has no labels to hold pictures out of")
        return dataclasses.replace(label_without_classes(tree), notes=tuple(notes), left_out=left_out)
    if not classes:
        how = label_log.how_to_label(tree.path) if table.is_log else "write the labels of some into it"
        raise UserError(" ".join([f"{path} gives no picture of {tree.path} a label: {how}.", *notes]))
    if len(classes) == 1 and options.classes:
        raise UserError(f"{path} has only one label, {classes[0]!r}, but at least two classes are needed.")
    vague = [name for name in classes if _is_vague(name) and name not in words]
    if vague:
        notes.append(
            f"{_listed(vague)} in {path}: if that means that there is no label, leave the cell empty, which means "
            f"unlabelled."
        )
    number = {name: label for label, name in enumerate(classes)}
    every = dict.fromkeys(tree.pictures, UNLABELED)
    every |= {name: number[label] for name, label in labels.items() if label is not None}
    is_test = (name for name in tree.pictures if table.is_log and _subset(name) == "test" and every[name] >= 0)
    return Labeling(tuple(classes), every, frozenset(is_test) or None, tuple(notes), left_out)


def _in_browser(tree: FileTree) -> str:
    """Return how the pictures of a folder are labelled; the page does not open a zip."""
    return f"{label_log.how_to_label(tree.path)}, " if tree.path.is_dir() else ""


def note_answers(path: Path) -> list[str]:
    """Return a note if a folder holds answers of ``ssgan label``, which only ``--labels-csv`` reads."""
    table = path / label_log.TABLE
    try:
        is_answers = table.is_file() and label_log.is_log(read_file(table))
    except OSError:  # an unreadable table is not mentioned
        is_answers = False
    words = shlex.join(["--labels-csv", str(table)])
    return [f"{table} holds labels that were given in `ssgan label`: {words} uses them."] if is_answers else []


def note_level(path: Path) -> list[str]:
    """Return a note if a folder is ``train``, ``test`` or ``unlabeled`` next to others of these, which are not read."""
    place = path.resolve()
    if place.name.lower() not in SUBSETS or not path.is_dir():
        return []
    try:
        folders = [entry.name for entry in os.scandir(place.parent) if entry.is_dir() and entry.name != place.name]
    except OSError:  # a folder that may not be listed is not mentioned
        return []
    others = sorted(name for name in folders if name.lower() in SUBSETS)
    if not others:
        return []
    above = os.path.relpath(place.parent) if not path.is_absolute() else str(path.parent)
    names = " and ".join(f"{name}/" for name in others)
    return [
        f"{path} lies next to {names}, not read here: `ssgan data {shlex.quote(above)}` shows what the folder above "
        f"gives, with all of them."
    ]


def _label_words(options: Options) -> list[str]:
    """Return the words for a missing label that are classes, checked."""
    words = [word.strip() for word in options.label_words.split(",") if word.strip()]
    for word in words:
        if word in NEVER_CLASSES:
            raise UserError(f"label_words is {options.label_words!r}, but {word} always means that there is no label.")
        if word not in MISSING and options.strict:
            known = ", ".join(sorted(MISSING - {""}))
            raise UserError(f"label_words={word} has no effect: {word} is a label, none of {known}.")
    return words


def _find_subsets(tree: FileTree, tops: set[str]) -> dict[str, str]:
    """Return the names of the folders train, test and unlabeled, in upper or lower case, by their lower-case names."""
    subsets: dict[str, str] = {}
    has_train = any(top.lower() == "train" for top in tops)
    for top in sorted(tops):
        subset = top.lower()
        if subset in subsets:
            raise UserError(f"{tree.path} holds {subsets[subset]}/ and {top}/: put their pictures into one folder.")
        if subset in SUBSETS:
            subsets[subset] = top
        elif not has_train and subset in OTHER_SUBSETS and _folders_in(tree, f"{top}/"):
            raise UserError(
                f"{tree.path} holds {top}/ with folders in it, which would be a class: rename it to "
                f"{OTHER_SUBSETS[subset]}/ if its folders are the classes, or remove it."
            )
    return subsets


def _check_class_names(tree: FileTree, classes: Sequence[str], above: str) -> None:
    """Raise a UserError for a class folder whose name says that there is no label."""
    for name in classes:
        if name.lower() in WITHOUT_LABELS:
            raise UserError(f"{tree.path / above / name} would be a class: put it next to {above}, not into it.")
        if name in NEVER_CLASSES:
            beside = f" and put it next to {above}" if above else ""
            raise UserError(
                f"{tree.path / above / name} would be a class, but {name} means that there is no label: rename it "
                f"to unlabeled{beside}."
            )


def _check_test_classes(tree: FileTree, classes: Sequence[str], above: str, subsets: Mapping[str, str]) -> None:
    """Raise a UserError for a class of the test set that the pool does not have."""
    test = subsets.get("test", "test")
    for unknown in sorted(set(_folders_in(tree, f"{test}/")) - set(classes)):
        raise UserError(
            f"{tree.path} holds the class {unknown!r} in {test}/ but not in {above or 'the training pool'}: add "
            f"pictures of it there, or remove it from {test}/.{did_you_mean(unknown, classes)}"
        )


def _labels_of(tree: FileTree, classes: Sequence[str]) -> dict[str, int]:
    """Return the class index of every picture, -1 for unlabelled."""
    number = {name: label for label, name in enumerate(classes)}
    labels = {}
    for name in tree.pictures:
        subset, parts = _subset(name), name.split("/")
        if subset in WITHOUT_LABELS:
            labels[name] = UNLABELED
        else:
            labels[name] = number[parts[1] if subset in ("train", "test") else parts[0]]
    return labels


def _check_classes(tree: FileTree, classes: Sequence[str], labels: Sequence[int], above: str) -> None:
    """Check that every class has a picture to learn from."""
    present = set(labels)
    for label, name in enumerate(classes):
        if label not in present:
            raise UserError(f"The class folder {tree.path / above / name} holds no picture: put some in, or remove it.")


def _folder_to_give(tree: FileTree, folder: str, has_subsets: bool) -> str:
    """Return the end of the message about a single class folder: which one to give if the classes are deeper."""
    first = folder
    while len(inner := _folders_in(tree, f"{folder}/")) == 1 and not _pictures_in(tree, folder):
        folder = f"{folder}/{inner[0]}"
    if len(inner) < 2 or _pictures_in(tree, folder):
        return "."
    if has_subsets:
        return f": if {folder} holds the classes, move its folders to where {first} is."
    if tree.path.is_dir():
        return f": is {tree.path / folder} the folder to give?"
    return f": unpack it, and give its folder {folder}, if that is what holds the classes."


def _pictures_in(tree: FileTree, folder: str) -> bool:
    """Return whether pictures lie directly in a folder."""
    return any(name.rpartition("/")[0] == folder for name in tree.pictures)


def _note_names(classes: Sequence[str], above: str, subsets: Mapping[str, str]) -> list[str]:
    """Return notes on class folders that may be meant as something else."""
    notes = []
    vague = [name for name in classes if _is_vague(name)]
    if vague:
        beside = f", next to {above}" if above else ""
        notes.append(f"{_listed(vague)} here: if its pictures have no label, rename the folder to unlabeled{beside}.")
    for name in [] if above else classes:
        near = difflib.get_close_matches(name.lower(), [s for s in SUBSETS if s not in subsets], 1, TYPING_ERROR)
        if near:
            notes.append(f"{_listed([name])} here: rename the folder to {near[0]} if that is what it is.")
    return notes


def _is_vague(name: str) -> bool:
    """Return whether a name may say that there is no label."""
    return "".join(c for c in name.casefold() if c.isalnum()) in VAGUE


def _listed(names: Sequence[str]) -> str:
    """Return a clause that these names are classes."""
    return f"{' and '.join(names)} {'is a class' if len(names) == 1 else 'are classes'}"


def _folders_in(tree: FileTree, above: str) -> list[str]:
    """List the names of the folders directly in ``above``, ascending."""
    return sorted({name[len(above) :].split("/")[0] for name in tree.folders if name.startswith(above)})


def _subset(name: str) -> str:
    """Return ``train``, ``test`` or ``unlabeled`` if a file lies in one of them, or else the first part of its name."""
    top = _top(name)
    return top.lower() if top.lower() in SUBSETS else top


def _top(name: str) -> str:
    """Return the first part of a file name."""
    return name.split("/")[0]
