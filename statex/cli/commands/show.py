"""`statex show`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from statex.cli import completion, options, progress
from statex.cli.groups import grouped
from statex.cli.listing import SORTS, Listing, beside, dtypes, further, totals, versions
from statex.cli.output import columns, escape, print_diagnostics, print_json, room
from statex.core.header import Header, OpaqueInfo, TensorInfo
from statex.core.paths import as_option
from statex.core.progress import READING, Phases
from statex.core.source import Source
from statex.diagnostics.folding import natural
from statex.diagnostics.render import to_json

if TYPE_CHECKING:
    from statex.diagnostics import Diagnostic
    from statex.execute.statistics import Statistics
    from statex.session.overview import Overview
    from statex.session.request import TargetSpec


@grouped
def show(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The checkpoint.")],
    pattern: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATTERN…]",
            help="Show only the keys that these patterns match.",
            autocompletion=completion.in_pattern,
        ),
    ] = None,
    *,
    every: options.Every = False,
    depth: Annotated[str | None, typer.Option("--depth", metavar="N", help="Sum up the keys below N segments.")] = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="|".join(SORTS), help="The order of the rows; by default that of the file.")
    ] = SORTS[0],
    stats: Annotated[
        bool,
        typer.Option(
            "--stats", help="Read all values: show min, max, mean, std, and the number of NaNs and infinities."
        ),
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", metavar="MODULE:CALLABLE", help="A model that tells parameters from buffers. Its code runs."
        ),
    ] = None,
    target_arg: options.TargetArguments = None,
    root: options.Root = None,
    events: options.ProgressEvents = None,
    saying: options.Saying,
) -> None:
    """Show the keys, dtypes, shapes and sizes of a checkpoint.

    Keys that differ only in numbers are one line, with their total size. If a file holds several states, all are shown,
    each with its root. The values around them are shown as well, and keys that share a tensor.

    \b
    statex show model.safetensors
    statex show model.pth 'layers.0.**' --stats
    statex show lightning.ckpt --root state_dict --all
    """
    from statex.cli import requests
    from statex.session.overview import overview
    from statex.session.settling import settle, telling
    from statex.session.warnings import judged

    policy = requests.warnings(saying.warnings)
    aim = requests.target(options.Aim(target, target_arg))
    listing = Listing(not every, _depth(depth), _sort(sort))
    before = settle([path])
    warnings = judged(before, policy)
    with telling(before):
        found = _restricted(overview(path, requests.root(root)), pattern or ())
        known = _statistics(path, found, saying, events) if stats else {}
    listing = replace(listing, roles=_roles(aim))
    if saying.json:
        print_json(_as_json(found, listing, known) | {"warnings": [to_json(one) for one in warnings]})
        return
    print_diagnostics((*warnings, *_remarked(found, policy)), concise=saying.concise)
    for line in () if saying.quiet else _lines(found, listing, known):
        typer.echo(line)


def _remarked(found: Overview, policy: Mapping[str, str]) -> Sequence[Diagnostic]:
    """Return warnings of states that were read out of whole modules; what makes them is imported for these alone."""
    headers = [header for header in found.states.values() if header.remarks]
    if not headers:
        return ()
    from statex.session.carried import module_warnings
    from statex.session.warnings import judged

    return judged(module_warnings(headers), policy)


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
    from statex.dsl.parts import Outside
    from statex.session.selection import selected

    keys = dict.fromkeys(key for header in found.states.values() for key in header.entries)
    chosen = selected(
        keys, [Source("<pattern>", text) for text in patterns], Outside(), f"of `{found.label}`", "`show`"
    )
    states = {
        root: replace(header, entries={key: info for key, info in header.entries.items() if key in chosen})
        for root, header in found.states.items()
    }
    return replace(found, states={root: header for root, header in states.items() if header.entries})


Known = Mapping[str, Mapping[str, "Statistics"]]
"""Statistics by the root of a state and the keys in it."""


def _statistics(path: Path, found: Overview, saying: options.Saying, events: str | None) -> Known:
    from statex.execute.statistics import statistics
    from statex.session.bare import Bare

    known: dict[str, dict[str, Statistics]] = {}
    wanted = [info for header in found.states.values() for info in header.entries.values()]
    total = sum(info.type.nbytes for info in wanted if isinstance(info, TensorInfo))
    with progress.shown(saying, events) as tell:
        added = Phases(tell).begin(READING, total)
        for root, header in found.states.items():
            with Bare(path, found.roots[root]) as state:
                tensors = state.tensors()
                of_state = known[root] = {}
                for key in header.entries:
                    if key in tensors:
                        one = statistics(tensors[key], added)
                        of_state |= {key: one} if one is not None else {}
    return known


def _lines(found: Overview, listing: Listing, known: Known) -> Iterator[str]:
    width = room()
    for root, header in found.states.items():
        one = replace(listing, statistics=known[root]) if known else listing
        table = one.table(header.entries, width)
        yield from columns([tuple(escape(cell) for cell in row) for row in table], room=width)
        yield from versions(header, fold=listing.fold)
        if found.is_unclear:
            yield f"{totals(header.entries)}: {escape(found.label)}, --root {escape(as_option(root))}"
    yield from beside(found)
    yield from further(found)
    if not found.is_unclear:
        yield from (f"{totals(header.entries)}: {escape(found.label)}" for header in found.states.values())


def _roles(aim: TargetSpec | None) -> dict[str, str]:
    if aim is None:
        return {}
    from statex.session.targets import resolve

    with redirect_stdout(sys.stderr):
        target = resolve(aim)
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
    around["metadata"] = dict(found.metadata_texts)
    return {"ok": True} | one | {"further": list(found.further)} | around


def _state_json(header: Header, listing: Listing, known: Mapping[str, Statistics] | None) -> dict[str, Any]:
    keys = sorted(header.entries, key=natural) if listing.sort == "name" else list(header.entries)
    entries = {key: _entry_json(key, header.entries[key], listing.roles) for key in keys}
    if listing.sort == "size":
        entries = dict(sorted(entries.items(), key=lambda item: -item[1].get("bytes", 0)))
    for key, one in (known or {}).items():
        entries[key]["statistics"] = _statistics_json(one)
    tensors = [info for info in header.entries.values() if isinstance(info, TensorInfo)]
    kinds = {name: {"tensors": count, "bytes": nbytes} for name, (count, nbytes) in dtypes(tensors).items()}
    from statex.checkpoint.formats.stamps import readable

    return {"entries": entries, "dtypes": kinds, "versions": readable(header.metadata)}


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
