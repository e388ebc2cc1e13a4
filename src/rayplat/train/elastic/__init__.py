"""A group of workers that survives its members: who is in it changes, the run goes on at the same step."""
