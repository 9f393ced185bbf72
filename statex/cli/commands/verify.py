"""`statex verify`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from statex.cli import options, progress
from statex.cli.groups import grouped
from statex.cli.output import escape, print_diagnostics, print_json
from statex.diagnostics import StatexError
from statex.diagnostics.amounts import counted
from statex.diagnostics.render import to_json

if TYPE_CHECKING:
    from statex.core.header import KeyPath
    from statex.execute.verify.verification import Comparison
    from statex.session.compared import Compared
    from statex.session.session import Session


@grouped
def verify(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint.")],
    *,
    aim: options.Aim,
    values: Annotated[bool, typer.Option("--values", help="Also compare the values with those of --like.")] = False,
    tolerance: options.Tolerance,
    root: options.Root = None,
    events: options.ProgressEvents = None,
    saying: options.Saying,
) -> None:
    """Compare a checkpoint with a model or another checkpoint.

    Keys, shapes and dtypes are compared, and a model's own load_state_dict must accept the state. With --values, every
    number must equal that of the other checkpoint, to the bit or within --rtol and --atol.

    \b
    statex verify out.pth --target mypkg.models:MyModel
    statex verify out.safetensors --like reference.safetensors --values
    """
    from statex.cli import requests
    from statex.session.request import InputSpec, Request
    from statex.session.session import Session
    from statex.session.warnings import judged

    target = requests.target(aim)
    if target is None:
        raise typer.BadParameter("name what to verify against: --target MODULE:CALLABLE or --like FILE")
    tolerances = requests.tolerances(tolerance)
    if values and aim.like is None:
        raise typer.BadParameter("a model has no values yet: --values takes --like FILE", param_hint="--values")
    if any(tolerances.values()) and not values:
        raise typer.BadParameter("--rtol and --atol are for values, which --values compares", param_hint="--rtol")
    policy = requests.warnings(saying.warnings)
    with redirect_stdout(sys.stderr), Session(Request(InputSpec(path, requests.root(root)), target=target)) as session:
        warnings = judged(session.before, policy)
        found = session.whole.verify()
        agreed = _values(session, aim.like, tolerances, saying, events) if values and aim.like is not None else None
    if saying.json:
        said = [to_json(one) for one in warnings]
        print_json({"ok": True, "target": found.target, "keys": found.agreeing, "values": values, "warnings": said})
        return
    print_diagnostics(warnings, concise=saying.concise)
    if not saying.quiet:
        typer.echo(f"{escape(path.name)} fits {escape(found.target)}: {_agreement(found, agreed)}")


def _values(
    session: Session, like: Path, tolerances: dict[str, float], saying: options.Saying, events: str | None
) -> Compared:
    from statex.session.bare import Bare
    from statex.session.compared import compared, different_values

    with progress.shown(saying, events) as shown, Bare(like, _root_of_target(session)) as other:
        found = compared(session, other, rtol=tolerances["rtol"], atol=tolerances["atol"], tell=shown)
        differing = different_values(found)
        if differing is not None:
            raise StatexError([differing])
    return found


def _root_of_target(session: Session) -> KeyPath | None:
    return session.target.root if session.target is not None else None


def _agreement(found: Comparison, values: Compared | None) -> str:
    if values is None:
        return f"all {found.agreeing} keys, shapes and dtypes agree"
    said = f"all {found.agreeing} keys agree, and their values {'within the tolerance' if values.values else 'in bits'}"
    if values.uncompared:
        said += f"; {counted(len(values.uncompared), 'entry', 'entries')} not compared (not dense tensors)"
    return said
