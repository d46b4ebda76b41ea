"""Training: the update rule, the loop, and the checkpoints that make it one run however often it is stopped."""
