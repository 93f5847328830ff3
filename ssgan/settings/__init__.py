"""Settings of a run: names, units, ranges, defaults and their rules."""

from ssgan.settings.presets import allowed, describe, parse, resolve

__all__ = ["allowed", "describe", "parse", "resolve"]
