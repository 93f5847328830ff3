"""Export the models of a run as one file that needs nothing of this package: ONNX, a program of torch, or weights.

The exported classifier takes stored images, as the models were trained on, and returns what
:func:`ssgan.inference.predict.predict` returns. The metadata say how a picture file becomes such an image.
"""

import io
import itertools
import json
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ssgan import __version__, runs
from ssgan.data import datasets, image_io
from ssgan.errors import UserError
from ssgan.files import write_atomic
from ssgan.inference.features import backbone_of
from ssgan.inference.inputs import InputImage, find_inputs, read_inputs
from ssgan.inference.models import Models
from ssgan.inference.predict import Predictor, open_predictor, predict
from ssgan.nn.export import Ensemble, MappedFeatures, PictureFeatures, Rescaled, export_graph
from ssgan.nn.registry import NETWORK_PAIRS
from ssgan.nn.weight_norm import fold_weights
from ssgan.settings.catalog import is_picture_shape

__all__ = ["FORMATS", "OPSET", "TOLERANCE", "build_classifier", "describe", "export_run"]

OPSET = 18  # version of ONNX's operators
CHECKED_IMAGES = 16
TOLERANCE = 1e-5  # largest difference of a probability
# `predict` runs a backbone in onnxruntime. In torch some of its features round to the adjacent float16 number.
ENGINE_TOLERANCE = 1e-3
FORMAT_VERSION = 1
INSTALL = "pip install 'ssgan[onnx]'"

Outputs = tuple[np.ndarray, np.ndarray | None]  # class probabilities [N, K], and p(generated) [N]
Classify = Callable[[np.ndarray], Outputs]


class Format(NamedTuple):
    """A kind of file.

    Attributes
    ----------
    packages : tuple of str
        Packages that writing it needs besides the dependencies of this package.
    write : callable
        Returns the content, from the classifier, an example of its input, the metadata and the models.
    open : callable or None
        Returns a function that classifies by the content, and the name of the library that runs it; None if the format
        holds no program, or the library is not installed.
    """

    packages: tuple[str, ...]
    write: Callable[[Ensemble, np.ndarray, dict[str, Any], Models], bytes]
    open: Callable[[bytes], tuple[Classify, str] | None]


def export_run(
    run: Path, out: Path, format: str = "onnx", seed: int | None = None, check: bool = True
) -> dict[str, Any]:
    """Export the models that :func:`ssgan.inference.predict.open_predictor` takes as one file.

    Parameters
    ----------
    run : Path
        The folder of a run; if it has not finished, its last checkpoint is used.
    out : Path
        The file; it is written complete or not at all.
    format : {"onnx", "torch", "safetensors"}
        A graph; a program for ``torch.export.load``; or only the weights of the discriminators.
    seed : int, optional
        Export only the model of this seed.
    check : bool
        Compare the file with predictions of the run before it is written.

    Returns
    -------
    dict
        Plain types: ``run``, ``out``, ``format``, ``bytes``; ``metadata``, those of the file; ``predictions_of``,
        ``note`` and ``progress``, as sentences; ``check`` with the number of ``images``, where they are ``from``, the
        ``engine`` and the ``largest_difference`` of a probability, None if nothing was compared.

    Raises
    ------
    UserError
        For an unknown format, a missing package, a run without classes or a checkpoint, a file that cannot be written,
        or if the file would give other predictions than the run.
    """
    if format not in FORMATS:
        raise UserError(f"--format is {format}, but must be one of {', '.join(FORMATS)}.")
    kind = FORMATS[format]
    if missing := [package for package in kind.packages if find_spec(package) is None]:
        raise UserError(f"--format {format} needs {', '.join(missing)}, which is not installed: {INSTALL}.")
    predictor = open_predictor(run, seed, "cpu")
    models = predictor.models
    if models.config.unconditional:
        raise UserError(f"{run} was trained without classes, so it has no classifier to export.")
    report = runs.read_report(run) if (run / "report.json").exists() else {}
    metadata = {**describe(predictor, report), **({"opset": OPSET} if format == "onnx" else {})}
    classifier = build_classifier(models)
    content = kind.write(classifier, _example(models), metadata, models)
    checked = _check(kind, content, run, models, report) if check else None
    try:
        write_atomic(out, content)
    except OSError as cause:
        raise UserError(f"--out is {out}, which cannot be written ({cause.strerror}).") from None
    return {
        **{"run": str(run), "out": str(out), "format": format, "bytes": len(content), "metadata": metadata},
        **{"predictions_of": predictor.description, "note": predictor.note, "progress": models.progress},
        "check": checked,
    }


def build_classifier(models: Models) -> Ensemble:
    """Build the classifier as one module: from stored images [N, ...] to probabilities, with weight norm folded."""
    pair, feature_map = NETWORK_PAIRS[models.config.network], models.feature_map
    steps: list[nn.Module] = [Rescaled(models.scale, pair.low, pair.high)]
    if feature_map is not None:
        backbone = backbone_of(feature_map)
        network = backbone.copy_network()
        shape, scale = feature_map.picture_shape, feature_map.picture_scale
        pictures = PictureFeatures(network, shape, backbone.image_size, scale, *backbone.mean_and_std)
        steps = [pictures, MappedFeatures(feature_map), *steps]
    networks = [fold_weights(models.D.network(i, models.averaged)).float() for i in range(len(models.seeds))]
    temperature = models.confidence.temperature or 1.0
    flips = models.config.flips_at_test
    classifier = Ensemble(nn.Sequential(*steps), networks, temperature, models.flags_outliers, flips)
    return classifier.eval().requires_grad_(False)


def describe(predictor: Predictor, report: dict[str, Any]) -> dict[str, Any]:
    """Describe what is exported: classes, input, outputs, how a file becomes an input, and where it comes from.

    Parameters
    ----------
    predictor : Predictor
    report : dict
        Report of the run; empty if it has not finished.
    """
    models = predictor.models
    config, shape, feature_map = models.config, models.input_shape, models.feature_map
    rows = report.get("rows") or [{}]
    outputs: dict[str, Any] = {"probabilities": ["N", len(models.classes)]}
    if models.flags_outliers:
        outputs["p_generated"] = ["N"]
    backbone = None
    if feature_map is not None:
        backbone = {
            "name": feature_map.backbone,
            "image_size": backbone_of(feature_map).image_size,
            "sha256": feature_map.weights_sha256,
            "features": feature_map.entries["backbone"],
        }
    return {
        "ssgan_export": FORMAT_VERSION,
        "classes": list(models.classes),
        "input": {
            "name": "images",
            "dtype": "uint8" if len(shape) > 1 else "float32",
            "shape": ["N", *shape],
            "scale": models.input_scale,
            "bounded": models.bounded,
        },
        "outputs": outputs,
        "preprocessing": _preprocessing(models),
        "backbone": backbone,
        "test_time_flip": config.flips_at_test,
        "temperature": models.confidence.temperature or 1.0,
        "seeds": models.seeds,
        "predictions_of": predictor.description,
        "unfinished": models.progress or None,
        "dataset": report.get("dataset"),
        "labels": report.get("labels"),
        **{name: getattr(config, name) for name in ("preset", "method", "network")},
        "ssgan": __version__,
        "versions": rows[0].get("versions"),
        "commit": rows[0].get("commit"),
        "settings": config.to_dict(),
    }


def _preprocessing(models: Models) -> dict[str, Any] | None:
    """Describe how a file becomes an input, as :func:`ssgan.inference.inputs.read_image` does; None for other data."""
    shape, scale = models.input_shape, models.input_scale
    if not is_picture_shape(shape):
        return None
    height, width = shape[:2]
    recipe = image_io.describe_decoding(
        height if height == width else None, grey=shape[2:] != (3,), depth=models.input_depth
    )
    if height != width:
        recipe["steps"].append(f"The picture must have {width} x {height} pixels.")
    if scale != 255:
        recipe["steps"].append(f"Multiply by {scale:g} / 255 and round, halves to the even number.")
    recipe["steps"].append(f"Shape the pixels as uint8 [{', '.join(map(str, shape))}].")
    return recipe


def _example(models: Models) -> np.ndarray:
    """Return images [3, ...] of the input's shape and type, for a graph with any number of images."""
    return next(iter(_random_images(models, 3)))


def _random_images(models: Models, count: int) -> Iterable[np.ndarray]:
    """Yield one batch of random images."""
    shape, random = (count, *models.input_shape), np.random.RandomState(0)
    if len(shape) > 2:
        yield random.randint(0, int(models.input_scale) + 1, shape).astype(np.uint8)
    else:
        yield (random.rand(*shape) * models.input_scale).astype(np.float32)


def _write_onnx(classifier: Ensemble, example: np.ndarray, metadata: dict[str, Any], models: Models) -> bytes:
    """Return an ONNX model with its weights, without the source locations that the exporter records."""
    import onnx

    names = list(metadata["outputs"])
    model = export_graph(
        classifier,
        torch.from_numpy(example),
        input_names=[metadata["input"]["name"]],
        output_names=names,
        dynamic_shapes={"images": {0: torch.export.Dim("N")}},
        opset_version=OPSET,
        external_data=False,
    )
    if model is None:
        raise UserError("ONNX cannot express this network: export it with --format torch.")
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.producer_name, model.producer_version = "ssgan", __version__
    onnx.helper.set_model_props(model, _texts(metadata))
    try:
        content: bytes = model.SerializeToString()
    except ValueError:  # raised by protobuf
        raise UserError("One ONNX file holds at most 2 GB, and this one would be larger: use --format torch.") from None
    return content


def _texts(metadata: dict[str, Any]) -> dict[str, str]:
    """Return each value of the metadata as JSON."""
    return {key: json.dumps(value) for key, value in metadata.items()}


def _open_onnx(content: bytes) -> tuple[Classify, str] | None:
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: _outputs(session.run(None, {name: x})), f"onnxruntime {onnxruntime.__version__}"


def _outputs(arrays: Iterable[np.ndarray]) -> Outputs:
    p_NK, *generated = arrays
    return p_NK, generated[0] if generated else None


def _write_torch(classifier: Ensemble, example: np.ndarray, metadata: dict[str, Any], models: Models) -> bytes:
    """Return a program of torch.export."""
    try:
        with torch.no_grad():
            program = torch.export.export(
                classifier, (torch.from_numpy(example),), dynamic_shapes=({0: torch.export.Dim("N")},)
            )
    except Exception as cause:  # a backbone of another library may do anything
        if models.feature_map is None:
            raise
        name = models.feature_map.backbone
        raise UserError(f"torch.export cannot express the backbone {name}: export it with --format onnx.") from cause
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    stream = io.BytesIO()
    torch.export.save(program, stream, extra_files={"metadata.json": json.dumps(metadata)})
    return stream.getvalue()


def _open_torch(content: bytes) -> tuple[Classify, str]:
    program = torch.export.load(io.BytesIO(content)).module()

    def classify(x: np.ndarray) -> Outputs:
        with torch.no_grad():
            return _outputs(output.numpy() for output in program(torch.from_numpy(x)))

    return classify, f"torch {torch.__version__}"


def _write_safetensors(classifier: Ensemble, example: np.ndarray, metadata: dict[str, Any], models: Models) -> bytes:
    """Return the weights of the discriminators, ``seed_S.NAME``, and the map of features, ``feature_map.NAME``."""
    from safetensors.torch import save

    tensors = {
        f"seed_{seed}.{name}": value.contiguous()
        for seed, network in zip(models.seeds, classifier.discriminators, strict=True)
        for name, value in network.state_dict().items()
    }
    if models.feature_map is not None:
        state = models.feature_map.state()
        arrays = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
        tensors |= {f"feature_map.{name}": value.contiguous() for name, value in arrays.items()}
        metadata = {**metadata, "feature_map": {name: value for name, value in state.items() if name not in arrays}}
    content: bytes = save(tensors, _texts(metadata))
    return content


FORMATS = {
    "onnx": Format(("onnx", "onnxscript"), _write_onnx, _open_onnx),
    "torch": Format((), _write_torch, _open_torch),
    "safetensors": Format(("safetensors",), _write_safetensors, lambda content: None),
}


def _check(kind: Format, content: bytes, run: Path, models: Models, report: dict[str, Any]) -> dict[str, Any] | None:
    """Compare the outputs of the content for a few images, one alone and all together, with predictions of the run.

    Raises
    ------
    UserError
        If a class or a probability differs.
    """
    opened = kind.open(content)
    if opened is None:
        return None
    classify, engine = opened
    x, origin = _stored_images(run, models, report)
    expected = list(predict(models, (InputImage("image", pixels) for pixels in x)))
    tolerance = ENGINE_TOLERANCE if kind is FORMATS["torch"] and models.feature_map is not None else TOLERANCE
    largest = 0.0
    for rows in (slice(1), slice(None)):
        p_NK, generated_N = classify(x[rows])
        for i, prediction in enumerate(expected[rows]):
            if prediction.probabilities is None:  # not finite
                continue
            p_K, p_generated = np.array(prediction.probabilities), prediction.p_generated
            differences = [float(np.abs(p_K - p_NK[i]).max())]
            if (p_generated is None) != (generated_N is None):
                raise UserError(f"The exported file would give another p(generated) than `ssgan predict`: {engine}.")
            if p_generated is not None and generated_N is not None:
                differences.append(abs(p_generated - float(generated_N[i])))
            largest = max(largest, *differences)
            best = np.sort(p_K)[-2:]
            is_clear = best[-1] - best[0] > 2 * tolerance  # if two are equal, either may be the largest
            if not max(differences) <= tolerance or (is_clear and p_NK[i].argmax() != p_K.argmax()):
                raise UserError(
                    f"The exported file would give other predictions than the run: a probability differs by "
                    f"{max(differences):.1g}, over {tolerance:g}, in {engine}; no file was written."
                )
    return {"images": len(x), "from": origin, "engine": engine, "largest_difference": largest}


def _stored_images(run: Path, models: Models, report: dict[str, Any]) -> tuple[np.ndarray, str]:
    """Return a few images of the run's data if they still exist, else random ones; and what they are."""
    try:
        pixels = [image.pixels for image in _images_of_run(run, models, report) if image.pixels is not None]
    except (UserError, OSError):
        pixels = []
    if pixels:
        return np.stack(pixels), f"images of {report['dataset']}"
    return next(iter(_random_images(models, CHECKED_IMAGES))), "random images"


def _images_of_run(run: Path, models: Models, report: dict[str, Any]) -> list[InputImage]:
    """Read a few images of the data that a run was trained on; none if that would download them."""
    if not report:
        return []
    name, root, _ = runs.data_source(run, report, models.config)
    if name in datasets.DATASETS:
        folder = None if root is None else Path(root)
        if not datasets.is_on_disk(name, folder):
            return []
        data = datasets.load(name, folder)
        x = data.x_test if len(data.x_test) else data.x_train
        return [InputImage(name, image) for image in x[:CHECKED_IMAGES]]
    sources = find_inputs([name])
    sources = sources[:: max(1, len(sources) // CHECKED_IMAGES)][:CHECKED_IMAGES]
    with image_io.ignore_warnings():
        images = read_inputs(sources, models.input_shape, models.input_scale, models.bounded, models.input_depth)
        return list(itertools.islice((image for image in images if image.pixels is not None), CHECKED_IMAGES))
