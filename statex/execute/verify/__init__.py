"""Verification: the target's header, the comparison, and the rules that would make a result fit."""
