"""Compute the losses of a K-class classifier that is also a GAN discriminator.

Shapes: B rows (a batch), K classes, F features. D returns logits [B, K] and features [B, F]. The
(K+1)-th logit, "generated", is fixed at 0 because softmax does not change when a constant is added
to every logit. With ``lse = logsumexp_k(logits)``::

    p(real | x) = Z / (Z + 1) = sigmoid(lse)       Z = exp(lse)
    p(generated | x) = 1 / (Z + 1) = sigmoid(-lse)

Every function is a pure function of tensors and returns a scalar, the mean over its batch. The caller
multiplies by weights. Gradients flow into every argument that requires them; the caller detaches those
that must not receive any. All losses stay finite at logits of +-1e4. None reads a tensor's value in
Python, so ``torch.func.vmap`` can lift each over a seed axis. If several processes share a batch, a loss that is not a
mean over rows is computed on the joined batch; for the other losses, the mean over the processes equals the loss of the
joined batch.

Source: Salimans et al., *Improved Techniques for Training GANs*, 2016, sections 3 and 5, unless stated otherwise.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ssgan.distributed import joined_rows, mean

__all__ = [
    "class_balance",
    "conditional_entropy",
    "confident_share",
    "consistency",
    "divergence",
    "fake",
    "feature_matching",
    "generator_minimax",
    "generator_non_saturating",
    "historical_averaging",
    "p_real",
    "pseudo_label",
    "pull_away",
    "share_judged_real",
    "supervised",
    "unlabeled_real",
]


def supervised(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    """Compute L: mean cross-entropy of the K real classes on labelled images, ``-log p(y | x, real)``.

    Parameters
    ----------
    logits_BK : Tensor, shape [B, K]
    y_B : Tensor of int64, shape [B], values in 0..K-1
    """
    return F.cross_entropy(logits_BK, y_B)


def unlabeled_real(logits_BK: Tensor, smoothing: float = 1.0) -> Tensor:
    """Compute U: mean ``-log p(real | x)`` on unlabelled images, with one-sided label smoothing.

    With target ``smoothing`` = a the term is ``softplus(lse) - a * lse``: binary cross-entropy
    against a soft "real" target of a (section 3.4; the generated target stays 0). At a = 1 it is
    ``softplus(-lse)``; below 1 its minimum is the entropy of a, not 0.
    """
    lse_B = torch.logsumexp(logits_BK, dim=1)
    return (F.softplus(-lse_B) + (1.0 - smoothing) * lse_B).mean()


def fake(logits_BK: Tensor) -> Tensor:
    """Compute V: mean ``-log p(generated | x)`` on generated images."""
    return F.softplus(torch.logsumexp(logits_BK, dim=1)).mean()


def feature_matching(real_BF: Tensor, fake_BF: Tensor, norm: str = "l2") -> Tensor:
    """Compute the distance of the mean features of real and generated batches (section 3.1).

    ``"l2"`` averages the squared differences over the F features (the paper's MNIST code), ``"l1"``
    the absolute ones (its CIFAR-10 and SVHN code). A batch and its permutation give 0.

    Parameters
    ----------
    real_BF, fake_BF : Tensor, shape [B, F]
        The two batches may differ in size. Detach ``real_BF`` to send gradients to G only.
    norm : {"l2", "l1"}

    Raises
    ------
    ValueError
        For any other ``norm``.
    """
    difference_F = mean(real_BF.mean(dim=0)) - mean(fake_BF.mean(dim=0))
    if norm == "l2":
        return difference_F.square().mean()
    if norm == "l1":
        return difference_F.abs().mean()
    raise ValueError(f"norm is {norm!r}, but must be 'l2' or 'l1'")


def generator_minimax(logits_BK: Tensor) -> Tensor:
    """Compute G's minimax objective, the exact negative of V: mean ``log p(generated | G(z))``."""
    return -fake(logits_BK)


def generator_non_saturating(logits_BK: Tensor) -> Tensor:
    """Compute G's non-saturating objective, mean ``-log p(real | G(z))``: its gradient stays large while D wins.

    Source: Goodfellow et al., *Generative Adversarial Nets*, 2014, section 3.
    """
    return unlabeled_real(logits_BK)


def conditional_entropy(logits_BK: Tensor) -> Tensor:
    """Compute the mean entropy in nats of the K-class softmax, 0 (certain) to log K (undecided).

    Source: Springenberg, *Unsupervised and Semi-supervised Learning with Categorical GANs*, 2016.
    """
    log_p_BK = F.log_softmax(logits_BK, dim=1)
    return -(log_p_BK.exp() * log_p_BK).sum(dim=1).mean()


def class_balance(logits_BK: Tensor) -> Tensor:
    """Compute the class imbalance: log K minus the entropy in nats of the batch's mean class probabilities.

    It is 0 if the mean is uniform, and log K if every image is certain to be of the same class. A small batch is uneven
    just by chance, so a small value does not mean that the classes of the data are.

    Source: Springenberg, *Unsupervised and Semi-supervised Learning with Categorical GANs*, 2016.
    """
    p_K = mean(logits_BK.softmax(dim=1).mean(dim=0))
    return math.log(logits_BK.shape[1]) + (p_K * p_K.clamp_min(torch.finfo(p_K.dtype).tiny).log()).sum()


def consistency(logits_BK: Tensor, other_BK: Tensor) -> Tensor:
    """Compute the mean squared difference of the class probabilities of two noisy passes over the same images.

    The mean is over rows and classes; 0 if both agree, at most 2 / K. Gradients flow into both
    passes; detach one to make it a target.

    Source: Laine & Aila, *Temporal Ensembling for Semi-Supervised Learning*, 2017 (the Pi model); in a
    K+1 GAN: Wei et al., *Improving the Improved Training of Wasserstein GANs*, 2018, section 3.2.
    """
    return (logits_BK.softmax(dim=1) - other_BK.softmax(dim=1)).square().mean()


def divergence(target_BK: Tensor, logits_BK: Tensor) -> Tensor:
    """Compute the mean divergence KL(target || prediction) of class probabilities, in nats; 0 if both agree.

    Gradients flow into both; detach the target to keep it fixed.

    Source: Miyato et al., *Virtual Adversarial Training*, 2018, equation 5.
    """
    log_p_BK, log_q_BK = F.log_softmax(target_BK, dim=1), F.log_softmax(logits_BK, dim=1)
    return (log_p_BK.exp() * (log_p_BK - log_q_BK)).sum(dim=1).mean()


def pseudo_label(strong_BK: Tensor, weak_BK: Tensor, threshold: float) -> Tensor:
    """Compute the cross-entropy of strongly augmented images against confident predictions for their weak views.

    Rows whose weak view gives no class more than ``threshold`` count as 0; the mean is over all B rows, so the
    term grows as the classifier becomes confident. Gradients flow into ``strong_BK`` only. A threshold of 1 or
    more gives 0. With the same logits twice, each row is labelled by its own prediction.

    Parameters
    ----------
    strong_BK, weak_BK : Tensor, shape [B, K]
        Logits of two views of the same images.
    threshold : float
        Probability above which the predicted class is used as the label.

    Source: Sohn et al., *FixMatch*, 2020, section 2; for the same logits: Lee, *Pseudo-Label*, 2013, section 2.2,
    which has no threshold.
    """
    confidence_B, label_B = weak_BK.detach().softmax(dim=1).max(dim=1)
    confident_B = (confidence_B > threshold).to(strong_BK.dtype)
    return (confident_B * F.cross_entropy(strong_BK, label_B, reduction="none")).mean()


def confident_share(logits_BK: Tensor, threshold: float) -> Tensor:
    """Compute the fraction of rows with a class of probability above ``threshold``, for the log and not as a loss."""
    return (logits_BK.softmax(dim=1).amax(dim=1) > threshold).to(logits_BK.dtype).mean()


def pull_away(features_BF: Tensor) -> Tensor:
    """Compute the mean squared cosine between different rows: 0 for orthogonal rows, 1 for identical ones.

    It is a loss of G on generated features that spreads its samples. A row of zeros has cosine 0 with all.
    A batch of one row has no pair and gives 0.

    Source: Zhao et al., *Energy-based Generative Adversarial Network*, 2017, section 2.4.
    """
    features_BF = joined_rows(features_BF)
    rows = features_BF.shape[0]
    # The gradient of the norm of a zero row is NaN; the root of a clamped square has a finite one.
    tiny = torch.finfo(features_BF.dtype).tiny
    norm_B1 = features_BF.square().sum(dim=1, keepdim=True).clamp_min(tiny).sqrt()
    unit_BF = features_BF / norm_B1
    squared_cosine_BB = (unit_BF @ unit_BF.T).square()
    return (squared_cosine_BB.sum() - squared_cosine_BB.diagonal().sum()) / max(rows * (rows - 1), 1)


def historical_averaging(parameters: Mapping[str, Tensor], running_mean: Mapping[str, Tensor]) -> Tensor:
    """Compute the squared distance of the parameters from their running mean over past steps (section 3.3).

    It is summed, not averaged, over all parameters, as in the paper's formula.
    """
    terms = [(value - running_mean[name]).square().sum() for name, value in parameters.items()]
    return torch.stack(terms).sum()


def p_real(logits_BK: Tensor) -> Tensor:
    """Compute the mean probability that the rows are real, for the log and not as a loss."""
    return torch.logsumexp(logits_BK, dim=1).sigmoid().mean()


def share_judged_real(logits_BK: Tensor) -> Tensor:
    """Compute the fraction of rows with p(real) above one half, for the log and not as a loss."""
    return (torch.logsumexp(logits_BK, dim=1) > 0).to(logits_BK.dtype).mean()
