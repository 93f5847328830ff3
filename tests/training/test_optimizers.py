"""Adam, SGD and Muon against torch and hand-computed values."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from ssgan.settings.config import Config
from ssgan.training.optimizers import SGD, Adam, Muon, build_optimizer, orthogonalize

# A learning rate for each step, so that a schedule is tested too.
RATES = [0.01 * (1.0 - 0.03 * step) for step in range(20)]
settings = pytest.mark.parametrize(("betas", "epsilon"), [((0.5, 0.999), 1e-8), ((0.9, 0.99), 1e-3)])


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def gradients_of_many_sizes(*shape: int) -> torch.Tensor:
    """Between about 1e-6 and 1e2, so that epsilon matters to some and not to others."""
    return torch.randn(*shape, dtype=torch.float64) * 10.0 ** (8.0 * torch.rand(*shape, dtype=torch.float64) - 6.0)


def torch_step(optimizer: torch.optim.Optimizer, gradients: list[torch.Tensor], rate: float) -> None:
    """Take a step with these gradients, one for each parameter, at this learning rate."""
    (group,) = optimizer.param_groups
    for p, gradient in zip(group["params"], gradients, strict=True):
        p.grad = gradient
    group["lr"] = rate
    optimizer.step()


@settings
def test_adam_with_epsilon_outside_the_root_equals_torch(betas, epsilon):
    parameters = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [(3, 2), (4,)]]
    reference = [p.detach().clone().requires_grad_() for p in parameters]
    start = [p.detach().clone() for p in parameters]
    optimizer = Adam(parameters, betas, epsilon, inside_root=False)
    torch_optimizer = torch.optim.Adam(reference, betas=betas, eps=epsilon)
    for rate in RATES:
        gradients = [gradients_of_many_sizes(*p.shape) for p in parameters]
        optimizer.step(gradients, rate)
        torch_step(torch_optimizer, gradients, rate)
        for mine, theirs in zip(parameters, reference, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    assert all((p - p0).abs().min() > 1e-6 for p, p0 in zip(parameters, start, strict=True))


@settings
def test_adam_with_epsilon_inside_the_root_equals_the_formula(betas, epsilon):
    parameter = torch.randn(30, dtype=torch.float64, requires_grad=True)
    theta, m, v = parameter.detach().numpy().copy(), np.zeros(30), np.zeros(30)
    optimizer = Adam([parameter], betas, epsilon, inside_root=True)
    for step, rate in enumerate(RATES, start=1):
        gradient = gradients_of_many_sizes(30)
        optimizer.step((gradient,), rate)
        g = gradient.numpy()
        m = betas[0] * m + (1.0 - betas[0]) * g
        v = betas[1] * v + (1.0 - betas[1]) * g**2
        theta = theta - rate * (m / (1.0 - betas[0] ** step)) / np.sqrt(v / (1.0 - betas[1] ** step) + epsilon)
        np.testing.assert_allclose(parameter.detach().numpy(), theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("inside_root", "expected"),
    [(True, 1e-6 / math.sqrt(1e-12 + 1e-8)), (False, 1e-6 / (1e-6 + 1e-8))],
    ids=["inside", "outside"],
)
def test_first_adam_step_of_a_tiny_gradient_matches_hand_computed_value(inside_root, expected):
    # After one debiased step m = g and v = g^2: the step is g / sqrt(g^2 + e), or g / (|g| + e), of the rate.
    parameter = torch.zeros(1, dtype=torch.float64)
    Adam([parameter], (0.5, 0.999), 1e-8, inside_root).step([torch.full_like(parameter, 1e-6)], 1.0)
    assert -parameter.item() == pytest.approx(expected, rel=1e-10)
    assert (-parameter.item() < 0.01) == inside_root


@pytest.mark.parametrize("inside_root", [True, False])
def test_nan_in_one_seed_leaves_the_others_bit_identical(inside_root):
    start = torch.randn(3, 5)
    gradients = [torch.randn(3, 5) for _ in range(5)]
    finals = []
    for poisoned in (False, True):
        parameter = start.clone()
        optimizer = Adam([parameter], (0.5, 0.999), 1e-8, inside_root)
        for step, gradient in enumerate(gradients):
            gradient = gradient.clone()
            if poisoned and step == 1:
                gradient[1] = math.nan
            optimizer.step([gradient], 0.01)
        finals.append(parameter)
    clean, broken = finals
    assert torch.equal(broken[[0, 2]], clean[[0, 2]])
    assert broken[1].isnan().all()
    assert clean.isfinite().all()
    assert not torch.equal(clean, start)


@pytest.mark.parametrize("inside_root", [True, False])
def test_adam_on_stacked_seeds_equals_separate_optimizers(inside_root):
    start = torch.randn(3, 5, dtype=torch.float64)
    gradients = [torch.randn(3, 5, dtype=torch.float64) for _ in range(5)]
    stacked, separate = start.clone(), [row.clone() for row in start]
    together = Adam([stacked], (0.5, 0.999), 1e-8, inside_root)
    alone = [Adam([row], (0.5, 0.999), 1e-8, inside_root) for row in separate]
    for gradient in gradients:
        together.step([gradient], 0.01)
        for seed, optimizer in enumerate(alone):
            optimizer.step([gradient[seed]], 0.01)
    torch.testing.assert_close(stacked, torch.stack(separate), rtol=0, atol=1e-14)
    assert not torch.equal(stacked, start)


def test_adam_accepts_gradients_of_any_memory_layout():
    """Gradients of convolutions are channels-last, and those from vmap are often transposed."""
    start, gradients = torch.randn(4, 3, 5), [torch.randn(4, 3, 5) for _ in range(3)]
    orders = [(0, 1, 2), (2, 0, 1), (1, 2, 0)]
    results = []
    for order in orders:
        parameter = start.clone()
        optimizer = Adam([parameter], (0.5, 0.999), 1e-8, inside_root=True)
        for gradient in gradients:
            permuted = gradient.permute(order).contiguous().permute([order.index(axis) for axis in range(3)])
            assert torch.equal(permuted, gradient)
            optimizer.step([permuted], 0.01)
        results.append(parameter)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_parameters_must_be_contiguous():
    with pytest.raises(ValueError, match="contiguous"):
        Adam([torch.zeros(3, 4).T], (0.5, 0.999), 1e-8, True)


@pytest.mark.parametrize("momentum", [0.0, 0.6, 0.9])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_sgd_equals_torch(momentum, as_tensor):
    """With a changing learning rate, which must not enter the velocity."""
    parameters = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [(3, 2), (4,)]]
    reference = [p.detach().clone().requires_grad_() for p in parameters]
    optimizer = SGD(parameters, momentum)
    torch_optimizer = torch.optim.SGD(reference, lr=1.0, momentum=momentum, nesterov=momentum > 0, foreach=False)
    for rate in RATES:
        gradients = [torch.randn_like(p) for p in parameters]
        optimizer.step(gradients, torch.tensor(rate, dtype=torch.float64) if as_tensor else rate)
        torch_step(torch_optimizer, gradients, rate)
        for mine, theirs in zip(parameters, reference, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_two_nesterov_steps_match_hand_computed_values():
    # v = 1, step 1 + 0.5 * 1; then v = 0.5 * 1 + 2 = 2.5, step 2 + 0.5 * 2.5: at a rate of 0.1 down by 0.15 and 0.325.
    parameter = torch.zeros(1, dtype=torch.float64)
    optimizer = SGD([parameter], 0.5)
    optimizer.step([torch.ones(1, dtype=torch.float64)], 0.1)
    assert parameter.item() == pytest.approx(-0.15)
    optimizer.step([2 * torch.ones(1, dtype=torch.float64)], 0.1)
    assert parameter.item() == pytest.approx(-0.475)


def stacked_and_separate(start, make):
    """Seeds 0 and 2 of three after five steps, stacked and separate; seed 1 gets a NaN."""
    stacked, separate = start.clone(), [one.clone() for one in start]
    together, alone = make(stacked, True), [make(one, False) for one in separate]
    for step in range(5):
        gradient = torch.randn_like(start)
        if step == 2:
            gradient[1] = math.nan
        together.step([gradient], 0.01)
        for seed, optimizer in enumerate(alone):
            optimizer.step([gradient[seed]], 0.01)
    assert stacked[1].isnan().all()
    assert not torch.equal(stacked[0], start[0])
    return stacked[[0, 2]], torch.stack(separate)[[0, 2]]


def test_sgd_on_stacked_seeds_equals_separate_optimizers_despite_a_nan():
    start = torch.randn(3, 5, dtype=torch.float64)
    together, alone = stacked_and_separate(start, lambda p, _: SGD([p], 0.6))
    assert torch.equal(together, alone)


def test_sgd_accepts_gradients_of_any_memory_layout_and_keeps_them():
    start, gradient = torch.randn(4, 3), torch.randn(3, 4).T
    parameter, plain, before = start.clone(), start.clone(), gradient.clone()
    SGD([parameter], 0.6).step([gradient], 0.1)
    SGD([plain], 0.6).step([gradient.contiguous()], 0.1)
    assert torch.equal(parameter, plain)
    assert torch.equal(gradient, before)
    with pytest.raises(ValueError, match="contiguous"):
        SGD([torch.zeros(3, 4).T], 0.6)


def test_sgd_refuses_a_velocity_of_another_shape():
    optimizer = SGD([torch.zeros(3)], 0.6)
    with pytest.raises(ValueError, match=r"a moment has shape \[4\]"):
        optimizer.restore(SGD([torch.zeros(4)], 0.6).state())


# Muon


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (7, 7), (3, 2, 9)])
def test_orthogonalize_sets_singular_values_near_1_and_keeps_vectors(shape):
    matrices = torch.randn(*shape, dtype=torch.float64)
    U, _, Vh = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalize(1e-3 * matrices)
    in_its_basis = U.mT @ found @ Vh.mT
    values = in_its_basis.diagonal(dim1=-2, dim2=-1)
    assert ((values > 0.6) & (values < 1.3)).all()
    torch.testing.assert_close(in_its_basis, torch.diag_embed(values), rtol=0, atol=1e-9)
    assert torch.equal(orthogonalize(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_orthogonalize_sets_small_singular_values_near_1():
    """Values from 0.01 of the Frobenius norm up; four iterations would leave some of them at 1.2."""
    small = torch.linspace(0.01, 0.7, 5000, dtype=torch.float64)
    found = orthogonalize(torch.diag_embed(torch.stack([(1 - small**2).sqrt(), small], dim=1)))
    values = found.diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.68
    assert values.max() < 1.14


def muon(parameters, directions, **options):
    settings = {"momentum": 0.9, "lr_ratio": 10.0, **options}
    return Muon(parameters, (0.5, 0.999), 1e-8, True, directions, **settings)


def test_muon_rotates_units_by_the_formula_and_keeps_their_norms():
    v = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    expected, velocity = v.flatten(1).numpy().copy(), np.zeros((4, 18))
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    optimizer = muon([v], [True])
    for rate in RATES:
        gradient = torch.randn_like(v)
        optimizer.step([gradient], rate)
        g = gradient.flatten(1).numpy()
        velocity = 0.9 * velocity + g
        update = orthogonalize(torch.from_numpy(g + 0.9 * velocity)).numpy()
        update /= np.linalg.norm(update, axis=1).mean()
        expected = expected / lengths - 10.0 * rate * update
        expected *= lengths / np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(v.flatten(1).numpy(), expected, rtol=0, atol=1e-12)


def test_muon_rotates_a_single_unit_by_the_learning_rate():
    """The update of a single unit has norm 1; orthogonal to the unit, the tangent of the angle is the rate."""
    v = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    muon([v], [True]).step([torch.tensor([[0.0, 7.0]], dtype=torch.float64)], 0.01)
    angle = math.atan(10 * 0.01)
    np.testing.assert_allclose(v.numpy(), [[2 * math.cos(angle), -2 * math.sin(angle)]], rtol=0, atol=1e-12)


def test_muon_updates_other_parameters_as_adam_bit_for_bit():
    start, gradients = torch.randn(3, 4), [torch.randn(3, 4) for _ in range(5)]
    ours, theirs, v = start.clone(), start.clone(), torch.randn(3, 4)
    mixed, plain = muon([v, ours], [True, False]), Adam([theirs], (0.5, 0.999), 1e-8, True)
    for gradient in gradients:
        mixed.step([gradient, gradient], 0.01)
        plain.step([gradient], 0.01)
    assert torch.equal(ours, theirs)
    assert mixed.state().keys() == plain.state().keys()


def test_muon_on_stacked_seeds_equals_separate_optimizers_despite_a_nan():
    start = torch.randn(3, 4, 2, 3, dtype=torch.float64)
    together, alone = stacked_and_separate(start, lambda p, stacked: muon([p], [True], stacked=stacked))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_build_optimizer_uses_muon_only_for_hidden_directions():
    config = Config(optimizer_d="muon", learning_rate_muon=0.06, learning_rate_d=3e-3, momentum_d=0.5)
    names = {name: torch.zeros(2, 2) for name in ("trunk.0.v", "trunk.0.b", "output.v", "output.g")}
    found = build_optimizer(config, "D", names, stacked=False)
    assert isinstance(found, Muon)
    assert (found.muon_indices, found.adam_indices) == ([0], [1, 2, 3])
    assert (found.momentum, found.lr_ratio) == (0.5, pytest.approx(20.0))
    assert type(build_optimizer(config, "G", names, stacked=False)) is Adam
