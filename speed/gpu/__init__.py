"""What training, ranking and reading cost on a GPU; see :mod:`speed.gpu.__main__`."""
