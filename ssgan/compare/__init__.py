"""Compare methods, numbers of labels and seeds on the same label draws."""
