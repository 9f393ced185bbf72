"""What a program means: patterns, names, types, statements, and the plan they make over headers."""
