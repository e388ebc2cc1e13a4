"""Profiles: what a table holds, in one pass."""
