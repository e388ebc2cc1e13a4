"""Streams: sources with offsets, the exactly-once ingest, and the development broker that replays a world."""
