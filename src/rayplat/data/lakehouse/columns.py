"""The system columns: where each row of a table came from.

Knows their names alone, so that a Ray task need not load a catalog to write them.
"""

PARTITION = "_partition"
"""int32: the partition of the source."""
OFFSET = "_offset"
"""int64: the offset in the partition."""
