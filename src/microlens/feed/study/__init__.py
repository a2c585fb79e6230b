"""Studies: invited people use the feed of each model in turn, and answer questions."""
