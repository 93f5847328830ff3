"""Work side by side on the CPU's threads.

Torch shares each single operation between its threads, which then wait for each other hundreds of times in a step;
where another program takes a core away, every wait is for the slower one. A few long tasks, each on a thread of its
own, lose less on a quiet machine and far less on a busy one.
"""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

__all__ = ["run"]

Result = TypeVar("Result")


def run(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Results of the tasks, in their order; torch's threads are divided between as many as run at once.

    Where the tasks are more than the threads, or do not divide them, some threads are idle at the end.
    """
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
