"""Experiment trackers: what metrics.jsonl records, copied to TensorBoard, Weights & Biases, MLflow.

Each is used through its own library, an extra that is imported only when the tracker is asked for,
and configured by that library's own environment variables. metrics.jsonl stays the source.
"""
