"""The classes of the program and its commands: typer's, changed to take texts and paths as they are.

To turn a text into a text, typer from 0.29 on imports pydantic, which takes a fifth of the time of a short command. It
looks for what converts a parameter in an attribute that it fills at first use; other versions know no such attribute
and go on as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from typer import Typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from statex.cli.arguments import ORDER, check_filled, in_order, separated

_Convert = Callable[[Any], Any]
Load = Callable[[], Callable[..., None]]
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
        parameters = self.get_params(ctx)
        args = separated(args, parameters)
        ctx.meta[ORDER] = in_order(args, parameters)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Carry the command out."""
        check_filled(ctx.meta[ORDER])
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what the line of usage is made of; what stands for arguments says itself which may be missing."""
        return ["[OPTIONS]", *(_called(one) for one in self.get_params(ctx) if one.param_type_name == "argument")]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options into a help text, without Python's names of their types."""
        parameters = self.get_params(ctx)
        arguments = [(_called(one), one.help or "") for one in parameters if one.param_type_name == "argument"]
        options = [one.get_help_record(ctx) for one in parameters if one.param_type_name == "option"]
        for title, rows in (("Arguments", arguments), ("Options", [row for row in options if row is not None])):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _called(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


class CommandGroup(_TakesAsGiven, TyperGroup):
    """The program; the module of a command is imported when that is wanted."""

    summaries: ClassVar[Mapping[str, str]] = {}
    """What each command does, in a sentence, where no more is wanted of it."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = Commands(self.context_settings)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that arguments begin with, and the arguments after it: its name may be two words."""
        name = " ".join(args[:2])
        if len(args) > 1 and name in self.commands:
            return name, self.commands[name], args[2:]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the commands that a word may become; none of them is imported."""
        with self._summed_up():
            found = super().shell_complete(ctx, incomplete)
        return [one for one in found if " " not in one.value]  # a name of two words is no word

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands into a help text; none of them is imported."""
        with self._summed_up():
            super().format_commands(ctx, formatter)

    @contextmanager
    def _summed_up(self) -> Iterator[None]:
        commands, self.commands = self.commands, {n: TyperCommand(n, help=text) for n, text in self.summaries.items()}
        try:
            yield
        finally:
            self.commands = commands


class Commands(MutableMapping[str, Any]):
    """The commands by name, each made when it is asked for."""

    names: ClassVar[Mapping[str, Load]] = {}
    """What gives each command's function."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(settings)
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            alone = Typer(
                add_completion=False,
                pretty_exceptions_enable=False,
                rich_markup_mode=None,
                context_settings=self._settings,
            )
            alone.command(name, cls=Command)(self.names[name]())
            self._made[name] = get_command(alone)
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class _AsGiven:
    """Converts a parameter's text, or texts, where any will do."""

    def __init__(self, convert: _Convert) -> None:
        self._convert = convert

    def coerce(self, value: Any, param: Any, ctx: object) -> Any:
        """Return the value of a parameter; what is not given is `None`, or no values."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        return self._convert(value)
