"""Where tensors live, and what that place is called."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ssgan.errors import UserError
from ssgan.processor import processor_name

__all__ = ["device_name", "noise_state", "precise", "restore_noise", "select"]


def select(name: str, dtype: str = "float32", precision: str = "float32") -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises
    ------
    UserError
        For a device that this machine or this build of torch does not have, and for numbers that the device has not.
    """
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there = [f"cuda:{i}" for i in range(torch.cuda.device_count())] + there
    wanted = {"auto": there[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in there:
        raise UserError(f"There is no device {name!r} here: choose from auto, {', '.join(there)}.")
    device = torch.device(wanted)
    if device.type == "mps" and dtype == "float64":
        raise UserError("dtype is float64, which the device mps does not have: choose float32, or --device cpu.")
    if device.type != "cuda" and precision == "tf32":
        raise UserError(f"precision is tf32, which {device.type} does not have: choose float32 or bfloat16.")
    return device


def device_name(device: torch.device) -> str:
    """The name of the hardware, such as ``NVIDIA H200`` or the model of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_name(torch.get_num_threads())


@contextmanager
def precise(precision: str, device: torch.device) -> Iterator[None]:
    """Let float32 products and convolutions on CUDA round to TF32 inside, where ``precision`` is ``"tf32"``.

    Otherwise they do not, though torch's default rounds convolutions. Elsewhere it changes nothing.
    """
    if device.type != "cuda":
        yield
        return
    # Two switches with two ways to set them, which must not be mixed: of these both versions of torch have one.
    products, convolutions = torch.backends.cuda.matmul, getattr(torch.backends.cudnn, "conv", None)
    newer = hasattr(products, "fp32_precision") and hasattr(convolutions, "fp32_precision")
    name, values = ("fp32_precision", ("tf32", "ieee")) if newer else ("allow_tf32", (True, False))
    places: tuple[Any, ...] = (products, convolutions if newer else torch.backends.cudnn)
    before = [getattr(place, name) for place in places]
    for place in places:
        setattr(place, name, values[precision != "tf32"])
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            setattr(place, name, value)


def noise_state(device: torch.device) -> torch.Tensor:
    """State of the generator from which a device draws its noise, uint8."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def restore_noise(device: torch.device, state: torch.Tensor) -> None:
    """Go on drawing from where :func:`noise_state` was taken."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)
