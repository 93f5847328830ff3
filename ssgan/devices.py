"""Where tensors live, and what that place is called.

What this machine's processor is called.

Work side by side on the CPU's threads.

Torch shares each single operation between its threads, which then wait for each other hundreds of times in a step;
where another program takes a core away, every wait is for the slower one. A few long tasks, each on a thread of its
own, lose less on a quiet machine and far less on a busy one."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ssgan.errors import UserError

if TYPE_CHECKING:
    import torch

__all__ = [
    "device_name",
    "float32_precision",
    "noise_state",
    "processor_name",
    "restore_noise",
    "run_in_threads",
    "select",
]


def select(name: str, dtype: str = "float32", precision: str = "float32") -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises
    ------
    UserError
        For a device that this machine or this build of torch does not have, and for numbers that the device has not.
    """
    import torch

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
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_name(torch.get_num_threads())


@contextmanager
def float32_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Let float32 products and convolutions on CUDA round to TF32 inside, where ``precision`` is ``"tf32"``.

    Otherwise they do not, though torch's default rounds convolutions. Elsewhere it changes nothing.
    """
    import torch

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
    import torch

    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def restore_noise(device: torch.device, state: torch.Tensor) -> None:
    """Go on drawing from where :func:`noise_state` was taken."""
    import torch

    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)


def processor_name(threads: int) -> str:
    """The model of the processor and the threads it is used with, such as ``AMD EPYC, 1 threads``.

    Where the system does not say the model, it is the name of the architecture, without the threads.
    """
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if models:
            return f"{models[0]}, {threads} threads"
    return platform.processor() or platform.machine()


Result = TypeVar("Result")


def run_in_threads(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Results of the tasks, in their order; torch's threads are divided between as many as run at once.

    Where the tasks are more than the threads, or do not divide them, some threads are idle at the end.
    """
    import torch

    threads = torch.get_num_threads()
    count = min(len(tasks), threads)
    if count <= 1:
        return [task() for task in tasks]

    def alone(task: Callable[[], Result]) -> Result:
        torch.set_num_threads(threads // count)
        return task()

    begun = [_pool(count).submit(alone, task) for task in tasks]
    try:
        return [one.result() for one in begun]
    finally:  # whatever went wrong, nobody is left in the middle of a task
        wait(begun)
        torch.set_num_threads(threads)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="ssgan")


# A child has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
