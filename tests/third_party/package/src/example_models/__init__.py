"""Models for microlens."""
