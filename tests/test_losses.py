import inspect
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssgan import losses

LABELS = torch.tensor([0, 2, 1, 1])


def historical_averaging_of_two(weight: Tensor, bias: Tensor, mean_weight: Tensor, mean_bias: Tensor) -> Tensor:
    # The two mappings list their names in different orders on purpose.
    return losses.historical_averaging({"w": weight, "b": bias}, {"b": mean_bias, "w": mean_weight})


# Every loss as a function of tensors only, with the shapes of its arguments.
# Largest probabilities: 1/3, and about 0.58, 0.79 and 0.998.
SURE = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 7.0]], dtype=torch.float64)
LOSSES: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "supervised": (lambda logits: losses.supervised(logits, LABELS), [(4, 3)]),
    "unlabeled_real": (losses.unlabeled_real, [(4, 3)]),
    "unlabeled_real_smoothed": (lambda logits: losses.unlabeled_real(logits, smoothing=0.9), [(4, 3)]),
    "fake": (losses.fake, [(4, 3)]),
    "feature_matching_l2": (lambda real, fake: losses.feature_matching(real, fake, norm="l2"), [(4, 5), (6, 5)]),
    "feature_matching_l1": (lambda real, fake: losses.feature_matching(real, fake, norm="l1"), [(4, 5), (6, 5)]),
    "generator_minimax": (losses.generator_minimax, [(4, 3)]),
    "generator_non_saturating": (losses.generator_non_saturating, [(4, 3)]),
    "conditional_entropy": (losses.conditional_entropy, [(4, 3)]),
    "class_balance": (losses.class_balance, [(4, 3)]),
    "consistency": (losses.consistency, [(4, 3), (4, 3)]),
    "divergence": (losses.divergence, [(4, 3), (4, 3)]),
    "pseudo_label": (lambda strong: losses.pseudo_label(strong, SURE, 0.6), [(4, 3)]),
    "pull_away": (losses.pull_away, [(4, 3)]),
    "historical_averaging": (historical_averaging_of_two, [(3, 2), (3,), (3, 2), (3,)]),
    "p_real": (losses.p_real, [(4, 3)]),
}
every_loss = pytest.mark.parametrize(("loss", "shapes"), LOSSES.values(), ids=LOSSES.keys())


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(*shape, dtype=torch.float64)).requires_grad_()


def double(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def assert_same_value_and_gradients(actual: Tensor, expected: Tensor, inputs: list[Tensor], atol: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)
    for mine, theirs in zip(torch.autograd.grad(actual, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=atol)


@every_loss
def test_gradient_agrees_with_finite_differences(loss, shapes):
    assert torch.autograd.gradcheck(loss, [normal(*shape) for shape in shapes])


@every_loss
def test_vmap_over_seeds_equals_the_loop(loss, shapes):
    seeds = 3
    inputs = [normal(seeds, *shape).detach() for shape in shapes]
    step = torch.func.grad_and_value(loss, argnums=tuple(range(len(shapes))))
    gradients, values = torch.func.vmap(step)(*inputs)
    for seed in range(seeds):
        expected_gradients, expected_value = step(*[stacked[seed] for stacked in inputs])
        torch.testing.assert_close(values[seed], expected_value, rtol=0, atol=1e-14)
        for stacked, expected in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(stacked[seed], expected, rtol=0, atol=1e-14)
    assert values.unique().numel() == seeds


def test_vmap_of_supervised_uses_the_labels_of_each_seed():
    logits = normal(2, 3, 4).detach()
    y = torch.tensor([[0, 1, 2], [3, 3, 0]])
    expected = torch.stack([losses.supervised(logits[seed], y[seed]) for seed in range(2)])
    torch.testing.assert_close(torch.func.vmap(losses.supervised)(logits, y), expected, rtol=0, atol=1e-14)


@every_loss
def test_float32_inputs_of_1e4_give_finite_values_and_gradients(loss, shapes):
    levels = torch.tensor([1e4, -1e4, 0.0, 1e4, 1e4, -1e4, -1e4])
    for shift in range(len(levels)):
        inputs = []
        for shape in shapes:
            count = math.prod(shape)
            inputs.append(levels.roll(shift + len(inputs)).repeat(count)[:count].reshape(shape).requires_grad_())
        value = loss(*inputs)
        assert value.dtype == torch.float32
        assert value.isfinite()
        for gradient in torch.autograd.grad(value, inputs):
            assert gradient.isfinite().all()


LOG3 = math.log(3.0)


@pytest.mark.parametrize(
    ("name", "level", "value", "slope"),
    [
        ("supervised", 1e4, LOG3, 0.0),
        ("supervised", -1e4, LOG3, 0.0),
        ("unlabeled_real", 1e4, 0.0, 0.0),
        ("unlabeled_real", -1e4, 1e4 - LOG3, -1.0),
        ("unlabeled_real_smoothed", 1e4, 0.1 * (1e4 + LOG3), 0.1),
        ("unlabeled_real_smoothed", -1e4, 0.9 * (1e4 - LOG3), -0.9),
        ("fake", 1e4, 1e4 + LOG3, 1.0),
        ("fake", -1e4, 0.0, 0.0),
        ("generator_minimax", 1e4, -1e4 - LOG3, -1.0),
        ("generator_minimax", -1e4, 0.0, 0.0),
        ("generator_non_saturating", 1e4, 0.0, 0.0),
        ("generator_non_saturating", -1e4, 1e4 - LOG3, -1.0),
        ("conditional_entropy", 1e4, LOG3, 0.0),
        ("conditional_entropy", -1e4, LOG3, 0.0),
        ("class_balance", 1e4, 0.0, 0.0),
        ("class_balance", -1e4, 0.0, 0.0),
        ("p_real", 1e4, 1.0, 0.0),
        ("p_real", -1e4, 0.0, 0.0),
    ],
)
def test_limits_at_three_equal_logits_in_float32(name, level, value, slope):
    logits = torch.full((4, 3), level, requires_grad=True)
    loss = LOSSES[name][0](logits)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(value, rel=1e-6, abs=1e-6)
    # lse near 1e4 is rounded to a multiple of 1e-3 in float32, and its gradient exp(logits - lse) with it.
    assert gradient.sum().item() == pytest.approx(slope, abs=1e-3)


def test_supervised_limits_of_a_certain_and_a_wrong_prediction_in_float32():
    logits = torch.tensor([[1e4, -1e4]])
    assert losses.supervised(logits, torch.tensor([0])).item() == 0.0
    assert losses.supervised(logits, torch.tensor([1])).item() == pytest.approx(2e4, rel=1e-6)


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_implicit_zero_logit_equals_an_explicit_softmax_over_k_plus_1_classes(classes):
    labeled, unlabeled, generated = (
        normal(5, classes, scale=2),
        normal(7, classes, scale=2),
        normal(6, classes, scale=2),
    )
    y = torch.randint(classes, (5,))

    def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
        explicit = torch.cat([logits, logits.new_zeros(len(logits), 1)], dim=1)
        return F.cross_entropy(explicit, y, reduction="none")

    def p_fake(logits: Tensor) -> Tensor:
        return torch.exp(-cross_entropy(logits, torch.full((len(logits),), classes)))

    # -log p(y | x, real) = -log(p(y | x) / (1 - p_fake)) is the cross-entropy over the K real classes only.
    supervised = (cross_entropy(labeled, y) + torch.log1p(-p_fake(labeled))).mean()
    real = -torch.log1p(-p_fake(unlabeled)).mean()
    fake = -torch.log(p_fake(generated)).mean()

    terms = [losses.supervised(labeled, y), losses.unlabeled_real(unlabeled), losses.fake(generated)]
    inputs = [labeled, unlabeled, generated]
    for term, expected in zip(terms, [supervised, real, fake], strict=True):
        torch.testing.assert_close(term, expected, rtol=0, atol=1e-12)
    assert_same_value_and_gradients(sum(terms), supervised + real + fake, inputs, atol=1e-12)


def test_supervised_matches_hand_computed_value():
    # p = (3/4, 1/4): the mean of -log(3/4) and -log(1/4).
    logits = double([[math.log(3.0), 0.0], [math.log(3.0) + 5.0, 5.0]])
    expected = 0.5 * (math.log(4.0 / 3.0) + math.log(4.0))
    assert losses.supervised(logits, torch.tensor([0, 1])).item() == pytest.approx(expected, abs=1e-14)


def test_adversarial_terms_match_hand_computed_values():
    # Three logits of 0: Z = 3, so p(real) = 3/4 and p(generated) = 1/4.
    logits = double([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert losses.unlabeled_real(logits).item() == pytest.approx(math.log(4.0 / 3.0), abs=1e-14)
    assert losses.fake(logits).item() == pytest.approx(math.log(4.0), abs=1e-14)
    assert losses.generator_minimax(logits).item() == pytest.approx(-math.log(4.0), abs=1e-14)
    assert losses.generator_non_saturating(logits).item() == pytest.approx(math.log(4.0 / 3.0), abs=1e-14)


def test_one_class_without_labels_is_the_ordinary_gan():
    real, generated = normal(6, 1, scale=3), normal(4, 1, scale=3)
    expected = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
    expected = expected + F.binary_cross_entropy_with_logits(generated, torch.zeros_like(generated))
    actual = losses.unlabeled_real(real) + losses.fake(generated)
    assert_same_value_and_gradients(actual, expected, [real, generated], atol=1e-14)


def test_generator_objectives_of_one_class_are_binary_cross_entropies():
    generated = normal(6, 1, scale=3)
    minimax = -F.binary_cross_entropy_with_logits(generated, torch.zeros_like(generated))
    non_saturating = F.binary_cross_entropy_with_logits(generated, torch.ones_like(generated))
    assert_same_value_and_gradients(losses.generator_minimax(generated), minimax, [generated], atol=1e-14)
    assert_same_value_and_gradients(losses.generator_non_saturating(generated), non_saturating, [generated], atol=1e-14)


@pytest.mark.parametrize("target", [1.0, 0.9, 0.6])
def test_smoothed_term_is_binary_cross_entropy_with_a_soft_target(target):
    logits = normal(6, 1, scale=3)
    expected = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
    assert_same_value_and_gradients(losses.unlabeled_real(logits, smoothing=target), expected, [logits], atol=1e-14)


def test_smoothed_term_matches_hand_computed_values():
    # One logit of 0 gives lse = 0 and log 2 for any target; three give lse = log 3 and log 4 - a log 3.
    one, three = double([[0.0]]), double([[0.0, 0.0, 0.0]])
    assert losses.unlabeled_real(one, smoothing=0.9).item() == pytest.approx(math.log(2.0), abs=1e-14)
    expected = math.log(4.0) - 0.9 * math.log(3.0)
    assert losses.unlabeled_real(three, smoothing=0.9).item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("target", [0.9, 0.6])
def test_minimum_of_the_smoothed_term_is_the_entropy_of_the_target(target):
    best = math.log(target / (1.0 - target))
    logits = double([[best]])
    value = losses.unlabeled_real(logits, smoothing=target)
    (gradient,) = torch.autograd.grad(value, logits)
    entropy = -target * math.log(target) - (1.0 - target) * math.log(1.0 - target)
    assert value.item() == pytest.approx(entropy, abs=1e-14)
    assert gradient.item() == pytest.approx(0.0, abs=1e-14)
    for neighbor in (best - 0.1, best + 0.1):
        assert losses.unlabeled_real(double([[neighbor]]), smoothing=target).item() > entropy + 1e-4


@pytest.mark.parametrize(("norm", "expected"), [("l2", 5.0), ("l1", 2.0)])
def test_feature_matching_matches_hand_computed_value(norm, expected):
    # Means (2, 4) of two rows and (1, 7) of three: the differences are 1 and -3.
    real, fake = double([[1.0, 2.0], [3.0, 6.0]]), double([[0.0, 5.0], [1.0, 6.0], [2.0, 10.0]])
    assert losses.feature_matching(real, fake, norm=norm).item() == pytest.approx(expected, abs=1e-14)


def test_feature_matching_defaults_to_l2():
    real, fake = normal(4, 3), normal(5, 3)
    assert torch.equal(losses.feature_matching(real, fake), losses.feature_matching(real, fake, norm="l2"))


@pytest.mark.parametrize(("norm", "shifted"), [("l2", 0.25), ("l1", 0.5)])
def test_feature_matching_ignores_the_order_of_rows_but_not_a_shift(norm, shifted):
    real = normal(8, 5).detach()
    assert losses.feature_matching(real, real[torch.randperm(8)], norm).item() == pytest.approx(0.0, abs=1e-14)
    assert losses.feature_matching(real, real[torch.randperm(8)] - 0.5, norm).item() == pytest.approx(
        shifted, abs=1e-14
    )


@pytest.mark.parametrize("norm", ["", "L2", "l3", None])
def test_feature_matching_refuses_an_unknown_norm(norm):
    with pytest.raises(ValueError, match=rf"^norm is {norm!r}, but must be 'l2' or 'l1'$"):
        losses.feature_matching(normal(2, 2), normal(2, 2), norm=norm)


@pytest.mark.parametrize(("norm", "slopes"), [("l2", [1.0, -3.0]), ("l1", [0.5, -0.5])])
def test_feature_matching_gradients_flow_only_to_inputs_that_require_them(norm, slopes):
    # The derivative with respect to the difference (1, -3) of the means, spread evenly over each batch's rows.
    real, fake = double([[1.0, 2.0], [3.0, 6.0]]), double([[0.0, 5.0], [1.0, 6.0], [2.0, 10.0]])
    losses.feature_matching(real.detach(), fake, norm).backward()
    assert real.grad is None
    torch.testing.assert_close(fake.grad, torch.tensor([slopes] * 3, dtype=torch.float64) / -3, rtol=0, atol=1e-14)
    fake.grad = None
    losses.feature_matching(real, fake.detach(), norm).backward()
    assert fake.grad is None
    torch.testing.assert_close(real.grad, torch.tensor([slopes] * 2, dtype=torch.float64) / 2, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([[2.0, 0.0, 0.0], [0.0, -0.5, 0.0], [0.0, 0.0, 7.0]], 0.0, id="orthogonal"),
        pytest.param([[0.3, -2.0, 1.0]] * 4, 1.0, id="identical"),
        pytest.param([[0.3, -2.0, 1.0], [-0.3, 2.0, -1.0]], 1.0, id="opposite"),
        # Squared cosines of the three pairs: 0, 1/2 and 1/2.
        pytest.param([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]], 1.0 / 3.0, id="three-rows"),
        # A zero row has cosine 0 with both others, which are parallel.
        pytest.param([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]], 1.0 / 3.0, id="zero-row"),
        pytest.param([[0.0, 0.0], [0.0, 0.0]], 0.0, id="all-zero"),
        pytest.param([[3.0, 4.0]], 0.0, id="one-row"),
    ],
)
def test_pull_away_matches_hand_computed_value(rows, expected):
    assert losses.pull_away(double(rows)).item() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pull_away_of_zero_rows_has_a_finite_gradient(dtype):
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0], [4.0, 3.0], [0.0, 0.0]], dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(losses.pull_away(features), features)
    assert gradient.isfinite().all()
    assert torch.equal(gradient[[0, 3]], torch.zeros(2, 2, dtype=dtype))
    assert (gradient[1:3].norm(dim=1) > 1e-3).all()


def test_pull_away_does_not_depend_on_the_norm_of_a_row():
    features = normal(5, 4).detach()
    lengths = torch.tensor([1e-6, 0.1, 1.0, 30.0, 1e6], dtype=torch.float64)[:, None]
    torch.testing.assert_close(losses.pull_away(lengths * features), losses.pull_away(features), rtol=0, atol=1e-13)


@pytest.mark.parametrize("classes", [2, 5])
def test_conditional_entropy_of_equal_logits_is_log_k(classes):
    logits = torch.full((3, classes), -1.5, dtype=torch.float64)
    assert losses.conditional_entropy(logits).item() == pytest.approx(math.log(classes), abs=1e-14)


def test_conditional_entropy_of_a_certain_prediction_is_zero():
    assert losses.conditional_entropy(double([[800.0, 0.0, 0.0], [0.0, 0.0, 800.0]])).item() == 0.0


def test_conditional_entropy_matches_hand_computed_value():
    # p = (3/4, 1/4) has entropy log 4 - 3/4 log 3; the other row (1/2, 1/2) has log 2.
    logits = double([[math.log(3.0), 0.0], [7.0, 7.0]])
    expected = 0.5 * (math.log(4.0) - 0.75 * math.log(3.0) + math.log(2.0))
    assert losses.conditional_entropy(logits).item() == pytest.approx(expected, abs=1e-14)


def test_class_balance_matches_hand_computed_value():
    # The mean of (3/4, 1/4) and (1/2, 1/2) is (5/8, 3/8).
    logits = double([[math.log(3.0), 0.0], [7.0, 7.0]])
    expected = math.log(2.0) + 5 / 8 * math.log(5 / 8) + 3 / 8 * math.log(3 / 8)
    assert losses.class_balance(logits).item() == pytest.approx(expected, abs=1e-14)


def test_class_balance_is_0_for_even_and_log_k_for_one_class():
    even, one = double([[900.0, 0.0], [0.0, 900.0]]), double([[900.0, 0.0], [900.0, 0.0]])
    assert losses.class_balance(even).item() == pytest.approx(0.0, abs=1e-14)
    assert losses.class_balance(one).item() == pytest.approx(math.log(2.0), abs=1e-14)


def test_historical_averaging_matches_hand_computed_values():
    weight, bias = double([[1.0, -2.0], [0.5, 4.0]]), double([3.0])
    mean_weight, mean_bias = double([[0.0, 1.0], [0.5, 2.0]]).detach(), double([2.5]).detach()
    value = historical_averaging_of_two(weight, bias, mean_weight, mean_bias)
    assert value.item() == pytest.approx(1.0 + 9.0 + 0.0 + 4.0 + 0.25, abs=1e-14)
    gradients = torch.autograd.grad(value, [weight, bias])
    torch.testing.assert_close(gradients[0], double([[2.0, -6.0], [0.0, 4.0]]).detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(gradients[1], double([1.0]).detach(), rtol=0, atol=1e-14)


def test_p_real_is_the_sigmoid_of_logsumexp():
    logits = normal(6, 4)
    z = logits.exp().sum(dim=1)
    torch.testing.assert_close(losses.p_real(logits), (z / (z + 1.0)).mean(), rtol=0, atol=1e-14)
    torch.testing.assert_close(losses.p_real(logits), logits.logsumexp(dim=1).sigmoid().mean(), rtol=0, atol=1e-14)
    assert losses.p_real(double([[0.0, 0.0, 0.0]])).item() == pytest.approx(0.75, abs=1e-14)


def test_consistency_matches_hand_computed_value():
    # Rows (1/2, 1/2) and (1/4, 3/4) against (1/2, 1/2) and (3/4, 1/4): squares 0, 0, 1/4, 1/4 over four entries.
    log3 = math.log(3.0)
    value = losses.consistency(double([[0.0, 0.0], [0.0, log3]]), double([[7.0, 7.0], [log3, 0.0]]))
    assert value.item() == pytest.approx(1 / 8, abs=1e-15)


def test_consistency_is_0_for_equal_and_largest_for_opposite_predictions():
    logits = normal(5, 4)
    assert losses.consistency(logits, logits.detach() + 3.0).item() == pytest.approx(0.0, abs=1e-30)
    opposites = losses.consistency(double([[1e4, 0.0, 0.0]]), double([[0.0, 1e4, 0.0]]))
    assert opposites.item() == pytest.approx(2 / 3, abs=1e-15)


def test_divergence_matches_hand_computed_values():
    # (1/2, 1/2) against (1/4, 3/4): 1/2 log 2 + 1/2 log 2/3; the second row agrees.
    target, logits = double([[0.0, 0.0], [1.0, 3.0]]), double([[0.0, math.log(3.0)], [5.0, 7.0]])
    expected = 0.5 * (0.5 * math.log(2.0) + 0.5 * math.log(2.0 / 3.0))
    assert losses.divergence(target, logits).item() == pytest.approx(expected, abs=1e-15)
    # With a fixed target, the slope is (q - p) / B.
    (slope,) = torch.autograd.grad(losses.divergence(target.detach(), logits), [logits])
    torch.testing.assert_close(slope, double([[-0.125, 0.125], [0.0, 0.0]]).detach(), rtol=0, atol=1e-15)


def test_divergence_is_never_negative_and_not_symmetric():
    p, q = normal(50, 4, scale=3), normal(50, 4, scale=3)
    assert min(losses.divergence(p[i : i + 1], q[i : i + 1]).item() for i in range(50)) > 0
    assert losses.divergence(p, p.detach() + 2.0).item() == pytest.approx(0.0, abs=1e-14)
    assert abs(losses.divergence(p, q).item() - losses.divergence(q, p).item()) > 1e-3


def test_pseudo_label_of_a_view_by_itself_is_its_most_likely_class():
    logits = SURE.clone().requires_grad_()
    expected = -(SURE.log_softmax(dim=1).amax(dim=1)[2:].sum()) / 4
    value = losses.pseudo_label(logits, logits, 0.6)
    assert value.item() == pytest.approx(expected.item(), abs=1e-15)
    (slope,) = torch.autograd.grad(value, [logits])
    own = F.one_hot(SURE.argmax(dim=1), 3) - SURE.softmax(dim=1)
    torch.testing.assert_close(slope, -own * torch.tensor([0, 0, 1, 1])[:, None] / 4, rtol=0, atol=1e-15)


def test_pseudo_label_matches_hand_computed_value():
    """Only the last two weak views are sure of a class above 0.6, classes 1 and 2; the mean is over all four rows."""
    strong = double([[9.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, math.log(2.0), 0.0]])
    expected = (math.log(3.0) + math.log(4.0)) / 4
    assert losses.pseudo_label(strong, SURE, 0.6).item() == pytest.approx(expected, abs=1e-15)
    assert losses.confident_share(SURE, 0.6).item() == 0.5


def test_pseudo_label_gives_gradients_only_to_strong_views_of_confident_rows():
    strong, weak = normal(4, 3), SURE.clone().requires_grad_()
    by_strong, by_weak = torch.autograd.grad(losses.pseudo_label(strong, weak, 0.6), [strong, weak], allow_unused=True)
    assert by_weak is None
    assert by_strong.abs().sum(dim=1).gt(0).tolist() == [False, False, True, True]


@pytest.mark.parametrize("threshold", [1.0, 1.5])
def test_a_threshold_above_every_probability_gives_no_gradient(threshold):
    strong = normal(4, 3)
    value = losses.pseudo_label(strong, SURE, threshold)
    assert value.item() == 0.0
    assert not torch.autograd.grad(value, [strong])[0].any()


def test_losses_that_are_not_row_means_join_the_shares_of_processes() -> None:
    """The mean loss of two shares is the loss of all rows, except for losses that join their averages themselves."""
    random = torch.Generator().manual_seed(0)
    joined = set()
    for name in losses.__all__:
        function = getattr(losses, name)
        names = [p.name for p in inspect.signature(function).parameters.values() if p.annotation is Tensor]
        if not names:  # of parameters only
            continue
        whole = {
            row: torch.randint(4, (8,), generator=random)
            if row == "y_B"
            else torch.randn(8, 4, generator=random, dtype=torch.float64)
            for row in names
        }
        more = {"threshold": 0.4} if "threshold" in inspect.signature(function).parameters else {}
        halves = [function(**{row: x[half] for row, x in whole.items()}, **more) for half in (slice(4), slice(4, 8))]
        if abs(float(function(**whole, **more) - sum(halves) / 2)) > 1e-12:
            joined.add(name)
    # tests/promises/test_processes.py trains with each of these. A new one must call distributed.mean or joined_rows.
    assert joined == {"feature_matching", "class_balance", "pull_away"}
