"""Measurements of training, ranking and reading on a GPU; see :mod:`speed.gpu.__main__`."""
