"""Data: the lakehouse on Apache Iceberg, the streams that feed it, and the quality of its rows."""
