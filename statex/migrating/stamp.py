"""The version of a state, noted beside torch's own in the `_metadata` of the module it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statex.diagnostics import fail
from statex.diagnostics.codes import migrations as codes
from statex.dsl.metadata import STAMP
from statex.dsl.parameters import from_python
from statex.dsl.values import Value
from statex.dtypes import DType
from statex.migrating.chain import Chain
from statex.migrating.digest import SCHEME


def stamp(chain: Chain, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is noted of a state that has been through a whole chain: plain numbers, texts, lists and dicts."""
    values = {name: _plain(from_python(value)) for name, value in sorted(given.items())}
    return {"scheme": SCHEME, "version": chain.version, "digests": list(chain.digests), "params": values}


def _plain(value: Value) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.name if isinstance(value, DType) else value


def stamped_layout(noted: Mapping[str, object] | None, chain: Chain, label: str) -> int | None:
    """Return the layout that is noted of a state, or `None` where none is.

    Raises:
        StatexError: SX808 for a state that other steps have made, SX809 for a layout or a form that is not known.
    """
    found = (noted or {}).get(STAMP)
    if found is None:
        return None
    version, digests = _read(found, label)
    if version > chain.version:
        fail(
            codes.UNKNOWN_STAMP,
            f"{label} has layout {version}, and the chain `{chain.label}` ends with step {chain.version}",
            help="load it with the version of the package that saved it, or a later one",
        )
    for step, noted_digest in zip(chain.steps, digests, strict=False):
        if step.digest != noted_digest:
            fail(
                codes.ANOTHER_HISTORY,
                f"{label} has been through another step {step.number} than `{step.name}` of the chain `{chain.label}`",
                notes=["the step has been edited since, or the state belongs to another chain"],
                help=f"restore `{step.name}` as it was, and write what shall be different into a new step",
            )
    return version


def _read(found: object, label: str) -> tuple[int, list[str]]:
    """Return the layout and the digests of a stamp, which may be anything: it comes from a file."""
    if isinstance(found, Mapping) and found.get("scheme") == SCHEME:
        version, digests = found.get("version"), found.get("digests")
        if (
            type(version) is int
            and isinstance(digests, list)
            and 0 <= version == len(digests)
            and all(isinstance(one, str) for one in digests)
        ):
            return version, digests
    fail(
        codes.UNKNOWN_STAMP,
        f"the version that {label} carries is in a form that this version of statex does not know",
        help="update statex, or say which layout it has: remove the version, and give `assume`",
    )
