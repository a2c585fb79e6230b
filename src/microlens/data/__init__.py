"""From release files to batches."""
