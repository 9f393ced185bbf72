"""The version of a state, noted next to torch's own in the `_metadata` of the module it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from statex.diagnostics import Diagnostic, StatexError, diagnostic, fail
from statex.diagnostics.codes import migrations as codes
from statex.dsl.parts import split_name
from statex.dsl.plan.metadata import STAMP, Metadata
from statex.migrating.chain import Chain
from statex.migrating.digest import SCHEME
from statex.migrating.values import plain_values


@dataclass(frozen=True)
class Stamp:
    """What is noted of a state: its layout, the digests of the steps that led to it, and the values they were given."""

    layout: int
    digests: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict)

    def is_of(self, chain: Chain) -> bool:
        """Say whether the steps are those of a chain, as far as both go."""
        return all(one == other for one, other in zip(self.digests, chain.digests, strict=False))


def stamp(chain: Chain, given: Mapping[str, Any], layout: int | None = None) -> dict[str, Any]:
    """Return what is noted of a state that has been through a chain, or has come to a layout of it.

    It is made of plain numbers, texts, lists and dicts.
    """
    reached = chain.version if layout is None else layout
    digests = list(chain.digests[:reached])
    return {"scheme": SCHEME, "version": reached, "digests": digests, "params": plain_values(chain, given)}


def noted_stamp(noted: Mapping[str, object] | None, chain: Chain, label: str) -> Stamp | None:
    """Return what is noted of a state, or `None` where no layout is.

    Raises:
        StatexError: SX808 for a state that other steps have made, SX809 for a layout or a form that is not known.
    """
    value = (noted or {}).get(STAMP)
    if value is None:
        return None
    found = _read(value)
    if found is None:
        fail(
            codes.UNKNOWN_STAMP,
            f"the version that {label} carries is in a form that this version of statex does not know",
            help="update statex, or say which layout it has: remove the version, and give `assume`",
        )
    for step, digest in zip(chain.steps, found.digests, strict=False):
        if step.digest != digest:
            fail(
                codes.ANOTHER_HISTORY,
                f"{label} has been through another step {step.number} than `{step.name}` of the chain `{chain.label}`",
                notes=["the step has been edited since, or the state belongs to another chain"],
                help=f"restore `{step.name}` as it was, and put the changes into a new step",
            )
    if found.layout > chain.version:
        fail(
            codes.UNKNOWN_STAMP,
            f"{label} has layout {found.layout}, and the chain `{chain.label}` ends with step {chain.version}",
            help="load it with the version of the package that saved it, or a later one",
        )
    return found


def carried(chain: Chain, noted: Stamp, given: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Return the values for steps that are still to come: those given now, and others as they were noted.

    Raises:
        StatexError: SX823 for a value that was another one when the state went through its steps.
    """
    now, before = plain_values(chain, given), plain_values(chain, noted.params)
    past = {name for _, names in chain.resolved(0, noted.layout).files for name in names}
    other = [full for full in now if full in before and now[full] != before[full] and split_name(full)[1] in past]
    if other:
        raise StatexError([_another(name, now[name], before[name], label) for name in other])
    return before | dict(given)


def _another(name: str, now: Any, before: Any, label: str) -> Diagnostic:
    return diagnostic(
        codes.OTHER_VALUE,
        f"`{name}` is {json.dumps(now)} now, and {label} has been through its steps with {json.dumps(before)}",
        help=f"leave it out: {json.dumps(before)} is noted in the state, and holds for further steps",
    )


def stamped_paths(metadata: Metadata | None, chain: Chain) -> list[str]:
    """Return the paths of the modules for which a layout of a chain is noted, or a later one than the chain has."""
    found = {path: _read(noted.get(STAMP)) for path, noted in (metadata or {}).items() if isinstance(noted, Mapping)}
    return [path for path, one in found.items() if one is not None and one.is_of(chain)]


def _read(value: object) -> Stamp | None:
    """Return a stamp, which may be anything, as it comes from a file; `None` where its form is not known."""
    if not isinstance(value, Mapping) or value.get("scheme") != SCHEME:
        return None
    version, digests, params = value.get("version"), value.get("digests"), value.get("params", {})
    if not isinstance(digests, list) or not all(isinstance(one, str) for one in digests):
        return None
    if type(version) is not int or version != len(digests) or not isinstance(params, Mapping):
        return None
    if not all(isinstance(name, str) and _is_plain(one) for name, one in params.items()):
        return None
    return Stamp(version, tuple(digests), dict(params))


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | bool | None)
