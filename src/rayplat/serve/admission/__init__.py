"""Who may ask, how much, and what happens when too many do."""
