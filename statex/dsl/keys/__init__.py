"""Keys: the patterns that match them, the templates that make new ones, and the index that finds them."""
