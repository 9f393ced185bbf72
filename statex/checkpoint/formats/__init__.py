"""The formats: one module for each, and `registry`, which knows them all.

A format says of itself what others ask: how it is recognised, what it can hold, how a file of it is laid out. Nobody
compares its name.
"""
