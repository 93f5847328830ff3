"""Figures drawn from arrays and logs. Imports no torch."""
