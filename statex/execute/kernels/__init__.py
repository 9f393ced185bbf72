"""How values are computed: bytes that only move, chunks by numpy, and everything else by torch."""
