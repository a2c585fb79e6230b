"""Run configurations: reading and validation of TOML files."""
