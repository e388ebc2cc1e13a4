"""Proof, offline, that the rendered files do what the cluster file says."""
