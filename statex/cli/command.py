"""The classes of the program and its commands: typer's, which here take texts and paths as they are.

To turn a text into a text, typer from 0.29 on imports pydantic, which takes a fifth of the time of a short command. It
looks for what converts a parameter in an attribute that it fills at first use; other versions know no such attribute
and go on as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from statex.cli.arguments import ORDER, in_order

_Convert = Callable[[Any], Any]
_AS_GIVEN: dict[object, _Convert] = {
    bool: bool, str: str, Path: Path, list[str]: list, list[Path]: lambda paths: [Path(path) for path in paths],
}  # fmt: skip


class _TakesAsGiven:
    """A command of click's whose parameters, the option for help included, are flags, texts and paths."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, each told how its value is made."""
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
            if annotation in _AS_GIVEN:
                parameter._runtime_param = _AsGiven(_AS_GIVEN[annotation])
        return parameters


class Command(_TakesAsGiven, TyperCommand):
    """One of the program's commands; it notes its arguments in the order they were given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, and note them in the context."""
        ctx.meta[ORDER] = in_order(args, self.get_params(ctx))
        return super().parse_args(ctx, args)


class Group(_TakesAsGiven, TyperGroup):
    """The program."""


class _AsGiven:
    """Converts a parameter's text, or texts, where any will do."""

    def __init__(self, convert: _Convert) -> None:
        self._convert = convert

    def coerce(self, value: Any, param: Any, ctx: object) -> Any:
        """Return the value of a parameter; what is not given is `None`, or no values."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        return self._convert(value)
