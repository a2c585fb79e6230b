"""The HTTP server of a feed: its API, the page, the videos, and what protects them."""
