"""Simulated people, with the tastes of a synthetic world, who use a feed over its HTTP API."""
