"""A loss term is one row of the table and one function."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_configs import tiny

import ssgan
from ssgan import losses
from ssgan.settings.config import FIELDS, Config
from ssgan.settings.rules import NEEDS
from ssgan.settings.terms import INPUTS_OF_D, TERMS
from ssgan.training import methods

PACKAGE = Path(ssgan.__file__).parent

FUNCTION = '''

def largest_probability(logits_BK: Tensor) -> Tensor:
    """Mean of 1 - max p(k), for the test."""
    return (1.0 - logits_BK.softmax(dim=1).amax(dim=1)).mean()
'''
ROW = """    Term(
        name="certainty",
        net="D",
        loss="largest_probability",
        inputs=("unlabeled",),
        text="one minus the largest class probability of unlabelled images",
        label="certainty of a class",
        ramped=True,
    ),
"""


def run_with(package: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ssgan", "train", "digits", "--preset", "digits", "--labels", "20", "--out", "run"]
    sizes = ["total_images=600", "discriminator_widths=12,8", "generator_widths=8", "report_every_images=200"]
    words = [word for size in sizes for word in ("--set", size)]
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *options, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """A copy of the package with one more term: one function, one row."""
    copy = tmp_path / "copy" / "ssgan"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "losses.py").open("a", encoding="utf-8") as stream:
        stream.write(FUNCTION)
    table = copy / "settings" / "terms.py"
    text = table.read_text(encoding="utf-8")
    assert text.count("_D_TERMS = (\n") == 1
    table.write_text(text.replace("_D_TERMS = (\n", "_D_TERMS = (\n" + ROW), encoding="utf-8")
    return copy


def test_one_row_and_one_function_add_a_term(extended: Path, tmp_path: Path) -> None:
    """The new term has a setting, is trained, logged and plotted, and belongs to no method by default."""
    done = run_with(extended, tmp_path, "--set", "weight_certainty=0.5")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(len(line["certainty"]) == 1 and 0 < line["certainty"][0] < 1 for line in lines)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["weight_certainty"] == 0.5
    assert (tmp_path / "run" / "curves.png").stat().st_size > 0


@pytest.mark.slow
def test_new_term_without_a_weight_does_not_change_training(extended: Path, tmp_path: Path) -> None:
    """Without a weight the copy trains to the same losses under the same configuration hash."""
    reports, logs = [], []
    for name, package in (("plain", PACKAGE), ("copy", extended)):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        done = run_with(package, folder)
        assert done.returncode == 0, done.stderr
        reports.append(json.loads((folder / "run" / "report.json").read_text()))
        text = (folder / "run" / "log.jsonl").read_text()
        logs.append([{k: v for k, v in json.loads(x).items() if k != "images_per_second"} for x in text.splitlines()])
    assert logs[0] == logs[1]
    assert reports[0]["config_sha256"] == reports[1]["config_sha256"]
    assert reports[0]["errors"] == reports[1]["errors"]


def test_a_new_term_needs_a_method_that_uses_it(extended: Path, tmp_path: Path) -> None:
    done = run_with(extended, tmp_path, "--method", "supervised", "--set", "weight_certainty=0.5")
    assert done.returncode == 2
    assert "weight_certainty=0.5 has no effect: it needs method=gan, or another" in done.stderr


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_every_term_names_existing_settings_functions_and_inputs(term: methods.Term) -> None:
    """Every input without gradient is one of the inputs."""
    assert term.setting in FIELDS
    assert term.setting in NEEDS
    assert set(term.parameters) <= set(FIELDS)
    assert hasattr(losses, term.loss) or hasattr(methods, term.loss)
    others = {
        "D": {"labels", "teacher", "discriminator", "images"},
        "G": {"real_features", "fake_features", "fake_logits"},
    }
    assert set(term.inputs) <= others[term.net] | (set(INPUTS_OF_D) if term.net == "D" else set())
    assert set(term.constant) <= set(term.inputs)


def test_names_in_the_log_are_unique() -> None:
    for names in ([term.name for term in TERMS], [term.log for term in TERMS], [term.label for term in TERMS]):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, {"labeled", "unlabeled", "fake"}),
        ({"method": "supervised"}, {"labeled"}),
        ({"method": "vat"}, {"labeled", "vat"}),
        ({"method": "pseudo-label"}, {"labeled", "self_label"}),
        ({"method": "mean-teacher"}, {"labeled", "mean_teacher"}),
        ({"weight_entropy": 0.1}, {"labeled", "unlabeled", "fake", "entropy"}),
        ({"labels": 0}, {"unlabeled", "fake"}),
    ],
)
def test_configuration_selects_the_expected_terms(settings: dict[str, object], names: set[str]) -> None:
    config: Config = tiny(**settings)
    assert {term.name for term in config.terms("D")} == names
    objectives = {term.name for term in config.terms("G")}
    assert objectives == ({"feature_matching"} if "fake" in names else set())
