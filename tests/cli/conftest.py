"""Fixtures: a small run trained by the command line, and image files to classify."""

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import status_of
from small_configs import TINY_OPTIONS

from ssgan.data.dataset import Data


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of two models, and the output of `train --json`."""
    out = tmp_path_factory.mktemp("trained") / "deep" / "run"
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        options = ["--labels", "20", "--seed", "3", "--seeds", "2", "--device", "cpu", "--out", out, "--json"]
        # The first report comes at the step at which the clock has just finished its warm-up.
        assert status_of("train", "digits", *options, *TINY_OPTIONS, "--set", "report_every_images=1000") == 0
    return out, text.getvalue()


@pytest.fixture
def run(trained: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


@pytest.fixture
def pictures(digits: Data, tmp_path: Path) -> list[str]:
    """Test images of digits as files; one is in a subfolder and has a non-ASCII name."""
    names = ["b.png", "a.png", "deep/ünï 猫 [1].png"]
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    for name, image in zip(names, digits.x_test, strict=False):
        Image.fromarray((image * (255 / 16)).round().astype(np.uint8)).save(tmp_path / "pictures" / name)
    return [f"pictures/{name}" for name in names]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")
