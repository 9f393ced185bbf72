"""`statex show`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from statex.cli import options, progress, requests
from statex.cli.groups import grouped
from statex.cli.listing import SORTS, Listing, beside, dtypes, further, totals
from statex.cli.output import columns, escape, print_diagnostics, print_json, room
from statex.diagnostics.folding import natural
from statex.diagnostics.render import to_json
from statex.dsl.parts import Outside
from statex.execute.statistics import Statistics, statistics
from statex.header import Header, OpaqueInfo, TensorInfo
from statex.session.carried import module_warnings
from statex.session.compared import tensors_of
from statex.session.overview import Overview, overview
from statex.session.request import InputSpec, Request
from statex.session.selection import selected
from statex.session.session import Session, settled, telling
from statex.session.targets import resolve
from statex.session.warnings import judged
from statex.source import Source


@grouped
def show(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint.")],
    pattern: Annotated[
        list[str] | None, typer.Argument(metavar="[PATTERN…]", help="Show only the keys that these match.")
    ] = None,
    *,
    every: options.Every = False,
    depth: Annotated[
        str | None, typer.Option("--depth", metavar="N", help="Sum up what is below N segments of a key.")
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="|".join(SORTS), help="The order of rows; by default that of the file.")
    ] = SORTS[0],
    stats: Annotated[
        bool,
        typer.Option("--stats", help="Read all values: their min, max, mean, std, and how many are NaN and infinite."),
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

    Keys that differ in numbers alone are one line, with the size of all of them. Where a file holds several states, all
    are shown, each with its root. What stands around them is shown as well, and which keys share a tensor.

    \b
    statex show model.safetensors
    statex show model.pth 'layers.0.**' --stats
    statex show lightning.ckpt --root state_dict --all
    """
    policy = requests.warnings(saying.warnings)
    aim = requests.target(options.Aim(target, target_arg))
    listing = Listing(not every, _depth(depth), _sort(sort))
    before = settled(Request(InputSpec(path)))
    warnings = judged(before, policy)
    with telling(before):
        found = _restricted(overview(path, root), pattern or ())
        known = _statistics(path, found, saying) if stats else {}
    with redirect_stdout(sys.stderr):
        listing = replace(listing, roles=_roles(resolve(aim)))
    if saying.json:
        print_json(_as_json(found, listing, known) | {"warnings": [to_json(one) for one in warnings]})
        return
    read = judged(module_warnings(found.states.values()), policy)
    print_diagnostics((*warnings, *read), concise=saying.concise)
    for line in () if saying.quiet else _lines(found, listing, known):
        typer.echo(line)


def _depth(text: str | None) -> int | None:
    if text is not None and not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) < 10**6):
        raise typer.BadParameter(f"`--depth` takes a number from 1 on, and got `{text}`", param_hint="--depth")
    return int(text) if text is not None else None


def _sort(text: str) -> str:
    if text not in SORTS:
        raise typer.BadParameter(f"`--sort` takes {', '.join(SORTS)}, and got `{text}`", param_hint="--sort")
    return text


def _restricted(found: Overview, patterns: Sequence[str]) -> Overview:
    """Return an overview of the keys that patterns match."""
    if not patterns:
        return found
    keys = dict.fromkeys(key for header in found.states.values() for key in header.entries)
    chosen = selected(
        keys, [Source("<pattern>", text) for text in patterns], Outside(), f"of `{found.label}`", "`show`"
    )
    states = {
        root: replace(header, entries={key: info for key, info in header.entries.items() if key in chosen})
        for root, header in found.states.items()
    }
    return replace(found, states={root: header for root, header in states.items() if header.entries})


Known = Mapping[str, Mapping[str, Statistics]]
"""Statistics by the root of a state and the keys in it."""


def _statistics(path: Path, found: Overview, saying: options.Saying) -> Known:
    known: dict[str, dict[str, Statistics]] = {}
    wanted = [info for header in found.states.values() for info in header.entries.values()]
    total, done = sum(info.type.nbytes for info in wanted if isinstance(info, TensorInfo)), 0
    with progress.shown(saying) as update:
        for root, header in found.states.items():
            with Session(Request(InputSpec(path, root))) as session:
                tensors = tensors_of(session.whole)
                of_state = known[root] = {}
                for key in header.entries:
                    if key in tensors:
                        one = statistics(tensors[key])
                        of_state |= {key: one} if one is not None else {}
                        done += tensors[key].type.nbytes
                        update(done, total)
    return known


def _lines(found: Overview, listing: Listing, known: Known) -> Iterator[str]:
    several = len(found.states) > 1
    width = room()
    for root, header in found.states.items():
        one = replace(listing, statistics=known[root]) if known else listing
        table = one.table(header.entries, width)
        yield from columns([tuple(escape(cell) for cell in row) for row in table], room=width)
        if several:
            yield f"{totals(header.entries)}: {escape(found.label)}, --root {escape(root) or repr('')}"
    yield from beside(found)
    yield from further(found)
    if not several:
        yield from (f"{totals(header.entries)}: {escape(found.label)}" for header in found.states.values())


def _roles(target: Any) -> dict[str, str]:
    if target is None or target.module is None:
        return {}
    return {
        key: "parameter" if isinstance(info, TensorInfo) and info.is_parameter else "buffer"
        for key, info in target.header.entries.items()
    }


def _as_json(found: Overview, listing: Listing, known: Known) -> dict[str, Any]:
    states = {root: _state_json(header, listing, known.get(root)) for root, header in found.states.items()}
    one = {"root": next(iter(states)), **next(iter(states.values()))} if len(states) == 1 else {"states": states}
    around = {"values": dict(found.values), "around": list(found.around), "foreign": found.foreign}
    return {"ok": True} | one | {"further": list(found.further)} | around


def _state_json(header: Header, listing: Listing, known: Mapping[str, Statistics] | None) -> dict[str, Any]:
    keys = sorted(header.entries, key=natural) if listing.sort == "name" else list(header.entries)
    entries = {key: _entry_json(key, header.entries[key], listing.roles) for key in keys}
    if listing.sort == "size":
        entries = dict(sorted(entries.items(), key=lambda item: -item[1].get("bytes", 0)))
    for key, one in (known or {}).items():
        entries[key]["statistics"] = _statistics_json(one)
    tensors = [info for info in header.entries.values() if isinstance(info, TensorInfo)]
    return {"entries": entries, "dtypes": {k: {"tensors": n, "bytes": b} for k, (n, b) in dtypes(tensors).items()}}


def _entry_json(key: str, info: TensorInfo | OpaqueInfo, roles: Mapping[str, str]) -> dict[str, Any]:
    if isinstance(info, OpaqueInfo):
        return {"kind": info.kind}
    return {
        "dtype": info.type.dtype.name,
        "shape": list(info.type.shape),
        "bytes": info.type.nbytes,
        "parameter": info.is_parameter or roles.get(key) == "parameter",
    }


def _statistics_json(one: Statistics) -> dict[str, Any]:
    if not one.finite:
        return asdict(one) | {"least": None, "most": None, "mean": None, "std": None}
    return asdict(one) | {"std": one.std}
