"""Devices: selection by name, random state, precision and CPU threads."""

from __future__ import annotations

import functools
import os
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ssgan.errors import UserError, counted

if TYPE_CHECKING:
    import torch

__all__ = [
    "device_name",
    "own_precision",
    "precision_warnings",
    "processor_name",
    "rng_state",
    "run_in_threads",
    "select",
    "set_rng_state",
]


def select(name: str, dtype: str = "float32", precision: str = "float32") -> torch.device:
    """Select a device by name; ``auto`` takes CUDA, then MPS, then the CPU.

    Each process of a training uses its own GPU, the one of its local rank, or all use the CPU.

    Raises
    ------
    UserError
        For a device that this machine or this build of torch does not have, and for a ``dtype`` or ``precision`` that
        the device does not support.
    """
    import torch

    from ssgan import distributed

    names = ["cpu"]
    if torch.backends.mps.is_available():
        names.insert(0, "mps")
    if torch.cuda.is_available():
        names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] + names
    full_name = {"auto": names[0], "cuda": "cuda:0"}.get(name, name)
    if distributed.count() > 1:
        full_name = _name_of_process(name)
    if full_name not in names:
        raise UserError(f"There is no device {name!r} here: choose from auto, {', '.join(names)}.")
    device = torch.device(full_name)
    if device.type == "mps" and dtype == "float64":
        raise UserError("dtype is float64, which the device mps does not support: choose float32, or --device cpu.")
    if device.type != "cuda" and precision == "tf32":
        raise UserError(f"precision is tf32, which {device.type} does not have: choose float32 or bfloat16.")
    return device


def _name_of_process(name: str) -> str:
    """Return the full name of the device of this process, if there are several processes."""
    import torch

    from ssgan import distributed

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not gpus):
        return "cpu"
    if name not in ("auto", "cuda"):
        raise UserError(
            f"device is {name}, but torchrun gives each process a GPU of its own: choose auto, cuda or cpu."
        )
    if distributed.local_rank() >= gpus:
        raise UserError(
            f"There are more processes than GPUs ({gpus}) on this machine: start one for each GPU with torchrun "
            f"--nproc-per-node, or choose --device cpu."
        )
    return f"cuda:{distributed.local_rank()}"


def device_name(device: torch.device) -> str:
    """Return the name of the hardware, such as ``NVIDIA H200`` or the model of the processor.

    For several processes it begins with their number: ``2 x NVIDIA H200``.
    """
    import torch

    from ssgan import distributed

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(torch.get_num_threads())
    return f"{distributed.count()} x {name}" if distributed.count() > 1 else name


@contextmanager
def own_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Compute while the block runs as the settings say, whatever autocast and default type the caller has set.

    On CUDA, float32 products and convolutions round to TF32 if ``precision`` is ``"tf32"``, and otherwise do not,
    although torch rounds convolutions by default.
    """
    import torch

    own_type = _default_type.set_to(torch.float32)
    with own_type, torch.autocast(device.type, enabled=False), _float32_rounding(precision, device):
        yield


class _SharedSwitch:
    """A switch of torch that all threads share, set while blocks run; the caller's value returns after the last one.

    Of blocks that run at the same time in several threads, the one that began last decides.

    Parameters
    ----------
    read, write : callable
        Return the value; set it.
    """

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self.read, self.write = read, write
        self.lock = threading.Lock()
        self.active: dict[object, Any] = {}
        self.callers: Any = None

    @contextmanager
    def set_to(self, value: Any) -> Iterator[None]:
        """Set the value while the block runs."""
        block = object()
        with self.lock:
            if not self.active:
                self.callers = self.read()
            self.active[block] = value
            self.write(value)
        try:
            yield
        finally:
            with self.lock:
                del self.active[block]
                self.write([self.callers, *self.active.values()][-1])


def _read_default_type() -> torch.dtype:
    import torch

    return torch.get_default_dtype()


def _write_default_type(value: torch.dtype) -> None:
    import torch

    torch.set_default_dtype(value)


def _rounding_switches() -> tuple[str, tuple[Any, ...]]:
    """Return the name and the owners of torch's switches of products and convolutions on CUDA.

    torch has an older and a newer pair, which must not be mixed.
    """
    import torch

    products, convolutions = torch.backends.cuda.matmul, getattr(torch.backends.cudnn, "conv", None)
    if hasattr(products, "fp32_precision") and hasattr(convolutions, "fp32_precision"):
        return "fp32_precision", (products, convolutions)
    return "allow_tf32", (products, torch.backends.cudnn)


def _read_rounding() -> list[Any]:
    name, owners = _rounding_switches()
    return [getattr(owner, name) for owner in owners]


def _write_rounding(values: Sequence[Any]) -> None:
    name, owners = _rounding_switches()
    for owner, value in zip(owners, values, strict=True):
        setattr(owner, name, value)


_default_type = _SharedSwitch(_read_default_type, _write_default_type)
_rounding = _SharedSwitch(_read_rounding, _write_rounding)


@contextmanager
def _float32_rounding(precision: str, device: torch.device) -> Iterator[None]:
    """Set whether float32 products on CUDA round to TF32; on other devices nothing changes."""
    if device.type != "cuda":
        yield
        return
    values = ("tf32", "ieee") if _rounding_switches()[0] == "fp32_precision" else (True, False)
    with _rounding.set_to([values[precision != "tf32"]] * 2):
        yield


def precision_warnings(device: torch.device, precision: str, convolutional: bool) -> list[str]:
    """Return a warning about convolutions in bfloat16 on a processor that has no instructions for them.

    They then take several times as long as in float32. Source: https://github.com/pytorch/pytorch/issues/183815.
    """
    import torch

    if device.type != "cpu" or precision != "bfloat16" or not convolutional:
        return []
    if platform.machine() not in ("x86_64", "AMD64"):  # nothing is known about other processors
        return []
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return []
    return [
        "precision is bfloat16, but this processor has neither AVX512-BF16 nor AMX: convolutions take several times "
        "as long as in float32."
    ]


def rng_state(device: torch.device) -> torch.Tensor:
    """Return the state of a device's random number generator, uint8."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def set_rng_state(device: torch.device, state: torch.Tensor) -> None:
    """Restore the state that :func:`rng_state` returned."""
    import torch

    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)


def processor_name(threads: int) -> str:
    """Return the model of the processor and the number of threads, such as ``AMD EPYC, 2 threads``.

    If the system does not report the model, it is the name of the architecture, without the threads.
    """
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if models:
            return f"{models[0]}, {counted(threads, 'thread')}"
    return platform.processor() or platform.machine()


Result = TypeVar("Result")


def run_in_threads(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run tasks in parallel, with torch's threads divided between them; return their results in order.

    torch divides each single operation between its threads, which then wait for each other hundreds of times in a
    step. A few long tasks, each on its own thread, lose less time, above all if other programs use the cores. If there
    are more tasks than threads, or their number does not divide that of the threads, some threads are idle at the end.
    """
    import torch

    threads = torch.get_num_threads()
    count = min(len(tasks), threads)
    if count <= 1:
        return [task() for task in tasks]

    def run_task(task: Callable[[], Result]) -> Result:
        torch.set_num_threads(threads // count)
        return task()

    futures = [_pool(count).submit(run_task, task) for task in tasks]
    try:
        return [future.result() for future in futures]
    finally:  # no task keeps running, even after an error
        wait(futures)
        torch.set_num_threads(threads)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="ssgan")


# A forked process has none of the threads of its parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
