"""Virtual adversarial training: predictions should not change in the direction in which they change most.

Shapes: B rows, K classes. Every pass over a batch is given the numbers that its first pass drew, so noise and dropout
are the same in all of them: only the perturbation tells them apart, and without one the term is 0. The direction is
found by ``torch.func``, which can be lifted over a seed axis, and carries no gradient; neither does the clean pass.

Source: Miyato et al., *Virtual Adversarial Training: A Regularization Method for Supervised and Semi-Supervised
Learning*, 2018, sections 3.2 and 3.3. What differs: the noise, which there is drawn anew for every pass; and lengths,
which are given per number of an image (a root mean square), so that they suit images of any size.

One batch: what each method computes from it, as phases of the same loop.

Written as if there were one seed; the trainer lifts every phase over the seed axis. A method is a
tuple of phases, each of which updates one network. All but the baseline share theirs and differ in
the weights of the terms, of which each has its own (``traits``). B rows, K classes, F features.

Nothing here knows a hidden label: :class:`Batch` has no field for one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssgan import losses
from ssgan.nn import noise
from ssgan.settings.catalog import METHOD_NAMES
from ssgan.settings.config import Config

__all__ = ["METHODS", "Batch", "Logs", "Nets", "Phase", "of_length", "perturbation", "virtual_adversarial"]


def virtual_adversarial(net: Callable[[Tensor], Any], x: Tensor, epsilon: float, xi: float, iterations: int) -> Tensor:
    """Mean divergence of the class probabilities at ``x`` plus the worst perturbation from those at ``x``.

    Parameters
    ----------
    net : callable
        From images to logits [B, K] and features. A network that couples rows sees each batch by itself.
    x : Tensor, shape [B, ...]
    epsilon, xi, iterations
        As for :func:`perturbation`.
    """
    with torch.no_grad(), noise.record() as draws:
        clean_BK = net(x)[0]

    def logits(x: Tensor) -> Tensor:
        with noise.replay(draws):
            logits_BK: Tensor = net(x)[0]
        return logits_BK

    return losses.divergence(clean_BK, logits(x + perturbation(logits, clean_BK, x, epsilon, xi, iterations)))


def perturbation(
    logits: Callable[[Tensor], Tensor], clean_BK: Tensor, x: Tensor, epsilon: float, xi: float, iterations: int
) -> Tensor:
    """The change of ``x`` of length ``epsilon`` to which the class probabilities are most sensitive, one for each row.

    The divergence has its minimum at no change, so its gradient a little beside, at length ``xi``, is that of its
    curvature: the power method, from a random direction. Lengths are root mean squares over the numbers of a row. A row
    whose probabilities do not change at all has none.
    """
    direction = noise.normal_like(x)
    with torch.no_grad():  # of the parameters; torch.func goes on for the direction
        for _ in range(iterations):
            direction = torch.func.grad(lambda r: losses.divergence(clean_BK, logits(x + r)))(of_length(xi, direction))
    return of_length(epsilon, direction)


def of_length(length: float, rows: Tensor) -> Tensor:
    """Each row [B, ...] brought to this root mean square; a row of zeros stays one."""
    tiny, axes = torch.finfo(rows.dtype).tiny, list(range(1, rows.dim()))
    scaled = rows / rows.abs().amax(dim=axes, keepdim=True).clamp_min(tiny)  # squares of small numbers would be 0
    return scaled * (length / scaled.square().mean(dim=axes, keepdim=True).clamp_min(tiny).sqrt())


Logs = dict[str, Tensor]


class Batch(NamedTuple):
    """One batch, each row in the network's input range.

    ``x_unl2`` and ``z2`` are the generator phase's own unlabelled images and noise; ``x_strong`` are strongly
    augmented views of the images in ``x_unl``, ``x_again`` second weak ones, no rows where no term needs them.
    """

    x_lab: Tensor
    y_lab: Tensor
    x_unl: Tensor
    x_unl2: Tensor
    z: Tensor
    z2: Tensor
    x_strong: Tensor
    x_again: Tensor


class Nets(NamedTuple):
    """The networks of one seed, each callable; only the phase's own one receives gradients.

    Each has ``parameters``, ``history`` (their running mean, where it is kept) and ``couples_rows``
    (whether an output depends on the other rows of its batch). ``teacher`` is D with its averaged parameters,
    in D's phase and where a term asks for it.
    """

    D: Any
    G: Any
    teacher: Any = None


class Phase(NamedTuple):
    """One update: of which network, by which loss, and on how many fresh batches in a step.

    The loss is told which share of their weights the terms on unlabelled images have by now.
    """

    net: str
    loss: Callable[[Nets, Batch, Config, float | Tensor], tuple[Tensor, Logs]]
    repeat: int = 1


def discriminator_loss(nets: Nets, batch: Batch, config: Config, ramp: float | Tensor) -> tuple[Tensor, Logs]:
    """L + U + V and further terms on unlabelled images, weighted.

    A term of weight 0 is not built: no pass, no random number.
    """
    inputs = {}
    if config.learns_from_labels:
        inputs["labeled"] = batch.x_lab
    if config.learns_from_unlabeled:
        inputs["unlabeled"] = batch.x_unl
    if config.weight_consistency:
        inputs["unlabeled_again"] = batch.x_again
    if config.weight_pseudo_label:
        inputs["strong"] = batch.x_strong
    if config.weight_fake:
        inputs["fake"] = nets.G(batch.z)
    logits = {name: output[0] for name, output in _separately(nets.D, inputs).items()}
    if config.weight_pseudo_label and "unlabeled" not in logits:
        with torch.no_grad():  # weak views give a target and nothing else
            logits["unlabeled"] = nets.D(batch.x_unl)[0]

    total = _Total()
    if config.learns_from_labels:
        total.add("L", config.weight_labeled, losses.supervised(logits["labeled"], batch.y_lab))
    if config.weight_unlabeled:
        total.add("U", config.weight_unlabeled, losses.unlabeled_real(logits["unlabeled"], config.real_target))
    if config.weight_fake:
        total.add("V", config.weight_fake, losses.fake(logits["fake"]))
    _add_agreement(total, nets, batch, logits, config, ramp if config.ramp_up_fraction else 1.0)
    _add_history(total, "D", nets.D, config)
    for name in ("unlabeled", "fake"):
        if name in logits:
            total.logs[f"p_real_{name}"] = losses.p_real(logits[name].detach())
    if config.unconditional:
        total.logs["accuracy_real"] = losses.share_judged_real(logits["unlabeled"].detach())
        total.logs["accuracy_fake"] = 1.0 - losses.share_judged_real(logits["fake"].detach())
    return total.value, total.logs


def _add_agreement(
    total: "_Total", nets: Nets, batch: Batch, logits: dict[str, Tensor], config: Config, share: float | Tensor
) -> None:
    """The terms that ask of unlabelled images to be sure of a class, or of several passes to agree on it."""
    threshold = config.pseudo_label_threshold
    if config.weight_entropy:
        total.add("entropy", share * config.weight_entropy, losses.conditional_entropy(logits["unlabeled"]))
    if config.weight_consistency:
        distance = losses.consistency(logits["unlabeled"], logits["unlabeled_again"])
        total.add("consistency", share * config.weight_consistency, distance)
    if config.weight_pseudo_label:
        term = losses.pseudo_label(logits["strong"], logits["unlabeled"], threshold)
        total.add("pseudo_label", share * config.weight_pseudo_label, term)
    if config.weight_self_label:
        term = losses.pseudo_label(logits["unlabeled"], logits["unlabeled"], threshold)
        total.add("self_label", share * config.weight_self_label, term)
    if config.weight_pseudo_label or config.weight_self_label:
        total.logs["sure"] = losses.confident_share(logits["unlabeled"].detach(), threshold)
    if config.weight_mean_teacher:
        with torch.no_grad():
            target = nets.teacher(batch.x_again)[0]
        distance = losses.consistency(logits["unlabeled"], target)
        total.add("mean_teacher", share * config.weight_mean_teacher, distance)
    if config.weight_vat:
        term = virtual_adversarial(nets.D, batch.x_unl, config.vat_epsilon, config.vat_xi, config.vat_power_iterations)
        total.add("vat", share * config.weight_vat, term)


def generator_loss(nets: Nets, batch: Batch, config: Config, ramp: float | Tensor) -> tuple[Tensor, Logs]:
    """Feature matching, and whichever other objectives have a weight."""
    total = _Total()
    if config.weight_minimax or config.weight_non_saturating:
        logits_fake, features_fake = nets.D(nets.G(batch.z2))
    else:
        features_fake = nets.D.features(nets.G(batch.z2))
    if config.weight_feature_matching:
        features_real = nets.D.features(batch.x_unl2)
        distance = losses.feature_matching(features_real, features_fake, config.feature_matching_norm)
        total.add("feature_matching", config.weight_feature_matching, distance)
    if config.weight_minimax:
        total.add("minimax", config.weight_minimax, losses.generator_minimax(logits_fake))
    if config.weight_non_saturating:
        total.add("non_saturating", config.weight_non_saturating, losses.generator_non_saturating(logits_fake))
    if config.weight_pull_away:
        total.add("pull_away", config.weight_pull_away, losses.pull_away(features_fake))
    _add_history(total, "G", nets.G, config)
    return total.value, total.logs


def supervised_loss(nets: Nets, batch: Batch, config: Config, ramp: float | Tensor) -> tuple[Tensor, Logs]:
    """L alone: the same network, noise and budget without unlabelled or generated images."""
    total = _Total()
    logits, _ = nets.D(batch.x_lab)
    total.add("L", config.weight_labeled, losses.supervised(logits, batch.y_lab))
    _add_history(total, "D", nets.D, config)
    return total.value, total.logs


def by_weights(config: Config) -> tuple[Phase, ...]:
    """D by every term that has a weight, against a generator where V has one."""
    phases = [Phase("D", discriminator_loss, config.discriminator_steps)]
    if config.trains_generator:
        phases.append(Phase("G", generator_loss))
    return tuple(phases)


def supervised(config: Config) -> tuple[Phase, ...]:
    """The baseline."""
    return (Phase("D", supervised_loss, config.discriminator_steps),)


METHODS: dict[str, Callable[[Config], tuple[Phase, ...]]] = {
    name: supervised if name == "supervised" else by_weights for name in METHOD_NAMES
}


class _Total:
    """A weighted sum of named terms, each kept for the log."""

    def __init__(self) -> None:
        self.terms: list[Tensor] = []
        self.logs: Logs = {}

    def add(self, name: str, weight: float | Tensor, term: Tensor) -> None:
        self.terms.append(weight * term)
        self.logs[name] = term.detach()

    @property
    def value(self) -> Tensor:
        return torch.stack(self.terms).sum()


def _separately(net: Any, inputs: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """D's outputs on several batches that must not see each other.

    One pass over all rows computes the same where a row's output is its own; a network that couples
    the rows of a batch gets one pass for each.
    """
    if net.couples_rows or len(inputs) <= 1:
        return {name: net(x) for name, x in inputs.items()}
    sizes = [len(x) for x in inputs.values()]
    logits, features = net(torch.cat(list(inputs.values())))
    return dict(zip(inputs, zip(logits.split(sizes), features.split(sizes), strict=True), strict=True))


def _add_history(total: _Total, name: str, net: Any, config: Config) -> None:
    if config.weight_historical_averaging:
        distance = losses.historical_averaging(net.parameters, net.history)
        total.add(f"historical_averaging_{name}", config.weight_historical_averaging, distance)
