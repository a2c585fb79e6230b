"""The gate: default models on public data sets, held against Popularity, published figures and the last run."""
