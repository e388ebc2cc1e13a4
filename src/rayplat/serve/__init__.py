"""Endpoints that answer over HTTP, and the log of every prediction they gave."""
