"""Training: losses, the training step, the trainer, checkpoints and caches of frozen computations."""
