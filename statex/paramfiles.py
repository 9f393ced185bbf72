"""Files of parameters, such as a model's config.json: a mapping of names to values, in JSON or YAML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from statex.diagnostics import fail
from statex.diagnostics.codes import names as codes

_LARGEST = 64 << 20
_DEPTH = 50


def read_params(path: Path) -> Mapping[str, Any]:
    """Return the names and values of a file: YAML where its name ends so, else JSON.

    What readers take in silence is refused: a name that comes twice in one mapping and, in YAML, aliases and merge
    keys, with which a short text can stand for an endless one.

    Raises:
        StatexError: SX223.
    """
    is_yaml = path.suffix in (".yaml", ".yml")
    text = _text(path)
    try:
        found = _yaml(text, path) if is_yaml else json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, path))
    except ValueError as error:
        _refuse(path, f"is no {'YAML' if is_yaml else 'JSON'}: {error}")
    except RecursionError:
        _refuse(path, "is nested too deeply")
    if not isinstance(found, dict):
        _refuse(path, "holds no mapping of names to values")
    return {str(name): value for name, value in found.items()}


def _text(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size > _LARGEST:
            _refuse(path, "is too large to hold parameters")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        _refuse(path, f"is no UTF-8 text (byte {error.start})")


def _unique(pairs: Iterable[tuple[str, Any]], path: Path) -> dict[str, Any]:
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) != len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        _refuse(path, f"names `{name}` twice")
    return found


def _yaml(text: str, path: Path) -> Any:
    import yaml

    try:
        _check_events(yaml.parse(text, Loader=yaml.SafeLoader), path)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_mappings([] if root is None else [root], path)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _check_events(events: Iterable[Any], path: Path) -> None:
    """Refuse aliases and deep nesting before anything is made of the text."""
    depth = 0
    for event in events:
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if name == "AliasEvent":
            _refuse(
                path, f"has the alias `*{event.anchor}` in line {event.start_mark.line + 1}, and aliases are not read"
            )
        if depth > _DEPTH:
            _refuse(path, "is nested too deeply")


def _check_mappings(nodes: list[Any], path: Path) -> None:
    while nodes:
        node = nodes.pop()
        if node.id == "sequence":
            nodes += node.value
        if node.id == "mapping":
            names = [str(key.value) for key, _ in node.value if key.id == "scalar"]
            if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
                _refuse(path, f"has a merge key in line {node.start_mark.line + 1}, and merge keys are not read")
            _unique([(name, None) for name in names], path)
            nodes += [value for _, value in node.value]


def _refuse(path: Path, why: str) -> NoReturn:
    fail(codes.PARAMS_UNREADABLE, f"`{path}` {why}")
