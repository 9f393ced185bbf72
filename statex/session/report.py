"""The report of a run: its actions, inputs and results, with which the next run compares itself."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from statex.diagnostics.render import json_text, to_json
from statex.dsl.plan.around import around_data
from statex.dsl.plan.data import account_data, step_data
from statex.dsl.plan.followed import follow_data
from statex.dsl.plan.plan import Plan
from statex.session.digests import FilePrint
from statex.session.identity import described, versions
from statex.session.request import Request

if TYPE_CHECKING:
    from statex.session.conversion import Written

VERSION: Literal[1] = 1
_LARGEST = 256 << 20
_RENAMES = 2 * 10**9
"""Nanoseconds that outputs may take to get their names after a report is made, and still are taken for untouched."""


@dataclass(frozen=True)
class Listed:
    """Files of one checkpoint, by their paths as the report has them, and what each was like (`None`: nobody looked).

    `entry` is the file that a folder was read through; it is empty for an output.
    """

    path: str
    files: Mapping[str, FilePrint | None]
    entry: str = ""


@dataclass(frozen=True)
class LastRun:
    """What a report says of the run that wrote it, as far as the next one compares itself with it.

    `made_at` is when the report was made, in nanoseconds since 1970; `seal` is the digest of all the rest.
    """

    statex_report: Literal[1]
    fingerprint: str
    inputs: Mapping[str, Sequence[Listed]]
    further: Listed
    copied: Mapping[str, Sequence[str]]
    included: Mapping[str, str]
    outputs: Mapping[str, Listed]
    made_at: int
    seal: str = ""

    @property
    def proper_seal(self) -> str:
        """The seal that this has if nobody has changed it."""
        text = json.dumps(asdict(replace(self, seal="")), sort_keys=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def make_report(request: Request, plan: Plan, written: Sequence[Written], files: LastRun) -> bytes:
    """Return the report of a run whose outputs are about to get their names, as JSON."""
    files = replace(files, made_at=time.time_ns())
    compared = asdict(replace(files, seal=files.proper_seal))
    made = compared.pop("outputs")
    said = {
        "statex_report": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        **compared,
        "request": described(request),
        "outputs": {
            one.label: {
                **made[one.label],
                "format": one.format,
                "keys": one.keys,
                "bytes": one.nbytes,
                "verified": one.verified,
                "updated": [asdict(change) for change in one.updated],
            }
            for one in written
        }
        | {label: one for label, one in made.items() if label not in {output.label for output in written}},
        "parameters": dict(plan.parameters),
        "cost": asdict(plan.cost) if plan.cost is not None else None,
        "warnings": [to_json(warning) for warning in plan.warnings],
        "steps": [step_data(step) for step in plan.steps],
        "totals": asdict(plan.totals),
        "account": account_data(plan),
        "around": around_data(plan),
        "followed": [follow_data(one) for one in plan.followed],
    }
    text = json_text(said)
    if "\\ud" in text:
        text = json_text(_paired(said))
    return text.encode("ascii") + b"\n"


def _paired(value: Any) -> Any:
    """Return plain data with half surrogates, which readers of JSON refuse, written out as `\\udc80`."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_paired(name): _paired(one) for name, one in value.items()}
    return [_paired(one) for one in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class _Head:
    """What tells a report from other files."""

    statex_report: int


def read_report(path: Path) -> LastRun | None:
    """Return what the last run said; `None` if there is none, or somebody has changed it.

    What is not compared is not kept in memory.
    """
    found = _decoded(path, LastRun)
    return found if isinstance(found, LastRun) and found.seal == found.proper_seal else None


def is_report(path: Path) -> bool:
    """Say whether a file is a report, of whichever version of statex, perhaps a changed one."""
    return _decoded(path, _Head) is not None


def _decoded(path: Path, kind: type) -> object:
    from msgspec import MsgspecError
    from msgspec.json import decode

    try:
        found = os.stat(path)
        if found.st_size > _LARGEST or not stat.S_ISREG(found.st_mode):
            return None
        return decode(path.read_bytes(), type=kind)
    except (OSError, ValueError, MsgspecError, RecursionError):
        return None


def outputs_named(path: Path, last: LastRun) -> int:
    """Return the time, in nanoseconds since 1970, from which on changes of an output are not the run's own.

    The report got its name after the outputs; its own time may have been changed since, as by `touch`.
    """
    return min(os.stat(path).st_ctime_ns, last.made_at + _RENAMES)
