"""Smaller releases made of larger ones: filtered, or of some of the users."""
