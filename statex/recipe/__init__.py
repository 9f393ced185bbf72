"""Recipes: the YAML files that say all of a run, read up to checked values with their places.

`read` reads one, `schema` describes them to editors. Both import msgspec, which takes a while: import them late.
"""
