"""Measurements of this pipeline against what a user would otherwise write; see `benchmarks.speed`."""
