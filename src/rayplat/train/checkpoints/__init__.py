"""Checkpoints between two steps: sharded, written in the background, sealed, verified before use."""
