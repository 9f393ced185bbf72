"""The ways to compute values: bytes that only move, chunks by numpy, and everything else by torch."""
