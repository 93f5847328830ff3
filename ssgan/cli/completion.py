"""Complete words in the shell: names of data sets, presets, methods, backbones, settings, and run folders."""

import os
import re
import sys
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import typer

from ssgan.settings import fields
from ssgan.settings.config import FIELDS, Config

__all__ = ["among", "answer_shell", "complete_list", "complete_run", "complete_setting"]

VARIABLE = "_SSGAN_COMPLETE"  # the shell's script passes its instruction in it
# zsh evaluates completions, so other names are left to the shell's own completion of files.
SAFE_PATH = re.compile(r"[\w./+-]+")
RUNS_LISTED = 200


def among(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a completion by a list of names; if none matches, the shell completes files."""
    known = list(names)
    return lambda incomplete: [name for name in known if name.startswith(incomplete)]


def complete_list(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a completion of the last of several comma-separated names, without repeating one."""
    known = list(names)

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        return [before + comma + name for name in known if name.startswith(last) and name not in given]

    return complete


def complete_run(incomplete: str) -> list[str]:
    """Return run folders that begin with ``incomplete``: here, in ``runs``, and in the folder that is being typed."""
    folder = incomplete[: incomplete.rfind("/") + 1]
    found: dict[str, None] = {}
    for place in dict.fromkeys((folder, "" if folder else "runs/")):
        try:
            names = sorted(entry.name for entry in os.scandir(place or "."))
        except OSError:
            continue
        paths = [place + name for name in names]
        found |= dict.fromkeys(path for path in paths if path.startswith(incomplete) and _is_named_run(path))
    return list(found)[:RUNS_LISTED]


def _is_named_run(path: str) -> bool:
    return SAFE_PATH.fullmatch(path) is not None and Path(path, "config.json").is_file()


def complete_setting(incomplete: str) -> list[tuple[str, str]]:
    """Return assignments that begin with ``incomplete`` (of every word, or the default), with their descriptions."""
    name, equals, _ = incomplete.partition("=")
    names = [name] if equals else [field for field in FIELDS if field.startswith(name)]
    return [
        (f"{field}={value}", FIELDS[field].metadata["text"])
        for field in names
        if field in FIELDS
        for value in _values(field)
        if f"{field}={value}".startswith(incomplete)
    ]


def _values(field: str) -> list[str]:
    """Return the words that a setting takes; for a number its default."""
    annotation = typing.get_type_hints(Config)[field]
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    if annotation is bool:
        return ["true", "false"]
    words = [word for part in typing.get_args(annotation) for word in typing.get_args(part)]
    none = ["none"] if type(None) in typing.get_args(annotation) else []
    return list(dict.fromkeys([fields.show(getattr(Config(), field)), *words, *none]))


def answer_shell(app: typer.Typer) -> None:
    """Answer the completion script of a shell and exit; return if no shell asks."""
    instruction = os.environ.get(VARIABLE)
    if not instruction:
        return
    command: Any = typer.main.get_command(app)
    if instruction == "complete_bash":
        _join_assignments(command)
    command.main(args=[], prog_name="ssgan", complete_var=VARIABLE)
    sys.exit(1)


def _join_assignments(command: Any) -> None:
    """Complete ``--set name=value``, which bash splits at ``=``: complete the joined word and print the value.

    Exits the process if such a word is being completed.
    """
    words, place = os.environ.get("COMP_WORDS", "").split("\n"), int(os.environ.get("COMP_CWORD") or 0)
    start = place - 1 if place < len(words) and words[place] != "=" else place
    if not 0 < start < len(words) or words[start] != "=":
        return
    name, last = words[start - 1], words[place] if place > start else ""
    if start >= 2 and words[start - 2] == "--set":
        answers = [word.partition("=")[2] for word, _ in complete_setting(f"{name}={last}")]
        print("\n".join(answers))
        sys.exit(0)
