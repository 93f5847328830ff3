"""The command line.

Its modules import torch only inside the commands that need it.
"""

from ssgan.cli.app import main

__all__ = ["main"]
