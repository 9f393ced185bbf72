"""Recipes: the YAML files that describe a whole run, read into checked values with their places.

`read` reads one, `schema` describes them to editors. Both import msgspec, which takes a while: import them late.
"""
