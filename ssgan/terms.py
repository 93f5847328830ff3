"""What the settings of a run come to: which terms its losses have, and what those need."""

from typing import Any

from ssgan.traits import TRAITS

__all__ = ["Terms"]


class Terms:
    """What :class:`ssgan.config.Config` is asked about its losses and networks; the settings are its fields."""

    method: Any
    network: Any
    labels: Any
    weight_labeled: Any
    augmentation: Any
    noise_input_std: Any
    noise_hidden_std: Any
    dropout_input: Any
    dropout_hidden: Any
    minibatch_kernels: Any

    @property
    def unconditional(self) -> bool:
        """Whether this is a GAN without classes: K = 1, the one logit is that of real, and no image has a label."""
        return self.labels == 0

    @property
    def learns_from_labels(self) -> bool:
        """Whether L is there."""
        return bool(self.weight_labeled) and not self.unconditional

    def outputs(self, classes: int) -> int:
        """K, the logits of D where the data have so many classes."""
        return 1 if self.unconditional else classes

    @property
    def trains_generator(self) -> bool:
        """Whether D sees generated images at all."""
        return self._has("fake")

    @property
    def learns_from_unlabeled(self) -> bool:
        """Whether a term of D's loss sends a gradient through unlabelled images as they are."""
        return self._has("unlabeled", "entropy", "consistency", "mean_teacher", "self_label")

    @property
    def sees_unlabeled(self) -> bool:
        """Whether a term of D's loss needs unlabelled images."""
        return self._has("unlabeled") or self.asks_agreement

    @property
    def asks_agreement(self) -> bool:
        """Whether a term asks of unlabelled images to be sure of a class, or of several passes to agree on it."""
        return self._has("entropy", "consistency", "mean_teacher", "vat") or self.labels_unlabeled

    @property
    def labels_unlabeled(self) -> bool:
        """Whether unlabelled images learn from a class that D is sure of."""
        return self._has("pseudo_label", "self_label")

    @property
    def has_teacher(self) -> bool:
        """Whether a term needs the averaged D while training."""
        return self._has("mean_teacher")

    @property
    def needs_strong_views(self) -> bool:
        """Whether a term needs strong views of unlabelled images."""
        return self._has("pseudo_label")

    @property
    def needs_second_views(self) -> bool:
        """Whether a term compares two weak views of unlabelled images."""
        return self._has("consistency", "mean_teacher")

    @property
    def passes_differ(self) -> bool:
        """Whether two passes over the same images differ: by noise, dropout or augmentation."""
        dropout = self.convolutional and (self.dropout_input or self.dropout_hidden)
        return bool(self.augmentation != "none" or self.noise_input_std or self.noise_hidden_std or dropout)

    @property
    def convolutional(self) -> bool:
        """Whether the network takes pictures alone."""
        return TRAITS[self.network].convolutional

    @property
    def weight_norm(self) -> bool:
        """Whether the network's layers have weight norm."""
        return TRAITS[self.network].weight_norm

    @property
    def stores_images(self) -> bool:
        """Whether D keeps images from the beginning."""
        return TRAITS[self.network].stores_images or self.minibatch_kernels > 0

    def _has(self, *terms: str) -> bool:
        """Whether one of these terms of D's loss on images without labels is there."""
        return self.method != "supervised" and any(getattr(self, f"weight_{term}") for term in terms)
