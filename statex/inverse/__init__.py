"""How a program is undone: what comes back of a plan, the rules that bring it back, and the proof on the header."""
