"""Held-out losses and what they show."""
