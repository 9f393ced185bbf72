"""The plan that a program makes: a graph of values, an output for each key, and the account of every input."""
