"""From a release to a dataset folder, and from that to batches."""
