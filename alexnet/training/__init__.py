"""Train a network: the update rule, the training loop, and checkpoints to stop and resume a run."""
