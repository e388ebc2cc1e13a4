"""Training: what a project's training function gets, the loop, checkpoints, metrics and the trainer."""
