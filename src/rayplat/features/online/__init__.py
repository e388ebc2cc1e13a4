"""The online store: what the newest known rows of each entity answer, kept ready to be read."""
