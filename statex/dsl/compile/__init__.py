"""A program run over headers: the state that its statements change, and what they ask of it."""
