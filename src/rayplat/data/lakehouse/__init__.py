"""The lakehouse: Iceberg tables in an SQL catalog, and commits that are fenced by source offsets."""
