"""Bytes from and to the disk: input files, and the ways to write."""
