"""Jobs: commands that run on the cluster, and their history, which outlives it."""
