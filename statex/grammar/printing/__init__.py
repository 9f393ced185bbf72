"""How to print each part of a tree, and where its lines break; `statex.grammar.printer` is the entry point."""
