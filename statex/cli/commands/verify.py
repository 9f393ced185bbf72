"""`statex verify`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from statex.cli import options, requests
from statex.cli.groups import grouped
from statex.cli.output import escape, print_diagnostics, print_json
from statex.diagnostics.render import to_json
from statex.session.request import InputSpec, Request
from statex.session.session import Session
from statex.session.warnings import judged


@grouped
def verify(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint.")],
    *,
    aim: options.Aim,
    root: options.Root = None,
    saying: options.Saying,
) -> None:
    """Compare a checkpoint with a model or another checkpoint.

    Keys, shapes and dtypes are compared, and a model's own load_state_dict has to take the state.

    \b
    statex verify out.pth --target mypkg.models:MyModel
    statex verify out.safetensors --like reference.safetensors
    """
    target = requests.target(aim)
    if target is None:
        raise typer.BadParameter("name what to verify against: --target MODULE:CALLABLE or --like FILE")
    policy = requests.warnings(saying.warnings)
    with redirect_stdout(sys.stderr), Session(Request(InputSpec(path, root), target=target)) as session:
        warnings = judged(session.before, policy)
        found = session.whole.verify()
    if saying.json:
        said = [to_json(one) for one in warnings]
        print_json({"ok": True, "target": found.target, "keys": found.agreeing, "warnings": said})
        return
    print_diagnostics(warnings, concise=saying.concise)
    if not saying.quiet:
        typer.echo(f"{escape(path.name)} fits {escape(found.target)}: {found.agreement}")
