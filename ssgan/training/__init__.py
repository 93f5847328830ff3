"""Training: one batch, one step, the loop, and a whole run in a folder."""
