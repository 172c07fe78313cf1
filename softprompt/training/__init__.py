"""Soft-prompt tuning: the frozen base model, the methods, the training loop and its checkpoints."""
