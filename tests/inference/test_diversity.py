"""Diversity metrics of generated images, on sets with known values."""

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
    """Return 3x4 images around ``count`` of ``among`` distant centres, ``rows`` around each."""
    centres = np.random.default_rng(0).random((among, 3, 4)) * 0.9
    noise = np.random.default_rng(seed).random((count, rows, 3, 4)) * 0.05
    return (centres[:count, None] + noise).reshape(-1, 3, 4)


def test_the_real_set_itself_has_not_collapsed() -> None:
    real = RNG.random((40, 5, 5))
    found = diversity(real, real)
    assert found.spread == pytest.approx(1.0, abs=1e-12)
    assert (found.coverage, found.recall, found.collapse) == (1.0, 1.0, 0.0)


def test_single_repeated_image_is_scored_as_collapse() -> None:
    """Also if the image is real: it lies only within the radii of its neighbours."""
    real = RNG.random((200, 5, 5))
    far = np.full((200, 5, 5), 9.0)
    found = diversity(far, real)
    assert found.spread == pytest.approx(0.0, abs=1e-6)
    assert (found.coverage, found.recall, found.density, found.collapse) == (0.0, 0.0, 0.0, 1.0)
    real_one = diversity(np.repeat(real[:1], 200, axis=0), real)
    assert real_one.spread == pytest.approx(0.0, abs=1e-6)
    assert 0 < real_one.coverage < 0.2
    assert real_one.collapse > 0.9


def test_repeated_mean_image_is_full_collapse_despite_high_coverage() -> None:
    """In many dimensions the mean is nearer to each image than its neighbours, so coverage alone is not a score."""
    real = RNG.random((200, 30, 30))
    found = diversity(np.repeat(real.mean(axis=0, keepdims=True), 200, axis=0), real)
    assert found.coverage > 0.9
    assert found.density > 10
    assert (found.recall, found.collapse) == (0.0, 1.0)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_coverage_and_recall_equal_the_fraction_of_generated_modes(count: int) -> None:
    """Each mode has many images, so every real image of a generated mode has a generated neighbour."""
    found = diversity(modes(count, 400, seed=1), modes(4, 100, seed=2))
    assert found.coverage == pytest.approx(count / 4, abs=0.01)
    assert (found.spread > 0.95) == (count == 4)
    assert found.recall == pytest.approx(count / 4, abs=0.05)
    assert found.collapse == 1 - min(found.coverage, found.recall)
    # Within their modes, generated images are as dense as real ones.
    assert found.density == pytest.approx(1.0, abs=0.15)


def test_coverage_and_density_of_equal_distributions_match_theory() -> None:
    """Each of the five nearest neighbours of a real image is from either set with equal probability: 1 - 2^-5."""
    real, other = RNG.random((1000, 3)), RNG.random((1000, 3))
    assert diversity(other, real).coverage == pytest.approx(1 - 2**-5, abs=0.02)
    assert diversity(other, real).density == pytest.approx(1.0, abs=0.1)
    assert diversity(other, real, neighbours=1).coverage == pytest.approx(1 / 2, abs=0.05)


def test_noise_has_high_spread_and_zero_coverage() -> None:
    real = modes(4, 50, seed=3)
    found = diversity(np.random.default_rng(5).random(real.shape) * 9, real)
    assert found.spread > 1
    assert (found.coverage, found.density, found.collapse) == (0.0, 0.0, 1.0)
    assert found.recall > 0.9  # so recall alone is not a score either


def test_diversity_matches_hand_computed_values() -> None:
    """On a line: real points 0, 1, 3, whose radii with one neighbour are 1, 1, 2; generated points 0.5, 6, 1.5."""
    real, generated = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [6.0], [1.5]])
    found = diversity(generated, real, neighbours=1)
    # 0.5 lies within the radii of 0 and 1, 1.5 within those of 1 and 3, 6 within none.
    assert found.coverage == 1.0
    assert found.density == pytest.approx(4 / 3)
    # The generated points have radii 1, 4.5 and 1: 0 and 1 lie within the radius of 0.5, 3 within that of 6.
    assert found.recall == 1.0
    assert diversity(np.array([[0.5], [9.0], [1.4]]), np.array([[0.0], [2.0], [99.0]]), neighbours=1).recall == 2 / 3
    # Pairwise distances 5.5, 1, 4.5 divided by 1, 3, 2.
    assert found.spread == pytest.approx(11 / 6)
    assert diversity(generated[::2], real, neighbours=1).spread == pytest.approx(1 / 2)


def test_diversity_ignores_order_and_scale_and_refuses_too_few_images() -> None:
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


def test_measure_diversity_scores_every_generator_and_the_real_images() -> None:
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
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("Diversity of 150 images; collapse is 1 if all are the same or like no real one")
    names = ["collapse", "spread", "coverage", "recall", "density"]
    assert lines[place + 1].split() == ["images", *names]
    for line, kind, of in zip(lines[place + 2 :], ("generated", "real"), (found, found["real"]), strict=False):
        assert line.split() == [kind, *(f"{of[name]:.2f}" for name in names)]
    alone = trained("supervised", method="supervised")
    assert alone["diversity"] is None
    assert "spread" not in alone["rows"][0]
    output.show_report(alone)
    assert "Diversity" not in capsys.readouterr().out
