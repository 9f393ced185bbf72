"""Reads a torch file's pickle by Python's own unpickler, every class replaced by one that notes what is done to it."""

from __future__ import annotations

import _codecs
import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

READ: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _codecs.encode,
    ("builtins", "bytearray"): bytearray,
    ("builtins", "set"): set,
    ("builtins", "complex"): complex,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "getattr"): lambda cls, name: type(f"{cls.__name__}.{name}", (Symbol,), {}),
}
"""Ways to write plain values, which differ between protocols, and to name a class in a class."""


class Symbol:
    """An object of whatever class; `log` is all that was done to it."""

    log: list[Any]

    def __new__(cls, *arguments: Any, **keywords: Any) -> Symbol:
        made = object.__new__(cls)
        made.log = [("new", arguments, keywords)]
        return made

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def __repr__(self) -> str:
        return type(self).__name__

    def __setstate__(self, state: Any) -> None:
        self.log.append(("state", state))

    def __call__(self, *arguments: Any, **keywords: Any) -> Symbol:
        made = Symbol()
        made.log = [("called", self, arguments, keywords)]
        return made

    def append(self, item: Any) -> None:
        self.log.append(("item", item))

    def extend(self, items: Any) -> None:
        self.log.extend(("item", item) for item in items)

    def __setitem__(self, key: Any, item: Any) -> None:
        self.log.append(("set", key, item))

    def add(self, item: Any) -> None:
        self.log.append(("add", item))


class Reader(pickle._Unpickler):  # type: ignore[name-defined]
    def __init__(self, data: bytes, storages: dict[str, bytes]) -> None:
        super().__init__(io.BytesIO(data))
        self.storages = storages
        self.classes: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        if self.proto < 3:
            import _compat_pickle as compat

            module, name = compat.NAME_MAPPING.get((module, name), (compat.IMPORT_MAPPING.get(module, module), name))
        module = module.replace("__builtin__", "builtins")  # which only protocols before 3 may say, and is read in all
        if (module, name) in READ:
            return READ[module, name]
        assert "." not in name or self.proto >= 4
        full = f"{module}.{name}"
        return self.classes.setdefault(full, type(full, (Symbol,), {}))

    def persistent_load(self, id: Any) -> Any:
        kind, cls, key, location, count = id
        return ("storage", kind, cls, self.storages[key], location, count)


def symbols(path: Path, *, tensors: bool = True) -> Any:
    """Return the whole content of a file in a form that can be compared, storages as their bytes.

    Without `tensors`, what torch's own functions make is not looked into.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    storages = {name.removeprefix("data/"): data for name, data in members.items() if name.startswith("data/")}
    return plain(Reader(members["data.pkl"], storages).load(), tensors)


def plain(tree: Any, tensors: bool = True) -> list[Any]:
    """Return nested data as a flat list of what is met on the way; objects that are met again are numbers."""
    found: list[Any] = []
    seen: dict[int, int] = {}
    kept: list[Any] = []
    pending = [tree]
    while pending:
        value = pending.pop()
        if isinstance(value, type):
            found.append(value.__name__)
            continue
        if not isinstance(value, dict | list | tuple | set | frozenset | Symbol):
            found.append((type(value).__name__, repr(value)))
            continue
        if not isinstance(value, tuple):
            if id(value) in seen:
                found.append(("again", seen[id(value)]))
                continue
            seen[id(value)] = len(seen)
            kept.append(value)
        if isinstance(value, Symbol):
            own = type(value).__name__.startswith("torch.")
            inner: list[Any] = list(value.log) if tensors or not own else []
        elif isinstance(value, dict):
            inner = [part for item in value.items() for part in item]
            inner += [vars(value)] if isinstance(value, collections.OrderedDict) and vars(value) else []
        else:
            inner = list(value)
        found.append((type(value).__name__, len(inner)))
        pending.extend(reversed(sorted(inner, key=repr) if isinstance(value, set | frozenset) else inner))
    return found
