"""Killing commands at random moments, and filling their disk: ``python -m tests.kills --kills 10 --seed 0``."""
