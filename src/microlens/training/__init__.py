"""One training step, the loop over them, and what is computed once and kept."""
