"""List the terms of the losses, one row each.

To add a term, write its function in :mod:`ssgan.losses` and a row here. The row makes the setting of its weight, says
which inputs the term needs and when the setting has an effect, and names the term in the log and in the curves.

Source of the terms: Salimans et al., *Improved Techniques for Training GANs*, 2016, unless the function says otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["INPUTS_OF_D", "TERMS", "Need", "Term", "parameters_of_terms"]

#: Batches for which D's logits can be requested, in the order in which they pass through D.
INPUTS_OF_D = ("labeled", "unlabeled", "unlabeled_again", "strong", "fake")

Need = Literal["classes", "unlabeled images", "different passes", "an augmentation", "a generator"]


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term of a loss.

    Attributes
    ----------
    name : str
        The setting of its weight is ``weight_<name>``.
    net : {"D", "G"}
        The network that it trains.
    loss : str
        The function, by its name in :mod:`ssgan.losses`; that of VAT is in :mod:`ssgan.training.methods`.
    inputs : tuple of str
        Arguments of the function. For D: logits on one of ``INPUTS_OF_D``, ``"teacher"`` (logits of the averaged D on
        second weak views), ``"labels"``, and for VAT ``"discriminator"`` and ``"images"``. For G: ``"real_features"``,
        ``"fake_features"`` and ``"fake_logits"``.
    constant : tuple of str
        Inputs through which the term sends no gradient.
    parameters : tuple of str
        Settings that the function takes after its inputs.
    text : str
        What the term is, after "weight of".
    default : float or None
        The default weight; None: it depends on the method.
    log, label : str
        Its name in the log, and in a legend.
    ramped : bool
        Whether its weight rises over the first ``ramp_up_fraction`` of training, as does that of every term that needs
        class probabilities of unlabelled images.
    needs : Need
        What the weight needs to have an effect.
    objective : bool
        Whether a generator can be trained by this term alone.
    adversarial : bool
        Whether the term of D is one of the two that tell real from generated images.
    """

    name: str
    net: Literal["D", "G"]
    loss: str
    inputs: tuple[str, ...]
    constant: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    text: str
    default: float | None = None
    log: str = ""
    label: str = ""
    ramped: bool = False
    needs: Need = "unlabeled images"
    objective: bool = False
    adversarial: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "log", self.log or self.name)
        object.__setattr__(self, "label", self.label or self.log.replace("_", " "))

    @property
    def setting(self) -> str:
        """The name of the setting of its weight."""
        return f"weight_{self.name}"

    @property
    def views(self) -> tuple[str, ...]:
        """The views on which D's logits receive its gradient."""
        return tuple(name for name in self.inputs if name in INPUTS_OF_D and name not in self.constant)


_D_TERMS = (
    Term(
        name="labeled",
        net="D",
        loss="supervised",
        inputs=("labeled", "labels"),
        text="L, the cross-entropy of labelled images",
        default=1.0,
        log="L",
        needs="classes",
    ),
    Term(
        name="unlabeled",
        net="D",
        loss="unlabeled_real",
        inputs=("unlabeled",),
        parameters=("real_target",),
        text="U, -log p(real) of unlabelled images",
        log="U",
        adversarial=True,
    ),
    Term(
        name="fake",
        net="D",
        loss="fake",
        inputs=("fake",),
        text="V, -log p(generated) of generated images; 0 trains no generator",
        log="V",
        adversarial=True,
    ),
    Term(
        name="entropy",
        net="D",
        loss="conditional_entropy",
        inputs=("unlabeled",),
        text="the class entropy of unlabelled images",
        ramped=True,
    ),
    Term(
        name="balance",
        net="D",
        loss="class_balance",
        inputs=("unlabeled",),
        text="log K minus the entropy of the mean class probabilities of unlabelled images: for balanced classes",
        ramped=True,
    ),
    Term(
        name="consistency",
        net="D",
        loss="consistency",
        inputs=("unlabeled", "unlabeled_again"),
        text="the squared difference in class probabilities of two noisy passes over two weak views of unlabelled "
        "images",
        ramped=True,
        needs="different passes",
    ),
    Term(
        name="pseudo_label",
        net="D",
        loss="pseudo_label",
        inputs=("strong", "unlabeled"),
        constant=("unlabeled",),
        parameters=("pseudo_label_threshold",),
        text="the cross-entropy of strong views against the class that weak views predict with confidence",
        label="pseudo-label",
        ramped=True,
        needs="an augmentation",
    ),
    Term(
        name="self_label",
        net="D",
        loss="pseudo_label",
        inputs=("unlabeled", "unlabeled"),
        parameters=("pseudo_label_threshold",),
        text="the cross-entropy of unlabelled images against their own predicted class, where confident",
        label="own labels",
        ramped=True,
    ),
    Term(
        name="mean_teacher",
        net="D",
        loss="consistency",
        inputs=("unlabeled", "teacher"),
        constant=("teacher",),
        text="the squared difference in class probabilities from those of the averaged D, the teacher",
        label="teacher",
        ramped=True,
    ),
    Term(
        name="vat",
        net="D",
        loss="virtual_adversarial",
        inputs=("discriminator", "images"),
        parameters=("vat_epsilon", "vat_xi", "vat_power_iterations"),
        text="the divergence of class probabilities under the worst small change of unlabelled images",
        label="VAT",
        ramped=True,
    ),
)

_G_TERMS = (
    Term(
        name="feature_matching",
        net="G",
        loss="feature_matching",
        inputs=("real_features", "fake_features"),
        parameters=("feature_matching_norm",),
        text="feature matching",
        default=1.0,
        label="matching",
        needs="a generator",
        objective=True,
    ),
    Term(
        name="minimax",
        net="G",
        loss="generator_minimax",
        inputs=("fake_logits",),
        text="log p(generated) of generated images",
        default=0.0,
        needs="a generator",
        objective=True,
    ),
    Term(
        name="non_saturating",
        net="G",
        loss="generator_non_saturating",
        inputs=("fake_logits",),
        text="-log p(real) of generated images",
        default=0.0,
        label="non-saturating",
        needs="a generator",
        objective=True,
    ),
    Term(
        name="pull_away",
        net="G",
        loss="pull_away",
        inputs=("fake_features",),
        text="the squared cosine between features of generated images",
        default=0.0,
        label="pull-away",
        needs="a generator",
    ),
)

TERMS: tuple[Term, ...] = (*_D_TERMS, *_G_TERMS)


def parameters_of_terms() -> Mapping[str, tuple[Term, ...]]:
    """Return the terms that read each setting other than a weight, by the name of the setting."""
    names = dict.fromkeys(name for term in TERMS for name in term.parameters)
    return {name: tuple(term for term in TERMS if name in term.parameters) for name in names}
