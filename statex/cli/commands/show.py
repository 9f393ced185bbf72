"""`statex show`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

import statex
from statex.cli import options, requests
from statex.cli.groups import grouped
from statex.cli.output import columns, escape, print_diagnostics, print_json
from statex.diagnostics.amounts import counted, show_bytes
from statex.diagnostics.render import to_json
from statex.header import Header, OpaqueInfo, TensorInfo
from statex.session.request import InputSpec, Request
from statex.session.session import settled, telling
from statex.session.targets import resolve
from statex.session.warnings import judged


@grouped
def show(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint.")],
    *,
    keys: Annotated[
        bool, typer.Option("--keys", help="List every key; without it, numbered modules are one line.")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", metavar="MODULE:CALLABLE", help="A model that tells parameters from buffers. Its code runs."
        ),
    ] = None,
    target_arg: options.TargetArguments = None,
    root: options.Root = None,
    saying: options.Saying,
) -> None:
    """Show the keys, dtypes, shapes and sizes of a checkpoint.

    The plain values around the state are shown as well, and which keys share a tensor.

    \b
    statex show model.safetensors
    statex show lightning.ckpt --root state_dict --keys
    """
    policy = requests.warnings(saying.warnings)
    aim = requests.target(options.Aim(target, target_arg))
    before = settled(Request(InputSpec(path)))
    warnings = judged(before, policy)
    with telling(before):
        header = statex.read_header(path, root=root)
    with redirect_stdout(sys.stderr):
        roles = _roles(resolve(aim))
    if saying.json:
        print_json(_as_json(header, roles) | {"warnings": [to_json(one) for one in warnings]})
        return
    print_diagnostics(warnings, concise=saying.concise)
    if not saying.quiet:
        _print(header, roles, keys=keys)


def _print(header: Header, roles: Mapping[str, str], *, keys: bool) -> None:
    rows = _rows(header, roles) if keys else _folded(_rows(header, roles))
    for line in columns([tuple(escape(cell) for cell in row) for row in rows]):
        typer.echo(line)
    for name, value in header.values.items():
        typer.echo(f"  {escape(name)} = {escape(repr(value))[:80]}")
    others = [name for name in header.around if name not in header.values]
    if others:
        typer.echo(f"  around the state: {', '.join(map(escape, others))}")
    typer.echo(_total(header))


Row = tuple[str, str, str, str]


def _rows(header: Header, roles: Mapping[str, str]) -> list[Row]:
    rows = []
    first: dict[object, str] = {}
    for key, info in header.entries.items():
        if isinstance(info, OpaqueInfo):
            rows.append((key, info.kind, "", roles.get(key, "")))
            continue
        remarks = [roles.get(key, "parameter" if info.is_parameter else "")]
        if info.identity is not None:
            if info.identity in first:
                remarks.append(f"tied to {first[info.identity]}")
            first.setdefault(info.identity, key)
        rows.append((key, str(info.type), show_bytes(info.type.nbytes), ", ".join(r for r in remarks if r)))
    return rows


_NUMBER = re.compile(r"(?<![^.])[0-9]{1,18}(?![^.])")


def _folded(rows: list[Row]) -> list[Row]:
    """Make one row of those that differ in numbers alone: `layers.{i}.weight`, with the numbers it stands for."""
    groups: dict[tuple[str, ...], list[tuple[Row, list[int]]]] = {}
    for row in rows:
        numbers = [int(n) for n in _NUMBER.findall(row[0])]
        shape = _NUMBER.sub("\0", row[0])
        groups.setdefault((shape, row[1], row[3]), []).append((row, numbers))
    result: list[Row] = []
    for (shape, kind, remark), members in groups.items():
        if len(members) == 1:
            result.append(members[0][0])
            continue
        name = shape
        for number, letter in zip(zip(*(n for _, n in members), strict=True), "ijklmnop", strict=False):
            low, high = min(number), max(number)
            name = name.replace("\0", str(low) if low == high else f"{{{letter}}}", 1)
        result.append((name, kind, members[0][0][2], ", ".join(r for r in (f"x {len(members)}", remark) if r)))
    return result


def _roles(target: Any) -> dict[str, str]:
    if target is None or target.module is None:
        return {}
    return {
        key: "parameter" if isinstance(info, TensorInfo) and info.is_parameter else "buffer"
        for key, info in target.header.entries.items()
    }


def _total(header: Header) -> str:
    tensors = [info for info in header.entries.values() if isinstance(info, TensorInfo)]
    others = len(header.entries) - len(tensors)
    size = show_bytes(sum(info.type.nbytes for info in tensors))
    more = f" and {counted(others, 'other entry', 'other entries')}" if others else ""
    return f"{counted(len(tensors), 'tensor')}{more}, {size}: {escape(header.label)}"


def _as_json(header: Header, roles: Mapping[str, str]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for key, info in header.entries.items():
        if isinstance(info, OpaqueInfo):
            entries[key] = {"kind": info.kind}
        else:
            entries[key] = {
                "dtype": info.type.dtype.name,
                "shape": list(info.type.shape),
                "bytes": info.type.nbytes,
                "parameter": info.is_parameter or roles.get(key) == "parameter",
            }
    return {"ok": True, "entries": entries, "values": dict(header.values), "around": list(header.around)}
