"""Outputs that appear whole or not at all, and several of them together: under temporary names first, then renamed.

`staging` writes under a temporary name, `commit` gives outputs theirs, `recovery` settles what an interrupted run left.
Below them: `journal` (what a run notes beside its outputs), `moves` (one output on its way), `renames`, `signals`.
"""
