"""Verification of releases: what they are copies of, whether their files decode, and what is wrong with their tables."""
