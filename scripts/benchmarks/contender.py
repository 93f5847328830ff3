"""Run a program for `scripts/benchmarks/speed.py`, in a separate process: `contender.py NAME SIZE SETTINGS`.

SIZE is the number of models; for ``square`` the rows of a matrix, for ``copy`` the megabytes.

Prints a line after the first step. Then reads lines with a number of steps, and prints the time of these. Torch is
imported where the program would import it: ssgan sets before that how OpenMP waits, a plain program does not.
"""

import contextlib
import importlib
import itertools
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def program(
    name: str, size: int, settings: dict[str, Any], exits: contextlib.ExitStack
) -> tuple[Callable[[], object], Any]:
    """Return a function that takes one step, and its device; ``exits`` closes the contexts that the steps need."""
    if name.startswith("ssgan"):
        importlib.import_module("ssgan")
    import torch

    sys.path.insert(0, str(Path(__file__).parent))
    import ceiling
    import plain

    from ssgan.devices import own_precision, select
    from ssgan.settings.presets import resolve

    torch.manual_seed(0)
    preset = settings.pop("preset")
    if name == "ssgan":
        config = resolve(preset, {**settings, "seeds": size})
        device = select(config.device)
        trainer = plain.build(config, plain.images())
        exits.enter_context(own_precision(config.precision, device))
        stream = trainer.batches.from_batch(0, sys.maxsize)
        per_step = config.discriminator_steps
        return lambda: trainer.step(list(itertools.islice(stream, per_step))), device
    config = resolve(preset, {k: v for k, v in settings.items() if k not in ("seed_strategy", "precision")})
    device = select(config.device)
    if name == "plain":
        data = plain.images()
        plain_program = plain.Plain(plain.build(config, data), data)
        batches = plain_program.batches()
        return lambda: plain_program.step(*next(batches)), device
    if name == "products":
        return ceiling.multiplier(ceiling.products(config, 28 * 28, 10), size, device), device
    if name == "square":
        return ceiling.multiplier([("output", size, size, size)], 1, device), device
    return ceiling.copier(size, device), device


def main() -> None:
    """Answer each line of standard input with a time, until there is no more input."""
    start_time = time.perf_counter()
    exits = contextlib.ExitStack()
    step, device = program(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), exits)
    import torch

    def wait() -> None:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    step()
    wait()
    print(json.dumps({"first_step": time.perf_counter() - start_time}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            step()
        wait()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = {"seconds": time.perf_counter() - start, "peak_bytes": peak}
        if device.type == "cuda":
            answer["peak_device_bytes"] = torch.cuda.max_memory_allocated(device)
        print(json.dumps(answer), flush=True)
    exits.close()


if __name__ == "__main__":
    main()
