"""The trees in files, and the state in them: found by its root, taken out, and put back."""
