"""Content-driven micro-video recommendation: from raw videos and interactions to honestly evaluated recommenders."""

__version__ = "0.2.0"
