"""Formats: from the bytes of records to rows, and a reason for each record that is none."""
