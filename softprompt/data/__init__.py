"""Rows from files to tokens: readers, what a row is, templates."""
