"""The content of outputs: bytes that are moved or computed, and the plan of where each of them goes."""
