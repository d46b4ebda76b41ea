"""Use a trained model on new images."""
