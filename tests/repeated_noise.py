"""Repeated noise, so that two computations of the same loss can be compared."""

import numpy as np
import torch
from torch import Tensor


def pattern(x: Tensor, draw: str) -> Tensor:
    """Noise that is the same for every row, call and seed, for any division of a batch into passes."""
    random = np.random.default_rng(int(np.prod(x.shape[1:])))  # from numpy, which vmap does not affect
    return torch.from_numpy(getattr(random, draw)(size=tuple(x.shape[1:]))).to(x.dtype).expand(x.shape)
