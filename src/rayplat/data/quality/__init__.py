"""Quality: what declared checks say of rows and tables, and what becomes of the bad ones."""
