"""`statex schema`."""

from __future__ import annotations

import typer


def schema() -> None:
    """Print the JSON Schema of recipes, for editors that read YAML.

    An editor checks a recipe while it is written if its first line is this:

    \b
    # yaml-language-server: $schema=recipe.schema.json

    \b
    statex schema > recipe.schema.json
    """
    from statex.recipe.schema import schema_text

    typer.echo(schema_text())
