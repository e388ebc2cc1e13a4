"""Maintenance of the lakehouse: files packed and clustered, snapshots expired, leftovers removed."""
