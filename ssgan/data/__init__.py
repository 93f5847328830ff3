"""Load images and labels as arrays: named data sets, folders of pictures, and label draws."""

from ssgan.data.dataset import Data
from ssgan.data.datasets import DATASETS, load
from ssgan.settings.options import Options

__all__ = ["DATASETS", "Data", "Options", "load"]
