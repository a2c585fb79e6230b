"""Slow, obvious twins of what the package computes fast; written from the definitions, one loop at a time."""
