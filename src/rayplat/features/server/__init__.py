"""The feature server: online features over HTTP, many entities at once."""
