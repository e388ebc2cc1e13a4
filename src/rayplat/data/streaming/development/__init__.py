"""What stands in for the world on a laptop: a broker in a process, and recorded events told to it."""
