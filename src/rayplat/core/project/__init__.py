"""The project declarations: what a data scientist writes in one plain Python file."""
