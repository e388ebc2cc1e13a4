"""The front: a replica's own HTTP listener, with no proxy between it and who asks."""
