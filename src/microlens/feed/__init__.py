"""The feed: a server that recommends one video after another to people, and records what they do."""
