"""Compute the losses of one batch: the phases of a step, and the terms of each.

Written as if there were one seed; the trainer lifts every phase over the seed axis. A method is a tuple of phases, each
of which updates one network, and a choice of weights for the terms of :mod:`ssgan.settings.terms`. Shapes: B rows, K
classes, F features.

Nothing here knows a hidden label: :class:`Batch` has no field for one.

Virtual adversarial training is here and not in :mod:`ssgan.losses` because it runs D. Its passes share the noise of the
first one, so that only the perturbation differs, and without one the term is 0. The direction and the clean pass carry
no gradient. Source: Miyato et al., *Virtual Adversarial Training: A Regularization Method for Supervised and
Semi-Supervised Learning*, 2018, sections 3.2 and 3.3. Differences: the noise, which they draw again for each pass, and
lengths, which here are root mean squares over the values of an image, so that they suit images of any size.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssgan import losses
from ssgan.nn import noise
from ssgan.settings.config import Config
from ssgan.settings.terms import INPUTS_OF_D, Term

__all__ = ["Batch", "Logs", "Nets", "Phase", "perturbation", "phases", "scale_to_rms", "virtual_adversarial"]


Logs = dict[str, Tensor]


class Batch(NamedTuple):
    """Hold one batch, each row in the network's input range.

    ``x_unl2`` and ``z2`` are the unlabelled images and latents of the generator's phase. ``x_strong`` are strongly
    augmented views of the images in ``x_unl``, ``x_again`` second weak views; empty if no term needs them.
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
    """Hold the networks of one seed, each callable; only the network that a phase updates receives gradients.

    Each has ``parameters``, ``history`` (their running mean, for historical averaging) and ``couples_rows``
    (whether an output depends on the other rows of its batch). ``teacher`` is D with its averaged parameters,
    in D's phase and if a term needs it.
    """

    D: Any
    G: Any
    teacher: Any = None


class Phase(NamedTuple):
    """Describe one update: of which network, by which loss, and on which of the fresh batches of a step.

    The last argument of the loss is the factor of the weights of the ramped terms. The update is repeated on
    ``repeat`` batches, from number ``first``.
    """

    net: str
    loss: Callable[[Nets, Batch, Config, float | Tensor], tuple[Tensor, Logs]]
    repeat: int = 1
    first: int = 0


def discriminator_loss(nets: Nets, batch: Batch, config: Config, ramp: float | Tensor) -> tuple[Tensor, Logs]:
    """Return L + U + V and the further terms of D's loss, weighted.

    A term of weight 0 is not computed: no pass, no random number. With only L this is the supervised baseline.
    """
    return _weighted_terms(config.terms("D"), nets, batch, config, ramp)


def classifier_loss(nets: Nets, batch: Batch, config: Config, ramp: float | Tensor) -> tuple[Tensor, Logs]:
    """Return the terms of D's loss without U and V, weighted: those of a step without generated images."""
    terms = tuple(term for term in config.terms("D") if not term.adversarial)
    return _weighted_terms(terms, nets, batch, config, ramp)


def _weighted_terms(
    terms: Sequence[Term], nets: Nets, batch: Batch, config: Config, ramp: float | Tensor
) -> tuple[Tensor, Logs]:
    """Return the weighted sum of terms of D's loss, and their values for the log."""
    logits = _logits_of_views(nets, batch, terms)
    total = _LossSum()
    for term in terms:
        inputs = [_discriminator_input(name, nets, batch, logits) for name in term.inputs]
        weight: float | Tensor = config.weight(term.name)
        if term.ramped and config.ramp_up_fraction:
            weight = ramp * weight
        total.add(term, weight, inputs, config)
    _add_history(total, "D", nets.D, config)
    if config.has("pseudo_label", "self_label"):
        total.logs["sure"] = losses.confident_share(logits["unlabeled"].detach(), config.pseudo_label_threshold)
    for name in ("unlabeled", "fake"):
        if name in logits:
            total.logs[f"p_real_{name}"] = losses.p_real(logits[name].detach())
    if config.unconditional:
        total.logs["accuracy_real"] = losses.share_judged_real(logits["unlabeled"].detach())
        total.logs["accuracy_fake"] = 1.0 - losses.share_judged_real(logits["fake"].detach())
    return total.value, total.logs


def generator_loss(nets: Nets, batch: Batch, config: Config, ramp: float | Tensor) -> tuple[Tensor, Logs]:
    """Return the weighted sum of feature matching and the other terms of G's loss."""
    terms = config.terms("G")
    names = {name for term in terms for name in term.inputs}
    inputs: dict[str, Tensor] = {}
    if "fake_logits" in names:
        inputs["fake_logits"], inputs["fake_features"] = nets.D(nets.G(batch.z2))
    else:
        inputs["fake_features"] = nets.D.features(nets.G(batch.z2))
    if "real_features" in names:
        inputs["real_features"] = nets.D.features(batch.x_unl2)
    total = _LossSum()
    for term in terms:
        total.add(term, config.weight(term.name), [inputs[name] for name in term.inputs], config)
    _add_history(total, "G", nets.G, config)
    return total.value, total.logs


def phases(config: Config) -> tuple[Phase, ...]:
    """Return the updates of one step: D, with and then without U and V, and G if a term needs generated images."""
    adversarial = config.batches_with_fakes
    updates = [Phase("D", discriminator_loss, adversarial)]
    if alone := config.discriminator_steps - adversarial:
        updates.append(Phase("D", classifier_loss, alone, first=adversarial))
    if config.trains_generator:
        updates.append(Phase("G", generator_loss))
    return tuple(updates)


def _logits_of_views(nets: Nets, batch: Batch, terms: Sequence[Term]) -> dict[str, Tensor]:
    """Return D's logits on every view that a term needs, in one pass if rows do not depend on each other."""
    views = {name for term in terms for name in term.views}
    images = {
        "labeled": batch.x_lab,
        "unlabeled": batch.x_unl,
        "unlabeled_again": batch.x_again,
        "strong": batch.x_strong,
    }
    inputs = {name: nets.G(batch.z) if name == "fake" else images[name] for name in INPUTS_OF_D if name in views}
    logits = {name: output[0] for name, output in _separate_passes(nets.D, inputs).items()}
    if "unlabeled" not in logits and any("unlabeled" in term.constant for term in terms):
        with torch.no_grad():  # weak views are only a target
            logits["unlabeled"] = nets.D(batch.x_unl)[0]
    return logits


def _discriminator_input(name: str, nets: Nets, batch: Batch, logits: dict[str, Tensor]) -> Any:
    """Return one argument of a term of D's loss, by its name in :class:`ssgan.settings.terms.Term`."""
    if name == "teacher":
        with torch.no_grad():
            return nets.teacher(batch.x_again)[0]
    others = {"labels": batch.y_lab, "discriminator": nets.D, "images": batch.x_unl}
    return others[name] if name in others else logits[name]


def virtual_adversarial(net: Callable[[Tensor], Any], x: Tensor, epsilon: float, xi: float, iterations: int) -> Tensor:
    """Return the mean divergence of the class probabilities at ``x`` plus the worst perturbation from those at ``x``.

    Parameters
    ----------
    net : callable
        Maps images to logits [B, K] and features.
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
    """Return the change of length ``epsilon`` of each row of ``x`` to which the class probabilities are most sensitive.

    The divergence has its minimum at zero change, so its gradient at a small length ``xi`` follows its curvature: the
    power method, from a random direction. Lengths are root mean squares over the values of a row. A row whose
    probabilities do not change gets zeros.
    """
    direction = noise.normal_like(x)
    with torch.no_grad():  # for the parameters; torch.func still differentiates the direction
        for _ in range(iterations):
            direction = torch.func.grad(lambda r: losses.divergence(clean_BK, logits(x + r)))(
                scale_to_rms(xi, direction)
            )
    return scale_to_rms(epsilon, direction)


def scale_to_rms(length: float, rows: Tensor) -> Tensor:
    """Scale each row [B, ...] to this root mean square; a row of zeros stays zero."""
    tiny, axes = torch.finfo(rows.dtype).tiny, list(range(1, rows.dim()))
    scaled = rows / rows.abs().amax(dim=axes, keepdim=True).clamp_min(tiny)  # squares of small numbers would underflow
    return scaled * (length / scaled.square().mean(dim=axes, keepdim=True).clamp_min(tiny).sqrt())


class _LossSum:
    """Add up weighted terms, and keep each for the log."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.logs: Logs = {}

    def add(self, term: Term, weight: float | Tensor, inputs: Sequence[Any], config: Config) -> None:
        """Evaluate a term and add it."""
        function = virtual_adversarial if term.name == "vat" else getattr(losses, term.loss)
        self.add_value(term.log, weight, function(*inputs, *(getattr(config, name) for name in term.parameters)))

    def add_value(self, log: str, weight: float | Tensor, value: Tensor) -> None:
        """Add the value of a term."""
        self.values.append(weight * value)
        self.logs[log] = value.detach()

    @property
    def value(self) -> Tensor:
        return torch.stack(self.values).sum()


def _separate_passes(net: Any, inputs: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return D's outputs on several batches that must not see each other.

    One pass over all rows gives the same result if rows do not depend on each other; a network that couples the rows of
    a batch gets one pass for each.
    """
    if net.couples_rows or len(inputs) <= 1:
        return {name: net(x) for name, x in inputs.items()}
    sizes = [len(x) for x in inputs.values()]
    logits, features = net(torch.cat(list(inputs.values())))
    return dict(zip(inputs, zip(logits.split(sizes), features.split(sizes), strict=True), strict=True))


def _add_history(total: _LossSum, name: str, net: Any, config: Config) -> None:
    if config.weight_historical_averaging:
        distance = losses.historical_averaging(net.parameters, net.history)
        total.add_value(f"historical_averaging_{name}", config.weight_historical_averaging, distance)
