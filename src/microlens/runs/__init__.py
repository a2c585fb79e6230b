"""Runs from beginning to end: built from a configuration, trained, tuned, opened, asked for recommendations."""
