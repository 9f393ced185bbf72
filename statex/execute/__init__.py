"""Carrying a plan out: over tensors in memory, and checking the result against its target."""
