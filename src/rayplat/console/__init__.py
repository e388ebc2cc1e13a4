"""Web pages over typed, read-only snapshots of the platform."""
