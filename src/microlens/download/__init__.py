"""Downloading official sets, and taking up files that were fetched by hand."""
