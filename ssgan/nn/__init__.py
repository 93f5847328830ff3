"""Networks G and D, their layers, and the stacked seed axis."""
