"""`statex schema`."""

from __future__ import annotations

import typer


def schema() -> None:
    """Print the JSON Schema of recipes, for editors that read YAML.

    A recipe whose first line is `# yaml-language-server: $schema=recipe.schema.json` is checked while it is written.

    \b
    statex schema > recipe.schema.json
    """
    from statex.recipe.schema import schema_text

    typer.echo(schema_text())
