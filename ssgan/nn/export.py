"""Build a classifier as one module of plain operations, and export modules as ONNX graphs.

The modules compute what :class:`ssgan.inference.models.Models` and the map of features compute, in another form:
without numpy and without a seed axis, and for a batch of any size.

Shapes: N pictures, K classes, S seeds, F features, D components, P pictures of the pool.
"""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.data.feature_map import SAME, FeatureMap
from ssgan.nn.base import WIDTH_AXIS

__all__ = ["Ensemble", "MappedFeatures", "PictureFeatures", "Rescaled", "export_graph"]


class Rescaled(nn.Module):
    """Convert stored images to the range [low, high] of the networks, as float32.

    Parameters
    ----------
    scale : float
        Full intensity of the stored images.
    low, high : float
    """

    def __init__(self, scale: float, low: float, high: float) -> None:
        super().__init__()
        self.factor, self.low = (high - low) / scale, low

    def forward(self, images: Tensor) -> Tensor:
        """Map images of any shape."""
        return images.float() * self.factor + self.low


class PictureFeatures(nn.Module):
    """Compute the features of pictures, as :meth:`ssgan.nn.backbones.Backbone.features` does.

    Parameters
    ----------
    network : Module
        Maps images [N, 3, H, W] to features [N, ...].
    image_shape : sequence of int
        [H, W] or [H, W, C] of the pictures, with C 1 or 3.
    image_size : int
        Pixels of a side of the squares that the network sees.
    scale : float
        Full intensity of the pictures.
    mean, std : Tensor, shape [1, 3, 1, 1]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, image_shape: Sequence[int], image_size: int, scale: float, mean: Tensor, std: Tensor
    ) -> None:
        super().__init__()
        self.network, self.scale, self.has_channels = network, scale, len(image_shape) == 3
        height, width = image_shape[:2]
        is_square = (height, width) == (image_size, image_size)
        # In the order of torch: width first.
        self.resizings = (
            nn.ModuleList() if is_square else nn.ModuleList(_Resizing(n, image_size) for n in (width, height))
        )
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        """Map pictures [N, H, W] or [N, H, W, C], 0 to ``scale``, to features [N, F] with the values of float16."""
        x = images.float() / self.scale
        x = x.movedim(-1, 1) if self.has_channels else x.unsqueeze(1)
        for resizing in self.resizings:
            x = resizing(x).transpose(2, 3)
        x = (x.expand(-1, 3, -1, -1) - self.mean) / self.std
        features: Tensor = self.network(x).flatten(1)
        return features.half().float()


class _Resizing(nn.Module):
    """Resize the last axis by torch's bilinear interpolation with antialiasing, from ``size`` to ``target``.

    Products are exact and each sum is rounded to float32 once, as in torch's fused operations on a CPU, so that an
    enlarged image is bit-for-bit identical. Otherwise a difference in the last bit could change a feature near a
    rounding boundary of float16.
    """

    weights: Tensor
    indices: Tensor

    def __init__(self, size: int, target: int) -> None:
        super().__init__()
        identity = torch.eye(size)[None, None]
        matrix = F.interpolate(identity, (target, size), mode="bilinear", antialias=True, align_corners=False)[0, 0]
        is_used = matrix != 0
        taps = torch.arange(int(is_used.sum(dim=1).max()))
        indices = is_used.int().argmax(dim=1)[:, None] + taps
        inside = indices.clamp(max=size - 1)
        self.register_buffer("indices", inside.T.contiguous())
        self.register_buffer("weights", (matrix.gather(1, inside) * (indices < size)).T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., size] to [..., target]."""
        total = x.index_select(-1, self.indices[0]) * self.weights[0]
        for indices, weights in zip(self.indices[1:], self.weights[1:], strict=True):
            total = (total.double() + x.index_select(-1, indices).double() * weights.double()).float()
        return total


class MappedFeatures(nn.Module):
    """Reduce and smooth features, as :meth:`ssgan.data.feature_map.FeatureMap.apply` does.

    Parameters
    ----------
    feature_map : FeatureMap
    """

    weight: Tensor
    offset: Tensor
    pool: Tensor
    directions: Tensor

    def __init__(self, feature_map: FeatureMap) -> None:
        super().__init__()
        self.unit_length, self.neighbors = feature_map.unit_length, feature_map.neighbors
        self.deviation = feature_map.deviation
        self.register_buffer("weight", torch.from_numpy(feature_map.weight.copy()))
        self.register_buffer("offset", torch.from_numpy(feature_map.offset.copy()))
        if self.neighbors:
            pool = torch.from_numpy(feature_map.pool.copy())
            self.register_buffer("pool", pool)
            self.register_buffer("directions", _unit(pool.double()).float().T.contiguous())
            self.candidates = min(2 * self.neighbors + 1, len(pool))  # copies among them are skipped

    def forward(self, features: Tensor) -> Tensor:
        """Map features [N, F] to float32 [N, D]."""
        z = features.double() @ self.weight.double() + self.offset.double()
        if self.unit_length:
            z = _unit(z)
        if self.neighbors:
            z = self._smoothed(z)
        return (z / self.deviation).float()

    def _smoothed(self, z: Tensor) -> Tensor:
        """Average components [N, D] with those of the nearest pictures of the pool, copies left out."""
        unit = _unit(z)
        indices = (unit.float() @ self.directions).topk(self.candidates, dim=1).indices
        candidates = self.pool[indices].double()
        distances = 2 - 2 * (_unit(candidates) @ unit.unsqueeze(2)).squeeze(2)
        distances = torch.where(distances > SAME, distances, torch.full_like(distances, torch.inf))
        nearest = distances.topk(self.neighbors, dim=1, largest=False)
        is_used = nearest.values.isfinite().double().unsqueeze(2)
        others = candidates.gather(1, nearest.indices.unsqueeze(2).expand(-1, -1, z.shape[1]))
        return (z + (is_used * others).sum(dim=1)) / (1 + is_used.sum(dim=1))


def _unit(z: Tensor) -> Tensor:
    """Normalise vectors [..., D] to length 1; zero vectors are unchanged."""
    lengths = z.square().sum(dim=-1, keepdim=True).sqrt()
    return z / torch.where(lengths > 0, lengths, torch.ones_like(lengths))


class Ensemble(nn.Module):
    """Compute the mean probabilities of several discriminators.

    Parameters
    ----------
    preparation : Module
        Maps stored images [N, ...] to the input of the discriminators.
    discriminators : sequence of Module
        S of them; each returns logits [N, K] first.
    temperature : float
        Divides the logits before the softmax.
    judges_generated : bool
        Whether to compute the probability that an image is generated, too.
    flips : bool
        Whether to average the logits of an image and of its mirror image.
    """

    def __init__(
        self,
        preparation: nn.Module,
        discriminators: Sequence[nn.Module],
        temperature: float,
        judges_generated: bool,
        flips: bool = False,
    ) -> None:
        super().__init__()
        self.flips = flips
        self.preparation, self.discriminators = preparation, nn.ModuleList(discriminators)
        self.temperature, self.judges_generated = temperature, judges_generated

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map stored images [N, ...] to class probabilities [N, K] and, if ``judges_generated``, p(generated) [N]."""
        x = self.preparation(images)
        logits = [self._logits(network, x) for network in self.discriminators]
        classes = torch.stack([(z / self.temperature).softmax(dim=1) for z in logits]).mean(dim=0)
        if not self.judges_generated:
            return (classes,)
        return classes, torch.stack([torch.sigmoid(-z.logsumexp(dim=1)) for z in logits]).mean(dim=0)

    def _logits(self, network: nn.Module, x: Tensor) -> Tensor:
        """Compute the logits [N, K] of one discriminator, averaged over mirror images if ``flips``."""
        logits: Tensor = network(x)[0].float()
        return (logits + network(x.flip(WIDTH_AXIS))[0].float()) / 2 if self.flips else logits


def export_graph(network: nn.Module, example: Tensor, **options: Any) -> Any:
    """Export a network as an ONNX model, without output on the console.

    Parameters
    ----------
    network : Module
    example : Tensor
        A batch of its input. Its shape is that of the graph, unless the options say otherwise.
    **options
        Options of ``torch.onnx.export``.

    Returns
    -------
    onnx.ModelProto or None
        None if ONNX cannot express the network.
    """
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of the exporter warn about what they fix themselves
        logging.disable(logging.CRITICAL)
        try:
            program = torch.onnx.export(network, (example,), dynamo=True, verbose=False, **options)
        except torch.onnx.errors.OnnxExporterError:
            return None
        finally:
            logging.disable(level)
    return None if program is None else program.model_proto
