"""Work side by side on the CPU's threads.

Torch shares each single operation between its threads, which then wait for each other hundreds of times in a step;
where another program takes a core away, every wait is for the slower one. A few long tasks, each on a thread of its
own, lose less on a quiet machine and far less on a busy one.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["run"]

Result = TypeVar("Result")


def run(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Results of the tasks, in their order; torch's threads are divided between as many as run at once."""
    threads = torch.get_num_threads()
    count = min(len(tasks), threads)
    if count <= 1:
        return [task() for task in tasks]

    def alone(task: Callable[[], Result]) -> Result:
        torch.set_num_threads(threads // count)
        return task()

    pool = _pool(count)
    try:
        if len(tasks) > count:
            return list(pool.map(alone, tasks))
        others = [pool.submit(alone, task) for task in tasks[1:]]
        return [alone(tasks[0]), *(other.result() for other in others)]
    finally:
        torch.set_num_threads(threads)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="ssgan")
