"""Settings of a run: their names, units, ranges and defaults, and the rules between them."""

from ssgan.settings.presets import allowed, describe, parse, resolve

__all__ = ["allowed", "describe", "parse", "resolve"]
