"""Archives of numpy."""
