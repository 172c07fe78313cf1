"""How a stage runs: its guard against bad input and signals, and outputs that appear whole or not at all."""
