"""Expressions: plain values are computed, tensors become values of the graph with their types."""
