"""Least privilege: the documents that an account needs before a cluster starts in it."""
