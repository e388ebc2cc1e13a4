"""Aggregates that do not depend on the order of rows nor on how they are cut in parts."""
