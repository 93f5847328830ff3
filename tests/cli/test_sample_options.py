"""Options of `ssgan sample`, parsed into a request."""

from pathlib import Path
from typing import Any

import pytest

from ssgan.cli.sample import build_request, parse_expression
from ssgan.errors import UserError
from ssgan.inference.latents import PATHS
from ssgan.inference.sample import Request


def request_of(kind: str = "grid", expression: str | None = None, **options: Any) -> Request:
    return build_request(Path("run"), [kind], arithmetic=expression, **options)


def test_parse_expression_returns_signed_terms() -> None:
    expected = ((1, (0, 1, 2)), (-1, (3, 4, 5)), (1, (6, 7, 8)))
    assert parse_expression("0,1,2 - 3,4,5 + 6,7,8") == expected
    assert parse_expression(" 0, 1 ,2-3,4,5+6,7,8 ") == expected
    assert parse_expression("12") == ((1, (12,)),)
    assert parse_expression("1-1-1") == ((1, (1,)), (-1, (1,)), (-1, (1,)))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "with a number missing"),
        ("0,1 -", "with a number missing"),
        ("- 1", "with a number missing"),
        ("1,,2", "with a number missing"),
        ("1 + + 2", "with a number missing"),
        ("1 2", "with '1 2' where a number should be"),
        ("a", "with 'a' where a number should be"),
        ("1.5", "with '1.5' where a number should be"),
        ("\u0664", "with '\u0664' where a number should be"),
        ("2 * 3", "with '2 * 3' where a number should be"),
    ],
)
def test_invalid_expressions_are_refused(text: str, what: str) -> None:
    with pytest.raises(UserError) as mistake:
        parse_expression(text)
    assert str(mistake.value) == (
        f"--arithmetic is {text!r}, {what}: write numbers of the grid with commas, and + or - between the terms, such "
        f"as '0,1,2 - 3,4,5 + 6,7,8'."
    )


def test_expression_refuses_numbers_above_9999() -> None:
    assert parse_expression("9999") == ((1, (9999,)),)
    with pytest.raises(UserError, match=r"^--arithmetic names image 10000, but the largest number is 9999\.$"):
        parse_expression("1 + 10000")


def test_defaults() -> None:
    request = build_request(Path("run"), [])
    assert request == Request("grid", Path("run/sample-grid.png"), rows=0, columns=0)
    assert (request_of("interpolate").rows, request_of("interpolate").columns) == (8, 9)
    assert (request_of("per-class").samples, request_of("nearest").samples) == (1000, 100)
    assert request_of("animate").out == Path("run/sample-animate.gif")
    assert request_of("arithmetic", "1 - 2").terms == ((1, (1,)), (-1, (2,)))
    assert [request_of("interpolate", path=path).path for path in PATHS] == list(PATHS)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("grid", {"rows": "0"}, "--rows is 0, but must be an integer from 1 to 100."),
        ("grid", {"columns": "101"}, "--columns is 101, but must be an integer from 1 to 100."),
        ("grid", {"rows": "x"}, "--rows is x, but must be an integer from 1 to 100."),
        ("grid", {"rows": "2.0"}, "--rows is 2.0, but must be an integer from 1 to 100."),
        ("interpolate", {"columns": "1"}, "--columns is 1, but must be an integer from 2 to 100."),
        ("nearest", {"samples": "10001"}, "--samples is 10001, but must be an integer from 1 to 10000."),
        ("grid", {"seed": "-1"}, "--seed is -1, but must be an integer from 0 to 2147483648."),
        ("interpolate", {"path": "round"}, "--path is round, but must be straight or spherical."),
        ("grid", {"samples": "5"}, "--samples does nothing with --grid: it is for --nearest or --per-class."),
        ("per-class", {"rows": "5"}, "--rows does nothing with --per-class: it is for --grid or --interpolate or "),
        ("grid", {"data_dir": "x"}, "--data-dir does nothing with --grid: it is for --nearest."),
        ("nearest", {"numbered": True}, "--numbered does nothing with --nearest: it is for --grid."),
        ("animate", {"seed": "1"}, "--seed does nothing with --animate: it is for "),
    ],
)
def test_options_out_of_range_or_of_other_kinds_are_refused(kind: str, given: dict[str, str], words: str) -> None:
    with pytest.raises(UserError) as mistake:
        request_of(kind, **given)
    assert str(mistake.value).startswith(words)


def test_two_kinds_at_once_are_refused() -> None:
    with pytest.raises(UserError, match=r"^--grid and --nearest are two pictures: choose one of them\.$"):
        build_request(Path("run"), ["grid", "nearest"])


def test_output_file_needs_matching_suffix_and_existing_folder(tmp_path: Path) -> None:
    assert request_of(out=tmp_path / "a.PNG").out == tmp_path / "a.PNG"
    assert request_of("animate", out=tmp_path / "a.webp").out == tmp_path / "a.webp"
    (tmp_path / "d.png").mkdir()
    for kind, name, words in [
        ("grid", "a.jpg", "but with --grid must end in .png."),
        ("grid", "a", "but with --grid must end in .png."),
        ("animate", "a.png", "but with --animate must end in .gif or .webp."),
        ("grid", "d.png", "which is a folder: choose another file."),
        ("grid", "no/a.png", f"which lies in {tmp_path / 'no'}, which is not a folder: choose another file."),
    ]:
        with pytest.raises(UserError) as mistake:
            request_of(kind, out=tmp_path / name)
        assert str(mistake.value) == f"--out is {tmp_path / name}, {words}"
