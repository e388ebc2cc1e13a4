"""The command line: one file a noun, imported when it is used."""
