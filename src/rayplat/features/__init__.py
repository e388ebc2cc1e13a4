"""Features: one definition of a view, evaluated in the past for training and now for serving."""
