"""Carrying out a plan: over tensors in memory, and checking the result against its target."""
