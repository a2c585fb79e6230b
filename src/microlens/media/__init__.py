"""Media decoding and storage: videos, covers and sound, from files to arrays."""
