"""Whether a result fits its target: the target's header, the comparison, and the rules that would make it fit."""
