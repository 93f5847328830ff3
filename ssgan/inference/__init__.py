"""Use trained models: probabilities, scores, predictions and samples."""
