"""Evaluate models on a split: errors, ensembles, submission files."""
