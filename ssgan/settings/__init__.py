"""Settings of a run: units, ranges, defaults, rules."""

from ssgan.settings.presets import allowed, describe, parse, resolve

__all__ = ["allowed", "describe", "parse", "resolve"]
