"""Bulk scoring: a table in, a table of probabilities out, by the artifact and features of the endpoint."""
