"""Turn pictures into features of a backbone; those of training and evaluation are cached."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ssgan.data.dataset import Data
from ssgan.data.feature_cache import RemoteCompute, compute_features, feature_folder
from ssgan.data.feature_map import FeatureMap, fit_feature_map, most_neighbors
from ssgan.data.feature_views import VIEWS, ViewedImages
from ssgan.devices import select
from ssgan.errors import UserError
from ssgan.nn.backbones import Backbone, load_backbone
from ssgan.settings.catalog import is_picture_shape
from ssgan.settings.config import Config

__all__ = ["FeatureEngine", "apply_backbone", "backbone_of", "check_pictures", "open_backbone", "picture_features"]

FeatureProgress = Callable[[str, int, int], None]
#: Takes a backbone and the scale of the pixels; returns a function that computes features elsewhere.
FeatureEngine = Callable[[Backbone, float], RemoteCompute]


def apply_backbone(
    data: Data,
    config: Config,
    progress: FeatureProgress | None = None,
    feature_map: FeatureMap | None = None,
    engine: FeatureEngine | None = None,
    device: str | None = None,
) -> Data:
    """Replace pictures by features if a backbone is set; return other data, and these features, unchanged.

    Features are taken from the cache if they are there, and standardised and reduced by the pool, without labels.

    Parameters
    ----------
    data : Data
    config : Config
        ``backbone``, ``image_size``, ``augmentation``, ``device`` and the settings of features.
    progress : callable, optional
        Called with the stage, the number of pictures done and the total.
    feature_map : FeatureMap, optional
        The map of a run, instead of one fitted to this pool; features by another map are computed again.
    engine : callable, optional
        Computes elsewhere what the cache lacks, as :func:`ssgan.inference.ray_data.feature_engine` returns it.
    device : str, optional
        Where features are computed; by default the device of ``config``.

    Raises
    ------
    UserError
        If the backbone cannot be loaded, or the data are not pictures.
    """
    if config.backbone is None or _has_features(data, config, feature_map):
        return data
    data = data.source  # of features with other settings, or without the views that are needed now
    check_pictures(data, config.backbone)
    backbone = open_backbone(config.backbone, config.image_size, device or config.device)
    remote = None if engine is None else engine(backbone, data.scale)
    compute = _Computation(backbone, data.scale, progress or _no_progress, remote)
    train, test = compute(data.x_train), compute(data.x_test)
    if feature_map is None:
        feature_map = fit_feature_map(
            train,
            config.feature_components,
            config.feature_length == "unit",
            config.feature_neighbors,
            backbone=config.backbone,
            weights_sha256=backbone.sha256,
            image_size=config.image_size,
            picture_shape=data.image_shape,
            picture_scale=data.scale,
        )
    else:
        _check_weights(backbone, feature_map)
    views = None
    if config.augmentation == "crops":
        others = (compute(ViewedImages(data.x_train, view)) for view in VIEWS[1:])
        views = np.stack([feature_map.apply(features) for features in (train, *others)], axis=1)
    return replace(
        data,
        x_train=feature_map.apply(train),
        x_test=feature_map.apply(test),
        scale=1.0,
        feature_map=feature_map,
        pictures=data,
        views_train=views,
    )


class _Computation:
    """Compute features of images, or take them from the cache, and report how many per second."""

    def __init__(
        self, backbone: Backbone, scale: float, progress: FeatureProgress, remote: RemoteCompute | None = None
    ) -> None:
        self.backbone, self.scale, self.progress, self.remote = backbone, scale, progress, remote

    def __call__(self, images: np.ndarray | ViewedImages) -> np.ndarray:
        started = time.perf_counter()

        def on_progress(done: int, total: int) -> None:
            rate = done / max(time.perf_counter() - started, 1e-9)
            speed = f", {rate:,.0f}/s" if done else ""
            self.progress(f"features by {self.backbone.name}{speed}:", done, total)

        return _cached_features(images, self.backbone, self.scale, on_progress=on_progress, remote=self.remote)


def _cached_features(images: np.ndarray | ViewedImages, backbone: Backbone, scale: float, **options: Any) -> np.ndarray:
    """Return the features of images by :func:`compute_features`, with these options of it."""
    compute, folder = partial(backbone.features, scale=scale), feature_folder(backbone.cache_name)
    return compute_features(images, compute, folder, backbone.width, context=f"scale {scale:g}", **options)


def _has_features(data: Data, config: Config, feature_map: FeatureMap | None) -> bool:
    """Return whether data are the features that a configuration asks for, by a given map if there is one."""
    found = data.feature_map
    if found is None or (config.augmentation == "crops" and data.views_train is None):
        return False
    if feature_map is not None:
        return found.is_close(feature_map)
    components = min(config.feature_components, found.width, len(data.x_train) - 1) or found.width
    neighbors = min(config.feature_neighbors, most_neighbors(len(data.x_train)))
    wanted = (config.backbone, config.image_size, config.feature_length == "unit", components, neighbors)
    return wanted == (
        *(found.backbone, found.image_size, found.unit_length),
        *(found.weight.shape[1], found.neighbors),
    )


def picture_features(pictures: np.ndarray, feature_map: FeatureMap, device: str = "cpu") -> np.ndarray:
    """Compute the input of the networks, float32 [N, D], from pictures [N, H, W] or [N, H, W, C].

    What the cache holds is taken from it; nothing is added to it.

    Raises
    ------
    UserError
        If the pictures have another shape or type, or the backbone is not the one of the map.
    """
    if pictures.dtype != np.uint8 or pictures.shape[1:] != feature_map.picture_shape:
        raise UserError(
            f"The images are {pictures.dtype} of shape {list(pictures.shape)}, but these models accept uint8 of shape "
            f"[N, {', '.join(map(str, feature_map.picture_shape))}], 0 to {feature_map.picture_scale:g}."
        )
    backbone = backbone_of(feature_map, device)
    scale = feature_map.picture_scale
    return feature_map.apply(_cached_features(pictures, backbone, scale, read_only=True))


def backbone_of(feature_map: FeatureMap, device: str = "cpu") -> Backbone:
    """Open the backbone of a map.

    Raises
    ------
    UserError
        If it cannot be loaded or has other weights than the map was fitted to.
    """
    backbone = open_backbone(feature_map.backbone, feature_map.image_size, device)
    _check_weights(backbone, feature_map)
    return backbone


@lru_cache(maxsize=2)
def open_backbone(name: str, image_size: int | None, device: str) -> Backbone:
    """Load a backbone, once per process.

    Raises
    ------
    UserError
        If it cannot be loaded.
    """
    return load_backbone(name, image_size, select(device))


def check_pictures(data: Data, backbone: str) -> None:
    """Check that data are pictures of one or three channels.

    Raises
    ------
    UserError
        If they are not.
    """
    shape = data.image_shape
    if not is_picture_shape(shape):
        raise UserError(
            f"backbone is {backbone!r}, which accepts pictures [H, W] or [H, W, C] with 1 or 3 channels, but those of "
            f"{data.name} are {list(shape)}: omit backbone."
        )


def _check_weights(backbone: Backbone, feature_map: FeatureMap) -> None:
    """Check that a backbone has the weights that a map was fitted to.

    Raises
    ------
    UserError
        If it has others.
    """
    if backbone.width != feature_map.width:
        raise UserError(
            f"The map of features is for {feature_map.width} features, but {backbone.name} has {backbone.width}: the "
            f"checkpoint is damaged."
        )
    if backbone.sha256 != feature_map.weights_sha256:
        raise UserError(
            f"The run learned from features of {backbone.name} with weights of SHA-256 "
            f"{feature_map.weights_sha256[:12]}..., but the installed weights have {backbone.sha256[:12]}...: install "
            f"those of the run."
        )


def _no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing."""
