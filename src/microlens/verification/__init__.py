"""Verification of releases: what they are copies of, whether their files decode, whether their tables can be right."""
