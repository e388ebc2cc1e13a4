"""The prediction log on local disks: write-ahead files, and how they reach the lakehouse."""
