"""What new tensors may be computed by, a module for each explanation.

Each is a function that yields formulas for a new tensor that nothing has explained, the likeliest first. It looks at
names, shapes and few numbers alone: whether a formula holds, to the bit, is found out by the walk over all of them.
"""
