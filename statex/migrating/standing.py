"""The position of a checkpoint in a chain of migrations: by its version, by an option, or by its header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from statex.core.header import Header
from statex.diagnostics import Diagnostic, StatexError, fail
from statex.diagnostics.codes import migrations as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.dsl.compile.embedded import inside, prefix_of
from statex.execute.verify.target import Target
from statex.migrating.chain import Chain
from statex.migrating.layouts import OF_PARAMETERS, Layouts
from statex.migrating.stamp import Stamp, carried, noted_stamp, stamped_paths
from statex.migrating.traces import Traces

NOTED, ASSUMED, RECOGNISED = "noted", "assumed", "recognised"
"""How a layout is known."""


@dataclass(frozen=True)
class Subject:
    """The state of a checkpoint that a chain is for: all of it, or what is below the module `at` a path.

    `header` is that of this state alone, `noted` what its version says. `given` are the values of parameters: those
    given now, and for others those that are noted.
    """

    chain: Chain
    at: str
    header: Header
    noted: Stamp | None
    given: Mapping[str, Any]

    @property
    def params(self) -> Mapping[str, Any]:
        """The values of parameters that are noted with the version."""
        return self.noted.params if self.noted is not None else {}


def subject(chain: Chain, whole: Header, at: str | None, given: Mapping[str, Any]) -> Subject:
    """Return the state in a checkpoint that a chain is for: at a path, or where its version is noted, or all of it.

    Raises:
        StatexError: SX824 for versions at several paths, SX825 for a path without keys, SX808 and SX809 for a version
            of another chain or form, SX823 for another value of a parameter than is noted.
    """
    path = _path(chain, whole, at)
    label = f"`{whole.label}`" if whole.label else "the state"
    header = inside(replace(whole, label=f"`{path}` in {label}" if path else label), path)
    noted = noted_stamp((header.metadata or {}).get(""), chain, header.label)
    values = carried(chain, noted, given, header.label) if noted is not None else given
    return Subject(chain, path, header, noted, values)


def _path(chain: Chain, whole: Header, at: str | None) -> str:
    if at is not None:
        path = at.rstrip(".")
        if not any(key.startswith(prefix_of(path)) for key in whole.entries):
            _nothing_there(whole, path)
        return path
    paths = stamped_paths(whole.metadata, chain)
    if len(paths) > 1:
        named = join_words([f"`{path}`" if path else "the whole state" for path in paths], limit=4)
        fail(
            codes.SEVERAL_PLACES,
            f"versions of `{chain.label}` are noted for {named}: which one is meant?",
            help=[f"--at {path or chr(39) * 2}" for path in paths[:4]],
        )
    return paths[0] if paths else ""


def _nothing_there(whole: Header, path: str) -> None:
    parts = [key.split(".") for key in whole.entries]
    modules = dict.fromkeys(".".join(one[:depth]) for one in parts for depth in range(1, len(one)))
    near = did_you_mean(path, modules)
    top = dict.fromkeys(one[0] for one in parts if len(one) > 1)
    fail(
        codes.NOTHING_THERE,
        f"no key of `{whole.label}` is below `{path}`",
        notes=[f"it has the modules {join_words([f'`{one}`' for one in top], limit=6)}"] if top else (),
        help=f"--at {near[0]}" if near else (),
    )


@dataclass(frozen=True)
class Standing:
    """The layout of a state in a chain and how it is known; `None` where it is not, and `problems` say why."""

    layout: int | None
    known: str = ""
    problems: tuple[Diagnostic, ...] = ()


def standing(
    found: Subject, *, to: int, target: Target | None = None, assume: int | None = None, option: str = "--from "
) -> Standing:
    """Return the layout of a state; `assume` is that of a state without a version, a target what layout `to` has to be.

    `option` is what messages call `assume`, with what stands before its value.

    Raises:
        StatexError: SX806 and SX821 where the layout cannot be told, SX807 where the header contradicts what is said,
            SX204 for a parameter that lacks a value without which it cannot be told.
    """
    way = f"{option}{{}}   if it is of layout {{}}"
    traces = Traces(
        found.chain, found.given, found.header, way, target.header if target is not None else None, found.at
    )
    layouts = Layouts(found.chain.up_to(to), found.given, target, found.header, way=way) if target is not None else None
    if found.noted is not None:
        return Standing(_stated(traces, layouts, found.noted.layout, "its version says"), NOTED)
    if assume is not None:
        return Standing(_stated(traces, layouts, assume, f"`{option.rstrip(' =')}` says"), ASSUMED)
    layout = layouts.recognised() if layouts is not None else None
    # Where the target fits no layout, it is the result that is compared with it in full.
    return Standing(traces.recognised() if layout is None else layout, RECOGNISED)


def _stated(traces: Traces, layouts: Layouts | None, layout: int, said: str) -> int:
    if layouts is not None and layout <= layouts.present:
        return layouts.stated(layout, said)
    return traces.stated(layout, said)


def standing_or_why(found: Subject, target: Target | None = None) -> Standing:
    """Return the layout of a state, or why it cannot be told.

    Raises:
        StatexError: SX807 where the header contradicts the version.
    """
    try:
        return standing(found, target=target, to=found.chain.version)
    except StatexError as error:
        if all(
            one.code in (codes.AMBIGUOUS_LAYOUT, codes.LAYOUT_NOT_TOLD, *OF_PARAMETERS) for one in error.diagnostics
        ):
            return Standing(None, problems=error.diagnostics)
        raise
