"""The configuration of a run: TOML files and what may stand in them."""
