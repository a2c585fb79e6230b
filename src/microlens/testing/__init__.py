"""Contract tests for recommenders and item encoders, run with pytest.

Subclass a contract and set the class to test::

    from microlens.testing import RecommenderContract
    from my_package.mine import Mine


    class TestMine(RecommenderContract):
        recommender = Mine
"""

from microlens.errors import InputError

try:
    import pytest
except ImportError:
    raise InputError("microlens.testing needs pytest; install it with: pip install pytest") from None

pytest.register_assert_rewrite("microlens.testing.recommender", "microlens.testing.encoder")

from microlens.testing.encoder import EncoderContract  # noqa: E402
from microlens.testing.recommender import RecommenderContract  # noqa: E402

__all__ = ["EncoderContract", "RecommenderContract"]
