"""numpy archives."""
