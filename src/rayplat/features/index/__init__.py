"""A view's source, clustered by entity and time when it was written: point-in-time answers by one search."""
