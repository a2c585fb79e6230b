"""Preparing dataset folders from releases and data frames, splitting them, and making batches."""
