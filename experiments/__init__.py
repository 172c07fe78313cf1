"""Ready sweeps, one command in each .sh file, and what makes a table, a page and a search of such experiments."""
