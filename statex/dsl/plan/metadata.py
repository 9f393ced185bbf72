"""`_metadata`: the notes of `state_dict()` about each module follow the module when its keys are renamed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from statex.core.header import STAMP as STAMP

Metadata = Mapping[str, Mapping[str, object]]


def _module(key: str) -> str:
    return key.rpartition(".")[0]


def _name(module: str) -> str:
    return module.rpartition(".")[2]


def copied(metadata: Metadata) -> Metadata:
    """Return a `_metadata` of its own: `load_state_dict(assign=True)` notes its `assign` in what it is given."""
    return OrderedDict((path, dict(noted) if isinstance(noted, dict) else noted) for path, noted in metadata.items())


def below(metadata: Metadata, prefix: str) -> Metadata:
    """Return what is noted of the modules at and below a prefix (which ends with its dot), by their paths there."""
    inner = {path[len(prefix) :]: noted for path, noted in metadata.items() if path.startswith(prefix)}
    return {"": metadata.get(prefix[:-1], {}), **inner}


def exchanged(metadata: Metadata, prefix: str, own: Metadata) -> Metadata:
    """Return a `_metadata` with what is noted of the modules at and below a prefix exchanged."""
    kept = {path: noted for path, noted in metadata.items() if not f"{path}.".startswith(prefix)}
    return OrderedDict(kept | {f"{prefix}{path}".removesuffix("."): noted for path, noted in own.items()})


def follow(metadata: Metadata, before: Iterable[str], module_sources: Iterable[tuple[str, str]]) -> Metadata:
    """Return the `_metadata` of a result.

    `before` are the keys of the input, `module_sources` pairs each key of the result with the key of the input its
    module comes from. A module that holds keys goes where its keys went; one without keys of its own (a container, an
    activation) goes with the modules below or around it; a module whose keys are all gone is left out. What keeps a
    key of its own stays what it was, whatever comes into it. The root stays the root. Where the whole state has moved
    below one module, that is what the root was, and carries its stamp; where all of it has come from below one
    module, the root is what that was.
    """
    module_sources = list(module_sources)
    moves = _module_moves(module_sources)
    if all(old in news and len(news) == 1 for old, news in moves.items()) and _same_modules(before, moves):
        return OrderedDict(metadata)
    moves = _with_containers(moves)
    gone = _with_parents(_module(key) for key in before) - set(moves)
    outer, inner = _new_root(module_sources), _new_root((source, key) for key, source in module_sources)
    result: dict[str, Mapping[str, object]] = {}
    root = _of_root(metadata, outer, inner)
    if root is not None:
        result[""] = root
    for path, noted in metadata.items():
        if path == "":
            if outer:
                result[outer] = noted
        elif path in moves:
            for new in moves[path]:
                if new == path or new not in moves.get(new, ()):
                    result.setdefault(new, noted)
        elif path not in gone:
            _place_beside(path, noted, moves, gone, result)
    return OrderedDict(result)


def _of_root(metadata: Metadata, outer: str | None, inner: str | None) -> Mapping[str, object] | None:
    """Return what is noted of the root of a result, if anything; `outer` and `inner` are where a root went and was."""
    noted = metadata.get("")
    if inner and inner in metadata:
        return metadata[inner]
    return unstamped(noted) or None if noted and (outer or inner) else noted


def unstamped(noted: Mapping[str, object]) -> Mapping[str, object]:
    """Return what is noted of a module without the layout of its state."""
    return {name: value for name, value in noted.items() if name != STAMP} if STAMP in noted else noted


def _module_moves(module_sources: Iterable[tuple[str, str]]) -> dict[str, dict[str, None]]:
    moves: dict[str, dict[str, None]] = {}
    for key, source in module_sources:
        moves.setdefault(_module(source), {})[_module(key)] = None
    return moves


def _new_root(module_sources: Iterable[tuple[str, str]]) -> str | None:
    """Return the module below which every key stands as it stood before, if there is one."""
    prefixes = {key[: -len(source) - 1] if key.endswith(f".{source}") else None for key, source in module_sources}
    return prefixes.pop() if len(prefixes) == 1 else None


def _same_modules(before: Iterable[str], moves: Mapping[str, object]) -> bool:
    return all(_module(key) in moves for key in before)


def _with_containers(moves: dict[str, dict[str, None]]) -> dict[str, dict[str, None]]:
    """Add the modules around those that moved: `a.b -> x.b` says that `a` became `x`.

    `a.b.c -> a.d` says nothing of `a.b`: it is not what `a` was.
    """
    result = {old: dict(news) for old, news in moves.items()}
    taken = {new for news in moves.values() for new in news}
    for old, news in moves.items():
        for new in news:
            outer, inner = _module(old), _module(new)
            if outer.startswith(f"{inner}.") and _name(old) != _name(new):
                continue
            while outer and inner:
                if outer not in moves and inner not in taken:
                    result.setdefault(outer, {}).setdefault(inner)
                outer, inner = _module(outer), _module(inner)
    return result


def _with_parents(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        while path and path not in found:
            found.add(path)
            path = _module(path)
    return found


def _place_beside(
    path: str,
    noted: Mapping[str, object],
    moves: Mapping[str, Mapping[str, None]],
    gone: set[str],
    result: dict[str, Mapping[str, object]],
) -> None:
    """Put a module that has no keys below the nearest module around it."""
    around = _module(path)
    while around and around not in moves:
        if around in gone:
            return
        around = _module(around)
    if not around:
        result.setdefault(path, noted)
        return
    for new in moves[around]:
        rest = path[len(around) :]
        result.setdefault(f"{new}{rest}" if new else rest[1:], noted)
