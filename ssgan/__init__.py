"""Semi-supervised image classification with a K+1 GAN.

A discriminator with K classes and an implicit zero "generated" logit learns from labelled,
unlabelled and generated images; a generator is trained against it by feature matching. (In the
GAN literature "SSGAN" can also mean *self*-supervised: this is the semi-supervised one.)

Importing this package imports no torch; the names below are loaded on first use.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssgan.api import open_run, train
    from ssgan.data import Data, Options, load
    from ssgan.data.splits import SemiSupervisedKFold
    from ssgan.estimator import SSGANClassifier
    from ssgan.settings.config import Config

__version__ = "0.1.0"

_LAZY = {
    "Config": "ssgan.settings.config",
    "Data": "ssgan.data",
    "Options": "ssgan.data",
    "SSGANClassifier": "ssgan.estimator",
    "SemiSupervisedKFold": "ssgan.data.splits",
    "load": "ssgan.data",
    "open_run": "ssgan.api",
    "train": "ssgan.api",
}
__all__ = ["Config", "Data", "Options", "SSGANClassifier", "SemiSupervisedKFold", "load", "open_run", "train"]

# How long an idle OpenMP thread spins before it sleeps. The default of libgomp spins for
# milliseconds, which on a busy machine makes a training step many times slower. It is read once,
# when torch loads the library, so it must be set before torch is imported; a user's own choice stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
