"""Average over the processes of one training.

With one process every function returns its input. Each of W processes has b contiguous rows of every batch, in the
order of the ranks, and all have the same weights. A loss that is a mean over rows is the mean of the losses of the
processes, so its gradient is the mean of their gradients (:func:`average`). A loss that is not such a mean uses
:func:`mean` or :func:`joined_rows`, whose gradients flow between the processes too; :func:`own_rows` selects the rows
of this process from noise that was drawn for the joined batch. These three act only inside :func:`shares_of_batches`:
an evaluation by one process involves no other.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "ProcessLost",
    "average",
    "count",
    "is_main",
    "is_same_everywhere",
    "join",
    "joined_like",
    "joined_rows",
    "largest",
    "leave",
    "local_rank",
    "main_first",
    "mean",
    "own_rows",
    "own_slice",
    "shares_of_batches",
]

# A process may have to wait while another one evaluates or reads pictures; one that has ended is noticed at once.
TIMEOUT = timedelta(days=7)

_rank, _count, _local_rank = 0, 1, 0
_rows: int | None = None  # rows of this process in each batch, inside shares_of_batches


class ProcessLost(RuntimeError):  # noqa: N818 - a loss
    """Another process of the training has ended, or cannot be reached."""


def join(store: dist.Store, rank: int, count: int, local_rank: int = 0) -> None:
    """Join the other processes of a training, by gloo on the CPU and NCCL between GPUs.

    Parameters
    ----------
    store : Store
        Store that all processes can reach.
    rank, count : int
        Rank of this process, and number of processes.
    local_rank : int
        Index of the GPU of this process.
    """
    global _rank, _count, _local_rank
    backend = "gloo"
    if torch.cuda.is_available() and dist.is_nccl_available() and local_rank < torch.cuda.device_count():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(local_rank)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=TIMEOUT)
    _rank, _count, _local_rank = rank, count, local_rank


def leave() -> None:
    """Leave the other processes; those that wait for this one raise :class:`ProcessLost`."""
    global _rank, _count, _local_rank
    _rank, _count, _local_rank = 0, 1, 0
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    """Return the number of processes W (the world size); 1 if none has joined."""
    return _count


def local_rank() -> int:
    """Return the index of this process among those of its machine."""
    return _local_rank


def is_main() -> bool:
    """Return whether this is the process that writes, prints and evaluates: rank 0."""
    return _rank == 0


@contextmanager
def shares_of_batches(rows: int) -> Iterator[None]:
    """While the block runs, treat batches of ``rows`` rows, or several concatenated, as parts of joined batches."""
    global _rows
    if _count == 1:
        yield
        return
    before, _rows = _rows, rows
    try:
        yield
    finally:
        _rows = before


def own_slice(rows: int) -> slice:
    """Return the slice of this process's rows in a joined batch of ``rows`` rows, a multiple of W."""
    share = rows // _count
    return slice(_rank * share, (_rank + 1) * share)


def mean(x: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes; half precision is summed in float32."""
    if _rows is None:
        return x
    total: Tensor = _Sum.apply(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x)
    return (total / _count).to(x.dtype)


def joined_rows(x_BF: Tensor) -> Tensor:
    """Return the rows of all processes, [W * B, F]."""
    if _rows is None:
        return x_BF
    rows = len(x_BF)
    joined: Tensor = _Sum.apply(F.pad(x_BF, (0, 0, _rank * rows, (_count - 1 - _rank) * rows)))
    return joined


def joined_like(x: Tensor) -> Tensor:
    """Return an uninitialised tensor for the rows of all processes, where ``x`` holds those of this one."""
    return x if _rows is None else x.new_empty(_count * len(x), *x.shape[1:])


def own_rows(joined: Tensor) -> Tensor:
    """Return the rows of this process from one or several concatenated joined batches, as a contiguous tensor."""
    if _rows is None:
        return joined
    return joined.unflatten(0, (-1, _count, _rows))[:, _rank].flatten(0, 1).contiguous()


def average(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the means of tensors of one dtype over the processes, without gradients."""
    if _count == 1:
        return tensors
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    parts = (_all_reduce(flat) / _count).split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def largest(number: int) -> int:
    """Return the maximum of a number over the processes; all wait for the last one."""
    if _count == 1:
        return number
    return int(_all_reduce(torch.tensor(number), dist.ReduceOp.MAX))


def is_same_everywhere(number: int) -> bool:
    """Return whether every process passes the same number, of at most 63 bits."""
    return largest(number) == -largest(-number)


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block in the main process first, then in the others: for files that it writes and they read."""
    if not is_main():
        largest(0)
    yield
    if is_main():
        largest(0)
    largest(0)


class _Sum(torch.autograd.Function):
    """Sum a tensor over the processes. Its gradient is their sum too, because each loss depends on every part."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _all_reduce(x.detach().clone(memory_format=torch.contiguous_format))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Save nothing."""

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _Sum.apply(*gradients)


def _all_reduce(x: Tensor, operation: Any = dist.ReduceOp.SUM) -> Tensor:
    """Reduce a contiguous tensor in place."""
    try:
        dist.all_reduce(x, operation)
    except RuntimeError as cause:
        raise ProcessLost("Another process of this training has ended.") from cause
    return x
