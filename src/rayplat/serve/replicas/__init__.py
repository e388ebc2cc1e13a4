"""How many replicas an endpoint has: the keeper of a machine's connections, its policy and its standbys."""
