"""What `make` runs and no stage imports."""
