"""Parameter files, such as a model's config.json: a mapping of names to values, in JSON or YAML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from statex.core.text_file import Unreadable, read_text_file
from statex.diagnostics import fail
from statex.diagnostics.codes import names as codes

_LARGEST = 64 << 20
_VALUES = 1_000_000


def read_document(path: Path, *, special: bool = True) -> Any:
    """Return what a file holds: YAML (by the core schema of YAML 1.2) if its name ends so, else JSON.

    Raises:
        StatexError: SX223, which shows nothing of the file but names that come twice.
    """
    try:
        text = read_text_file(path, _LARGEST, special=special)
    except Unreadable as error:
        _refuse(path, str(error))
    return _yaml(text, path) if path.suffix in (".yaml", ".yml") else _json(text, path)


def read_params(path: Path, *, special: bool = True) -> Mapping[str, Any]:
    """Return the names and values of a file: YAML (by the core schema of YAML 1.2) if its name ends so, else JSON.

    What readers take silently is refused: a name that comes twice in one mapping and, in YAML, aliases, anchors,
    merge keys and tags. If `special` is false, as for a file that a recipe names, a pipe or a device is refused.

    Raises:
        StatexError: SX223, which shows nothing of the file but names that come twice.
    """
    found = read_document(path, special=special)
    if not isinstance(found, dict):
        _refuse(path, "is not a mapping of names to values")
    return found


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, path))
    except ValueError as error:
        _refuse(path, f"is not JSON: {error}")
    except RecursionError:
        _refuse(path, "is nested too deeply")


def _unique(pairs: Iterable[tuple[str, Any]], path: Path) -> dict[str, Any]:
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) != len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        _refuse(path, f"cannot be read: the key `{name}` is given twice")
    return found


def _yaml(text: str, path: Path) -> Any:
    from statex.core.source import Source
    from statex.core.yaml_text import BadYaml, Limits, parse_yaml, plain

    try:
        return plain(parse_yaml(text, Limits(_LARGEST, _VALUES, written_keys=True)))
    except BadYaml as error:
        line, column = Source(str(path), text).position(error.start)
        _refuse(path, f"cannot be read: line {line}, column {column}: {error.what}")


def _refuse(path: Path, why: str) -> NoReturn:
    fail(codes.PARAMS_UNREADABLE, f"`{path}` {why}")
