"""The shared-prefix engine: what stands before every row runs once, and logits exist at labels only."""
