"""Soft-prompt tuning: the frozen base model, the methods, and the training loop."""
