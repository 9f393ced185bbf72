"""`statex explain`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from statex.cli import options
from statex.cli.output import columns, print_json
from statex.diagnostics.codes import all_codes, find_code
from statex.diagnostics.explain import explain as page


def explain(
    code: Annotated[str | None, typer.Argument(metavar="[CODE]", help="A code, such as SX301.")] = None,
    json: options.Json = False,
) -> None:
    """Explain the code of a message, or list all codes.

    \b
    statex explain
    statex explain SX301
    """
    if code is None and json:
        print_json([asdict(c) for c in all_codes()])
        return
    if code is None:
        for line in columns([(c.id, c.title) for c in all_codes()]):
            typer.echo(line)
        return
    found = find_code(code)
    if found is None:
        raise typer.BadParameter(f"there is no code `{code}`; `statex explain` lists all")
    if json:
        print_json(asdict(found))
    else:
        typer.echo(page(found))
