"""What an output is made of: bytes that move or are made, and the plan of where each of them goes."""
