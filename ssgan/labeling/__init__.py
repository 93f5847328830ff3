"""Choose images to label, and find wrong labels."""
