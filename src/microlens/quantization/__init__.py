"""Discrete codes of items from their content: residual quantisation of feature vectors."""
