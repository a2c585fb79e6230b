"""From a media file to arrays: videos, covers and sound, decoded and stored."""
