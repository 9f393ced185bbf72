"""Runs a program over headers: the state that its statements change, and the questions they ask of it."""
