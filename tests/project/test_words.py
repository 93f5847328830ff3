"""Messages of the program: a number and its noun agree."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssgan.errors import counted

PACKAGE = Path(__file__).parents[2] / "ssgan"
NOUNS = (
    "class(es)?|cell|draw|entr(y|ies)|epoch|feature|file|fold|frame|image|label|member|minute|model|network|pair|picture|pixel|"
    "point|row|seed|set|setting|split|step|thread|training|value|vector|word"
)
PLURAL = re.compile(rf"\x00 (more |test |training |unlabelled |labelled )*({NOUNS.replace('class(es)?', 'classe')})s\b")
# Phrases with a number that is never 1, a range, or a part of a larger number.
NEVER_ONE = (
    # Sizes, limits and speeds
    "images/s",
    "resizes to \x00 pixels",
    "needs at least \x00 pixels",
    "has \x00 pixels, above the limit",
    "x \x00 pixels",
    "x\x00 pixels",
    "more than \x00 pixels",
    "accepts images of \x00 pixels",
    "\x00 pictures of \x00x\x00 from",
    "a list of 1 to \x00",
    # Lengths of trainings, and parts of them
    "after \x00 of \x00 images",
    "\x00 of \x00 steps",
    "\x00, from \x00 to \x00 images",
    "after \x00 images, noise",
    "\x00 images, \x00/s",
    ", \x00 images",
    # Only where there are several
    "are \x00 different",
    "different draws",
    "the mean of \x00 models",
    "models learned from",
    "over \x00 models",
    "fitting a temperature needs",
    "predicted all \x00 labels correctly",
    "\x00 (\x00 rows)",
    "the \x00 models have different",
    "ensemble of \x00 models",
    "\x00 members",
    "First \x00 models",
    "thin: \x00 seeds",
    "Correct for about",
    "Diversity of \x00 images",
    "of \x00 classes",
    "labelled pictures per class are too few",
    "with \x00 classes it must lie",
    "with \x00 classes they must lie",
    "the noise is of \x00 seeds",
    "map of features is for",
    # The value is not a count of the noun
    "so \x00 \x00 features of",
    "so \x00 \x00 pixels",
    "labels no file",
    "they differ by \x00 points",
    "a mask of \x00 rows",
    "with \x00 labelled images",
)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Each f-string of a module with its line; a NUL character stands for a value."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "\x00" for part in node.values]
            yield node.lineno, "".join(map(str, parts))


@pytest.mark.parametrize(("count", "words"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1000, "1,000 images")])
def test_a_number_and_its_noun_agree(count: int, words: str) -> None:
    assert counted(count, "image") == words
    assert counted(1, "class") == "1 class"
    assert counted(2, "class") == "2 classes"


def test_no_message_writes_a_plural_after_a_number_that_may_be_one() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in texts(path)
        if PLURAL.search(text) and not any(part in text for part in NEVER_ONE)
    ]
    assert found == [], "use ssgan.errors.counted"
