"""docs/networks.md has the correct parameter counts, operation counts and settings."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssgan.nn.registry import NETWORK_PAIRS
from ssgan.settings.catalog import NETWORK_SETTINGS, NETWORKS
from ssgan.settings.config import Config
from ssgan.settings.fields import show

PAGE = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
COUNTS = {
    ("paper-conv", (32, 32, 3)): (1_406_804, 544.1, 4_933_382, 216.3),
    ("compact-conv", (28, 28)): (242_068, 5.7, 350_050, 4.0),
    ("compact-conv", (32, 32, 3)): (243_668, 7.1, 448_038, 5.8),
    ("whitened-conv", (32, 32, 3)): (285_108, 35.6, 448_038, 5.8),
    ("wide-resnet", (32, 32, 3)): (1_466_932, 428.7, 4_933_382, 216.3),
    ("dcgan", (32, 32, 3)): (700_234, 35.2, 1_068_931, 35.9),
    ("dcgan", (64, 64, 3)): (2_839_370, 207.8, 3_576_707, 209.3),
    ("gan-mlp", (28, 28)): (535_818, 1.1, 1_489_936, 3.0),
}


@pytest.mark.parametrize(("network", "shape"), COUNTS)
def test_page_has_the_correct_parameter_and_operation_counts(network: str, shape: tuple[int, ...]) -> None:
    """Operations for one image; a multiplication and an addition count as two."""
    config = Config(network=network)
    numbers = []
    D, G = NETWORK_PAIRS[network].discriminator(config, shape, 10), NETWORK_PAIRS[network].generator(config, shape)
    for module, x in ((D, torch.zeros(1, *shape)), (G, torch.zeros(1, 100))):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(x)
        numbers += [sum(p.numel() for p in module.parameters()), counter.get_total_flops() / 1e6]
    assert numbers == [pytest.approx(value, abs=0.06) for value in COUNTS[network, shape]]
    d, d_flop, g, g_flop = COUNTS[network, shape]
    assert f"| `{network}` | {'x'.join(map(str, shape))} | {d:,} | {d_flop} | {g:,} | {g_flop} |" in PAGE


def test_page_lists_settings_sizes_and_ranges_of_each_network() -> None:
    for name in NETWORK_SETTINGS:
        row = " | ".join([f"`{name}`", *(show(traits.settings[name]) for traits in NETWORKS.values())])
        assert f"| {row} |\n" in PAGE
    for network, traits in NETWORKS.items():
        least, most = (f"{n}x{n}" for n in (traits.smallest, max(traits.squares, default=0)))
        sizes = f"{least} to {most}" if traits.squares else f"from {least}"
        sizes = sizes if traits.convolutional else "vectors alone" if traits.vectors else "any, vectors too"
        pair = NETWORK_PAIRS[network]
        assert f"| `{network}` | {sizes} | [{pair.low:g}, {pair.high:g}] |" in PAGE
