"""Writing and reading files safely: atomic writes, folder locks, checked JSON, checksums of runs."""
