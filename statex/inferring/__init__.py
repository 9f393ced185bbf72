"""Programs found from two checkpoints: what became of what, written as rules, and proved by applying them."""
