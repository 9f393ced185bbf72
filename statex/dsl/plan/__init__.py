"""The plan of a program: a graph of values, an output for each key, and the account of every input."""
