"""Where tensors live, and what that place is called."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ssgan.errors import UserError
from ssgan.processor import processor_name

__all__ = ["device_name", "noise_state", "precise", "restore_noise", "select"]


def select(name: str) -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises
    ------
    UserError
        For a device that this machine or this build of torch does not have.
    """
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there = [f"cuda:{i}" for i in range(torch.cuda.device_count())] + there
    if name == "auto":
        return torch.device(there[0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in there:
        raise UserError(f"There is no device {name!r} here: choose from auto, {', '.join(there)}.")
    return torch.device(wanted)


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
