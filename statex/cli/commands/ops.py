"""`statex ops`."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from typing import Annotated, Any

import typer

from statex.cli.output import columns, print_json
from statex.diagnostics.suggest import did_you_mean
from statex.dsl.ops import OPERATIONS, QUERIES
from statex.dsl.ops.base import Operation


def ops(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="An operation to explain in full.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the operations of the language, or explain one.

    \b
    statex ops
    statex ops rearrange
    """
    entries = [_entry(operation) for operation in OPERATIONS.values()]
    entries += [
        {
            "name": q.name,
            "category": "questions to the header",
            "signature": q.signature,
            "doc": q.doc,
            "parameters": [],
            "example": q.example,
        }
        for q in QUERIES
    ]
    if name is not None:
        chosen = [e for e in entries if e["name"] == name]
        if not chosen:
            near = did_you_mean(name, [e["name"] for e in entries])
            raise typer.BadParameter(
                f"there is no operation `{name}`" + (f"; did you mean `{near[0]}`?" if near else "")
            )
        entries = chosen
    if json:
        print_json(entries)
    elif name is not None:
        entry = entries[0]
        typer.echo(f"{entry['signature']}\n\n{entry['doc']}\n")
        for line in columns([(p["name"], p["takes"], p["doc"]) for p in entry["parameters"]]):
            typer.echo(line)
        typer.echo(f"{'' if not entry['parameters'] else chr(10)}example:\n    {entry['example']}")
    else:
        _print_list(entries)


def _entry(operation: type[Operation]) -> dict[str, Any]:
    return {
        "name": operation.name,
        "category": operation.category,
        "signature": operation.signature(),
        "doc": inspect.getdoc(operation) or "",
        "parameters": [
            {"name": p.name, "takes": " | ".join(p.choices) or p.kind.value, "doc": p.doc} for p in operation.parameters
        ],
        "example": operation.example,
    }


def _print_list(entries: list[dict[str, Any]]) -> None:
    categories = dict.fromkeys(e["category"] for e in entries)
    for number, category in enumerate(categories):
        if number:
            typer.echo("")
        typer.echo(category)
        for entry in entries:
            if entry["category"] == category:
                typer.echo(f"  {entry['signature']}")
                typer.echo(textwrap.fill(entry["doc"].splitlines()[0], _width(), **_INDENT))


_INDENT: dict[str, Any] = {"initial_indent": "      ", "subsequent_indent": "      ", "break_on_hyphens": False}


def _width() -> int:
    return min(shutil.get_terminal_size().columns, 100)
