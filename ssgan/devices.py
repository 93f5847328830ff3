"""Where tensors live, and what that place is called."""

import torch

from ssgan.errors import UserError
from ssgan.processor import processor_name

__all__ = ["device_name", "noise_state", "restore_noise", "select"]


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
