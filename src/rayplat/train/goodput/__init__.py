"""What the time of a run was spent on, in seconds and in money."""
