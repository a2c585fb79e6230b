"""What a dataset holds: figures beside those of other data sets, charts, and a page."""
