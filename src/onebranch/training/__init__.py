"""Training: one readable loop, its config, its data, its checkpoints and its log."""
