"""The proof that what was served is what the lakehouse says could be known."""
