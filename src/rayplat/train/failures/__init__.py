"""Failures within a run: what they are, and what is done about each."""
