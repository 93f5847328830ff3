"""Trained models in use: probabilities, scores, predictions and samples."""
