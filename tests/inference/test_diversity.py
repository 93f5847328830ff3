"""The collapse of a generator, measured where the answer is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_configs import tiny

from ssgan.cli import output
from ssgan.data.dataset import Data
from ssgan.inference.metrics import DIVERSITY_IMAGES, Diversity, diversity, measure_diversity, split_pool
from ssgan.inference.models import open_run
from ssgan.result_rows import parse_row
from ssgan.runs import create_run_folder
from ssgan.training.experiment import run_experiment

RNG = np.random.default_rng(0)


def modes(count: int, rows: int, seed: int, among: int = 4) -> np.ndarray:
    """Images of 3x4 around ``count`` of ``among`` far points, ``rows`` of each."""
    centres = np.random.default_rng(0).random((among, 3, 4)) * 0.9
    noise = np.random.default_rng(seed).random((count, rows, 3, 4)) * 0.05
    return (centres[:count, None] + noise).reshape(-1, 3, 4)


def test_the_real_set_itself_has_not_collapsed() -> None:
    real = RNG.random((40, 5, 5))
    found = diversity(real, real)
    assert found.spread == pytest.approx(1.0, abs=1e-12)
    assert (found.coverage, found.recall, found.collapse) == (1.0, 1.0, 0.0)


def test_one_image_again_and_again_is_a_full_collapse() -> None:
    """Even a real one: it lies in the surroundings of its neighbours alone."""
    real = RNG.random((200, 5, 5))
    far = np.full((200, 5, 5), 9.0)
    found = diversity(far, real)
    assert found.spread == pytest.approx(0.0, abs=1e-6)
    assert (found.coverage, found.recall, found.density, found.collapse) == (0.0, 0.0, 0.0, 1.0)
    real_one = diversity(np.repeat(real[:1], 200, axis=0), real)
    assert real_one.spread == pytest.approx(0.0, abs=1e-6)
    assert 0 < real_one.coverage < 0.2
    assert real_one.collapse > 0.9


def test_the_mean_of_all_images_is_near_to_many_and_still_a_full_collapse() -> None:
    """In many dimensions a mean is nearer to each image than its neighbours are, so coverage alone is no score."""
    real = RNG.random((200, 30, 30))
    found = diversity(np.repeat(real.mean(axis=0, keepdims=True), 200, axis=0), real)
    assert found.coverage > 0.9
    assert found.density > 10
    assert (found.recall, found.collapse) == (0.0, 1.0)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_coverage_is_the_share_of_the_modes_that_are_met(count: int) -> None:
    """With many images to each mode, so that every real one has a generated neighbour if its mode has any."""
    found = diversity(modes(count, 400, seed=1), modes(4, 100, seed=2))
    assert found.coverage == pytest.approx(count / 4, abs=0.01)
    assert (found.spread > 0.95) == (count == 4)
    assert found.recall == pytest.approx(count / 4, abs=0.05)
    assert found.collapse == 1 - min(found.coverage, found.recall)
    # Where they are, the images are as real as any.
    assert found.density == pytest.approx(1.0, abs=0.15)


def test_new_images_of_the_same_kind_cover_as_many_as_theory_says() -> None:
    """Each real image's fifth neighbour is as likely to be of either set as by tossing a coin: 1 - 2^-5."""
    real, other = RNG.random((1000, 3)), RNG.random((1000, 3))
    assert diversity(other, real).coverage == pytest.approx(1 - 2**-5, abs=0.02)
    assert diversity(other, real).density == pytest.approx(1.0, abs=0.1)
    assert diversity(other, real, neighbours=1).coverage == pytest.approx(1 / 2, abs=0.05)


def test_noise_spreads_and_covers_nothing() -> None:
    real = modes(4, 50, seed=3)
    found = diversity(np.random.default_rng(5).random(real.shape) * 9, real)
    assert found.spread > 1
    assert (found.coverage, found.density, found.collapse) == (0.0, 0.0, 1.0)
    assert found.recall > 0.9  # which alone is no score either


def test_numbers_worked_by_hand() -> None:
    """On a line: real 0, 1, 3, with one neighbour the radii are 1, 1, 2; generated 0.5, 6 and 1.5."""
    real, generated = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [6.0], [1.5]])
    found = diversity(generated, real, neighbours=1)
    # 0.5 lies around 0 and 1, 1.5 around 1 and 3, 6 around none.
    assert found.coverage == 1.0
    assert found.density == pytest.approx(4 / 3)
    # The generated ones have radii of 1, 4.5 and 1: 0 and 1 lie around 0.5, 3 around 6.
    assert found.recall == 1.0
    assert diversity(np.array([[0.5], [9.0], [1.4]]), np.array([[0.0], [2.0], [99.0]]), neighbours=1).recall == 2 / 3
    # Distances 5.5, 1, 4.5 over 1, 3, 2.
    assert found.spread == pytest.approx(11 / 6)
    assert diversity(generated[::2], real, neighbours=1).spread == pytest.approx(1 / 2)


def test_neither_order_nor_scale_matters_and_too_few_are_refused() -> None:
    real, generated = RNG.random((30, 4)), RNG.random((30, 4))
    found = diversity(generated, real)
    np.testing.assert_allclose(diversity(generated[::-1] * 7, real[::-1] * 7), found, rtol=1e-9)
    for few in ((generated[:5], real), (generated, real[:5])):
        with pytest.raises(ValueError, match="too few"):
            diversity(*few)


def test_halves_of_a_pool_are_disjoint_and_always_the_same() -> None:
    pool = np.arange(101, dtype=np.uint8).reshape(-1, 1, 1)
    a, b = split_pool(pool, 100.0)
    assert len(a) == len(b) == 50
    rows = np.concatenate([a, b]).ravel() * 100
    assert len({*rows.round().tolist()}) == 100
    assert all(np.array_equal(x, y) for x, y in zip((a, b), split_pool(pool.copy(), 100.0), strict=True))
    large = np.zeros((3 * DIVERSITY_IMAGES, 2), np.float32)
    assert [len(half) for half in split_pool(large, 1.0)] == [DIVERSITY_IMAGES, DIVERSITY_IMAGES]


# In the report of a run


def test_each_generator_of_a_pool_is_measured_and_so_is_a_perfect_one() -> None:
    pool = (modes(4, 100, seed=7) * 255).round().astype(np.uint8)
    real, others = split_pool(pool, 255.0)
    given = [lambda count: others[:count], lambda count: real[:1].repeat(count, axis=0), lambda count: real * np.nan]
    found = measure_diversity(given, pool, 255.0)
    assert found is not None
    perfect, collapsed, broken = found["models"]
    assert perfect == found["real"] == diversity(others, real)._asdict()
    assert collapsed["coverage"] < 0.05 < 0.9 < perfect["coverage"]
    assert broken == dict.fromkeys(Diversity._fields)
    assert found["images"] == 200
    assert found["coverage"] == (perfect["coverage"] + collapsed["coverage"]) / 2
    assert measure_diversity(given[2:], pool, 255.0) | {"models": 0, "real": 0} == {
        **broken,
        "models": 0,
        "real": 0,
        "images": 200,
    }
    assert measure_diversity(given, pool[:11], 255.0) is None


def test_a_report_holds_the_diversity_of_every_model(
    few_digits: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def trained(name: str, **settings: Any) -> dict[str, Any]:
        config = tiny(preset="digits", **settings)
        return run_experiment(few_digits, config, create_run_folder(tmp_path / name, "digits", config))

    report = trained("gan", seeds=2)
    found = report["diversity"]
    assert found["images"] == 150
    models, state = open_run(tmp_path / "gan", torch.device("cpu"))
    real, others = split_pool(few_digits.x_train, few_digits.scale)
    for i, row in enumerate(state["rows"]):
        expected = diversity(models.sample(150)[i], real)
        assert [row[name] for name in Diversity._fields] == pytest.approx(list(expected))
        parse_row(json.dumps(row).encode())
    assert found["spread"] == pytest.approx(np.mean([row["spread"] for row in report["rows"]]))
    assert found["real"]["coverage"] == diversity(others, real).coverage
    output.show_report(report)
    assert "density" not in capsys.readouterr().out
    output.show_report(report, verbose=True)
    said = capsys.readouterr().out.splitlines()
    place = said.index("Diversity of 150 images; collapse is 1 if all are the same or like no real one")
    names = ["collapse", "spread", "coverage", "recall", "density"]
    assert said[place + 1].split() == ["images", *names]
    for line, kind, of in zip(said[place + 2 :], ("generated", "real"), (found, found["real"]), strict=False):
        assert line.split() == [kind, *(f"{of[name]:.2f}" for name in names)]
    alone = trained("supervised", method="supervised")
    assert alone["diversity"] is None
    assert "spread" not in alone["rows"][0]
    output.show_report(alone)
    assert "Diversity" not in capsys.readouterr().out
