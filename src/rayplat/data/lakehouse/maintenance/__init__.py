"""Maintenance: compaction, expiry and the removal of orphans, safe beside writers."""
