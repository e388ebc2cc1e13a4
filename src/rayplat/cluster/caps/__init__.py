"""The limit of a group over both of its markets, held on a bought head where Ray knows none."""
