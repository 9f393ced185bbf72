"""The report of a run: what it did, to what, and what everything was like; the next run compares itself with it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.diagnostics.render import json_text, to_json
from statex.dsl.plan import Plan
from statex.dsl.plan_data import account_data, step_data
from statex.session.digests import FilePrint
from statex.session.identity import described, fingerprint, versions
from statex.session.request import Request

if TYPE_CHECKING:
    from statex.session.conversion import Written

VERSION = 1
_LARGEST = 1 << 30


@dataclass(frozen=True)
class Listed:
    """Files of one checkpoint, by their paths as the report has them, and what each was like.

    `entry` is the file that a folder was read through; it is empty for an output.
    """

    path: str
    files: Mapping[str, FilePrint]
    entry: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        found: dict[str, Any] = {"path": self.path, "files": {name: one.to_json() for name, one in self.files.items()}}
        return found | {"entry": self.entry} if self.entry else found

    @classmethod
    def from_json(cls, found: object) -> Listed | None:
        """Return it from plain data; `None` if that is something else."""
        if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
            return None
        files = {str(name): FilePrint.from_json(one) for name, one in found["files"].items()}
        known = {name: one for name, one in files.items() if one is not None}
        if len(known) != len(files):
            return None
        return cls(str(found.get("path", "")), known, str(found.get("entry", "")))


@dataclass(frozen=True)
class LastRun:
    """What a report says of the run that wrote it; `written` is when the report got its name."""

    fingerprint: str
    inputs: Sequence[Listed]
    further: Listed
    copied: Mapping[str, Sequence[str]]
    outputs: Mapping[str, Listed]
    included: Mapping[str, str]
    written: int


def make_report(
    request: Request,
    plan: Plan,
    written: Sequence[Written],
    *,
    inputs: Mapping[str, Sequence[Listed]],
    further: Listed,
    copied: Mapping[str, Sequence[str]],
    outputs: Mapping[str, Listed],
    included: Mapping[str, str],
) -> bytes:
    """Return the report of a run whose outputs are about to get their names, as JSON."""
    said = {
        "statex_report": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "fingerprint": fingerprint(request),
        "request": described(request),
        "inputs": {name: [one.to_json() for one in members] for name, members in inputs.items()},
        "further": further.to_json(),
        "copied": {name: list(files) for name, files in copied.items()},
        "included": dict(included),
        "outputs": {
            one.label: {
                **outputs[one.label].to_json(),
                "format": one.format,
                "keys": one.keys,
                "bytes": one.nbytes,
                "verified": one.verified,
            }
            for one in written
        },
        "parameters": dict(plan.parameters),
        "cost": asdict(plan.cost) if plan.cost is not None else None,
        "warnings": [to_json(warning) for warning in plan.warnings],
        "steps": [step_data(step) for step in plan.steps],
        "totals": asdict(plan.totals),
        "account": account_data(plan),
    }
    return json_text(said).encode("ascii") + b"\n"


def read_report(path: Path) -> LastRun | None:
    """Return what the last run said; `None` if there is no report, or what is there is none."""
    try:
        found = os.stat(path)
        if found.st_size > _LARGEST or not path.is_file():
            return None
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return _last_run(content, found.st_ctime_ns)


def _last_run(content: object, written: int) -> LastRun | None:
    if not isinstance(content, dict) or content.get("statex_report") != VERSION:
        return None
    parts = [content.get(name) for name in ("inputs", "outputs", "copied", "included")]
    if not all(isinstance(part, dict) for part in parts):
        return None
    inputs, outputs, copied, included = parts
    assert isinstance(inputs, dict)
    assert isinstance(outputs, dict)
    members = [one for given in inputs.values() for one in (given if isinstance(given, list) else [None])]
    listed = [Listed.from_json(one) for one in members]
    made = {str(name): Listed.from_json(one) for name, one in outputs.items()}
    further = Listed.from_json(content.get("further"))
    known, all_made = [one for one in listed if one], {name: one for name, one in made.items() if one}
    if further is None or len(known) != len(listed) or len(all_made) != len(made):
        return None
    return LastRun(
        str(content.get("fingerprint")),
        known,
        further,
        copied,  # type: ignore[arg-type]
        all_made,
        included,  # type: ignore[arg-type]
        written,
    )
