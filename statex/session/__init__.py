"""A run from its request to its outputs: what is asked, opened, planned and written, each in a module of its own."""
