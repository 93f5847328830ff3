"""The networks G and D, their layers, and stacks of them over seeds."""
