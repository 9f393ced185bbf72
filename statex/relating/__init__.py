"""What became of what, and the rules that say so: relations between keys, from wherever they are, as a program."""
