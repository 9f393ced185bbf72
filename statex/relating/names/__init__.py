"""Rules for names: patterns that cover pairs of keys, found and made short."""
