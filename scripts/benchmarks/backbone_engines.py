#!/usr/bin/env python3
"""Time the ways to run a pretrained network on the CPU: the reason why features are computed in onnxruntime.

    python scripts/benchmarks/backbone_engines.py --sizes 96,160,224 --threads 1,2

Each combination of threads and size runs in a separate process. In it the engines take turns, so other load on the
machine slows all of them; the first rounds warm up and are not counted. In ``folded`` each batch norm is multiplied
into the convolution before it. ``difference`` is the largest difference from the first engine, divided by the largest
feature. ``ms/image`` is the median over rounds of batches of 16 images, without resizing.
"""

import argparse
import copy
import itertools
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ssgan.nn import backbones
from ssgan.nn.backbones import BATCH_IMAGES, load_backbone

WARM_UP = 2


def fold_batch_norm(network: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy with each batch norm multiplied into the convolution that runs before it."""
    network = copy.deepcopy(network).eval()
    order: list[tuple[str, nn.Module]] = []
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    hooks = [
        module.register_forward_hook(lambda module, *_, name=name: order.append((name, module)))
        for name, module in network.named_modules()
        if isinstance(module, kinds)
    ]
    with torch.inference_mode():
        network(example)
    for hook in hooks:
        hook.remove()
    for (first, convolution), (second, norm) in itertools.pairwise(order):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            network.set_submodule(first, fuse_conv_bn_eval(convolution, norm))
            network.set_submodule(second, nn.Identity())
    return network


def torch_engine(network: nn.Module, batch: Tensor, memory_format: torch.memory_format) -> Callable[[], Tensor]:
    """Return a function that runs a copy of a network in PyTorch."""
    network, batch = copy.deepcopy(network).to(memory_format=memory_format), batch.to(memory_format=memory_format)
    return lambda: network(batch)


@torch.inference_mode()
def measure(name: str, size: int, threads: int, rounds: int) -> None:
    """Time the engines and print one row for each."""
    torch.set_num_threads(threads)
    find_spec, backbones.find_spec = backbones.find_spec, lambda module: None
    network = load_backbone(name, size)._forward
    backbones.find_spec = find_spec
    backbone = load_backbone(name, size)
    if backbone.engine != "onnxruntime":
        sys.exit("onnxruntime is not installed: pip install 'ssgan[pretrained]'.")
    batch = torch.randn(BATCH_IMAGES, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(False):
        folded = fold_batch_norm(network, batch[:1].clone())
    engines = {
        "eager, contiguous": torch_engine(network, batch, torch.contiguous_format),
        "eager, channels last": torch_engine(network, batch, torch.channels_last),
        "folded, contiguous": torch_engine(folded, batch, torch.contiguous_format),
        "folded, channels last": torch_engine(folded, batch, torch.channels_last),
        "onnxruntime": lambda: backbone._forward(batch),
    }
    expected = engines["eager, contiguous"]()
    times: dict[str, list[float]] = {engine: [] for engine in engines}
    for _ in range(WARM_UP + rounds):
        for engine, run in engines.items():
            start = time.perf_counter()
            run()
            times[engine].append(time.perf_counter() - start)
    for engine, run in engines.items():
        difference = float((run() - expected).abs().max() / expected.abs().max())
        milliseconds = 1e3 * np.median(times[engine][WARM_UP:]) / BATCH_IMAGES
        print(
            f"{size:6d} {threads:8d}  {engine:22s} {milliseconds:9.2f} {1e3 / milliseconds:9.0f} {difference:11.1e}",
            flush=True,
        )


def main() -> None:
    """Run each combination in a separate process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--sizes", default="96,160,224", help="pixels, separated by commas")
    parser.add_argument("--threads", default="1,2", help="separated by commas")
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    pairs = [(size, threads) for size in args.sizes.split(",") for threads in args.threads.split(",")]
    if len(pairs) == 1:
        measure(args.backbone, int(pairs[0][0]), int(pairs[0][1]), args.rounds)
        return
    print(f"{args.backbone}, batches of {BATCH_IMAGES}")
    print("pixels  threads  engine                  ms/image  images/s  difference", flush=True)
    for size, threads in pairs:
        options = ["--backbone", args.backbone, "--rounds", str(args.rounds)]
        command = [sys.executable, __file__, *options, "--sizes", size, "--threads", threads]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
