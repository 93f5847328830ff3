"""Predict files and compute features of a backbone on a Ray cluster, by Ray Data.

Parts are sent out and come back in order. A part is what the local engine predicts or computes at once, by the same
function, so the results are bit-for-bit identical. Parts of a lost node are computed again.
"""

import logging
import os
import pickle
import socket
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ssgan
from ssgan import clusters, runs
from ssgan.data import image_io
from ssgan.devices import device_name
from ssgan.errors import UserError
from ssgan.files import read_file
from ssgan.inference.features import FeatureEngine, open_backbone
from ssgan.inference.inputs import InputSource
from ssgan.inference.models import Models
from ssgan.inference.predict import Prediction, chunks_for, open_predictor, predict_sources
from ssgan.nn.backbones import Backbone

__all__ = ["RayPredictions", "feature_engine"]

# The files of a run folder that predictions are made from.
RUN_FILES = ("config.json", "checkpoint", "report.json", "split.json", runs.PARENT_NAME)


class _RunCopy(NamedTuple):
    """The files of a run, and how to open it on a node.

    Attributes
    ----------
    files : dict of str to bytes
    seed : int or None
    device : str
    folder : str
        The folder that names of pictures are relative to.
    version : str
        Version of ssgan.
    """

    files: dict[str, bytes]
    seed: int | None
    device: str
    folder: str
    version: str


class _PartResult(NamedTuple):
    """Predictions of one part, files that the node does not have, and where it was computed."""

    predictions: list[Prediction]
    missing: list[str]
    node: str
    device: str
    device_name: str


class RayPredictions:
    """Predict the images of files on a Ray cluster, in order; iterate once.

    Nodes get a copy of the run. They read the pictures themselves, so these must have the same path on every node.

    Parameters
    ----------
    run : Path
    seed : int or None
    device : str
        As for :func:`ssgan.inference.predict.open_predictor`; it is the device of a node.
    models : Models
        Models of the run, opened on this machine.
    sources : sequence of InputSource
    address : str, optional
        As :func:`ssgan.clusters.connect` takes it.

    Attributes
    ----------
    where : dict
        ``device`` and ``device_name`` of the nodes, after the last prediction.

    Raises
    ------
    UserError
        While iterating: if the cluster cannot be used, or a node lacks a picture that this machine has.
    """

    def __init__(
        self,
        run: Path,
        seed: int | None,
        device: str,
        models: Models,
        sources: Sequence[InputSource],
        address: str | None = None,
    ) -> None:
        files = {name: read_file(run / name) for name in RUN_FILES if (run / name).exists()}
        self.copy = _RunCopy(files, seed, device, os.getcwd(), ssgan.__version__)
        self.models, self.sources, self.address = models, sources, address
        self.where: dict[str, str] = {}

    def __iter__(self) -> Iterator[Prediction]:
        places: dict[str, dict[str, None]] = {"device": {}, "device_name": {}}
        with clusters.connect(self.address) as ray:
            options = {"num_gpus": clusters.gpus_for(ray, self.copy.device)}
            parts = [list(part) for part in chunks_for(self.models, self.sources)]
            for result in _map_parts(ray, _predict_part, parts, options, ray.put(self.copy), uuid.uuid4().hex):
                if (name := next(filter(os.path.lexists, result.missing), None)) is not None:
                    raise UserError(
                        f"{name} is here, but not on {result.node}, a node of the Ray cluster: pictures must lie in a "
                        f"folder that every node has under the same path."
                    )
                places["device"][result.device] = places["device_name"][result.device_name] = None
                yield from result.predictions
        self.where = {name: ", ".join(values) for name, values in places.items()}


def _predict_part(row: dict[str, bytes], copy: Any, name: str) -> dict[str, bytes]:
    """Predict a part of the files on a node."""
    models, sources = _open_copy(copy, name), pickle.loads(row["part"])
    missing = [source.name for source in sources if not source.reason and not os.path.lexists(source.name)]
    with image_io.ignore_warnings():
        predictions = list(predict_sources(models, sources))
    device = models.device
    result = _PartResult(predictions, missing, socket.gethostname(), str(device), device_name(device))
    return {"result": pickle.dumps(result)}


def _open_copy(reference: Any, name: str) -> Models:
    """Open the copy of a run on a node, once per process."""
    if name not in _opened:
        import ray

        _opened.clear()
        _opened[name] = _open(ray.get(reference))
    return _opened[name]


_opened: dict[str, Models] = {}


def _open(copy: _RunCopy) -> Models:
    """Open the copy of a run, and change to the folder that names of pictures are relative to."""
    clusters.prepare_worker(copy.version)
    with suppress(OSError):  # names that do not resolve from elsewhere are missing files
        os.chdir(copy.folder)
    with tempfile.TemporaryDirectory(prefix="ssgan-") as folder:
        for name, content in copy.files.items():
            Path(folder, name).write_bytes(content)
        return open_predictor(Path(folder), copy.seed, copy.device).models


class _BackboneCopy(NamedTuple):
    """What a node needs to open the same backbone."""

    name: str
    image_size: int
    device: str
    cache_name: str
    scale: float
    version: str


def _features_of_part(row: dict[str, bytes], copy: _BackboneCopy) -> dict[str, bytes]:
    """Compute the features of a part of the images on a node."""
    clusters.prepare_worker(copy.version)
    backbone = open_backbone(copy.name, copy.image_size, copy.device)
    if backbone.cache_name != copy.cache_name:
        raise UserError(
            f"{socket.gethostname()}, a node of the Ray cluster, would compute other features: its backbone is "
            f"{backbone.cache_name}, this machine's {copy.cache_name}. Install the same versions on every node."
        )
    return {"result": pickle.dumps(backbone.features(pickle.loads(row["part"]), copy.scale))}


def feature_engine(address: str | None = None) -> FeatureEngine:
    """Return the engine that computes features on a Ray cluster, for :func:`ssgan.inference.features.apply_backbone`.

    Images go to the nodes, which need the backbone's weights and the same versions of its packages. A node computes on
    the kind of device that this machine would.

    Parameters
    ----------
    address : str, optional
        As :func:`ssgan.clusters.connect` takes it.
    """

    def engine(backbone: Backbone, scale: float) -> Any:
        device = backbone.device.type
        arguments = (backbone.name, backbone.image_size, device, backbone.cache_name, scale, ssgan.__version__)

        def compute(parts: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
            with clusters.connect(address) as ray:
                options = {"num_gpus": clusters.gpus_for(ray, device)}
                yield from _map_parts(ray, _features_of_part, parts, options, _BackboneCopy(*arguments))

        return compute

    return engine


def _map_parts(
    ray: Any, function: Callable[..., dict[str, bytes]], parts: Iterable[Any], options: dict[str, Any], *arguments: Any
) -> Iterator[Any]:
    """Map parts by a function in tasks of Ray Data, in order; raise a node's :class:`UserError` unchanged."""
    import ray.data as ray_data

    items = [{"part": pickle.dumps(part)} for part in parts]
    with _quiet_in_order(ray_data):
        source = ray_data.from_items(items, override_num_blocks=max(1, len(items)))
        del items
        mapped = source.map(function, fn_args=arguments, num_cpus=1, **options)
        try:
            for row in mapped.iter_rows():
                yield pickle.loads(row["result"])
        except ray.exceptions.RayError as error:
            if (mistake := clusters.user_error(error)) is not None:
                raise mistake from None
            raise


@contextmanager
def _quiet_in_order(ray_data: Any) -> Iterator[None]:
    """While the block runs, keep the order of rows, and print nothing but errors."""
    context, logger = ray_data.DataContext.get_current(), logging.getLogger("ray.data")
    former = context.execution_options.preserve_order, context.enable_progress_bars, logger.level
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.execution_options.preserve_order, context.enable_progress_bars = former[:2]
        logger.setLevel(former[2])
