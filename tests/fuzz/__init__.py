"""Fuzzing every reader of files that others wrote: ``python -m tests.fuzz --minutes 30 --seed 0``."""
