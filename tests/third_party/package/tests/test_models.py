from example_models.encoders import CoverColours
from example_models.recommenders import Window

from microlens.testing import EncoderContract, RecommenderContract


class TestWindow(RecommenderContract):
    recommender = Window


class TestCoverColours(EncoderContract):
    encoder = CoverColours
    options = {"cells": 2}  # noqa: RUF012
