"""The JSON Schema of recipes, with which editors complete and check them."""

from __future__ import annotations

import json
from typing import Any

from msgspec.json import schema_components

from statex.recipe import declaration

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID = "urn:statex:recipe:1"


def schema() -> dict[str, Any]:
    """Return the schema as plain data: draft 2020-12, every field with a description."""
    _, parts = schema_components([declaration.Recipe], ref_template="#/$defs/{name}")
    for name, part in parts.items():
        for relation in getattr(declaration, name).relations:
            part.update(relation.schema)
    recipe = parts.pop("Recipe")
    # One output may stand without a name; a union of two kinds of mapping is not for types to say.
    recipe["properties"]["outputs"]["anyOf"].append({"$ref": "#/$defs/OutputFile"})
    return {"$schema": DIALECT, "$id": ID, **recipe, "title": "statex recipe", "$defs": parts}


def schema_text() -> str:
    """Return the schema as JSON, with a line end."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
