"""How each part of a tree is written, and where its lines break; `statex.grammar.printer` is the way in."""
