"""The meaning of a program: patterns, names, types, statements, and the plan they make over headers."""
