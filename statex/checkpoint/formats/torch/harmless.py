"""Decides which foreign objects are harmless: loading them creates values of Python's library or numpy, nothing else.

An object is harmless where its class is in the table, and so is all that it is made of. Classes that look up others
by name, and whatever calls a function it is given, are not in it; nor are enums, which are their author's code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from statex.checkpoint.blobs.walks import parts
from statex.checkpoint.objects import FUNCTIONS
from statex.core.foreign import Foreign

_MADE = {
    "argparse": ("Namespace",),
    "types": ("SimpleNamespace",),
    "datetime": ("date", "time", "datetime", "timedelta", "timezone"),
    "pathlib": ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath"),
    "pathlib._local": ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath"),
    "collections": ("deque", "defaultdict"),
    "builtins": ("frozenset", "slice", "range"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "_io": ("BytesIO",),
    "numpy": ("ndarray", "dtype"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy.core.numeric": ("_frombuffer",),
    "numpy._core.numeric": ("_frombuffer",),
}
"""What may be made: the classes, and the functions that make their objects."""
_TYPES = ("list", "dict", "set", "tuple", "int", "float", "str", "bool", "bytes", "complex")
HARMLESS = frozenset(f"{module}.{name}" for module, names in _MADE.items() for name in names)
_NAMED = HARMLESS.union(f"builtins.{name}" for name in _TYPES)
"""What may stand for itself, such as what a defaultdict makes of a missing key."""
_SIMPLE = re.compile(r"[biufcSUV]\d*|b1|\?")
_OBJECTS = re.compile(r"O\d*")
"""Codes of numpy's dtypes: plain ones, and that of Python objects, which then stand in a list of their own."""
_FLAGS = {"O": 63, "U": 8}
"""What numpy notes of dtypes, by the first letter of the code; nothing of others."""


def harms(value: Any) -> list[str]:
    """Return the names of what is foreign in a value and not harmless, each once."""
    return list(dict.fromkeys(one.name for one in foreign_in(value) if not _is_harmless(one)))


def foreign_in(value: Any) -> Iterator[Foreign]:
    """Yield the foreign objects in a value, itself included, in order."""
    pending, seen = [value], set()
    while pending:
        one = pending.pop()
        inner = parts(one)
        if id(one) in seen or not (inner or isinstance(one, Foreign)):
            continue
        seen.add(id(one))
        if isinstance(one, Foreign):
            yield one
        pending.extend(reversed(inner))


def _is_harmless(one: Foreign) -> bool:
    if one.how == "name":
        return str(one.function) in _NAMED
    callee = one.function
    own = isinstance(callee, Foreign) and callee.how == "name" and str(callee.function) in HARMLESS
    plain = (own or callee in FUNCTIONS) and all(deed != "call" for deed, _ in one.deeds)
    return plain and (one.name != "numpy.dtype" or _is_plain_dtype(one))


def _is_plain_dtype(one: Foreign) -> bool:
    """Say whether a dtype of numpy is one of its plain ones: the state of others can describe any memory."""
    arguments = one.arguments if isinstance(one.arguments, tuple) else ()
    code = arguments[0] if arguments and isinstance(arguments[0], str) else ""
    states = [given[0] for deed, given in one.deeds if deed == "state"]
    if not (_SIMPLE.fullmatch(code) or _OBJECTS.fullmatch(code)) or len(states) != len(one.deeds) or len(states) > 1:
        return False
    return all(_is_plain_state(state, code) for state in states)


def _is_plain_state(state: Any, code: str) -> bool:
    if not isinstance(state, tuple) or len(state) != 8:
        return False
    version, order, *fields, size, alignment, said = state
    if type(version) is not int or not isinstance(order, str) or fields != [None] * 3 or said != _FLAGS.get(code[0], 0):
        return False
    sized = code[:1] in ("S", "U", "V") and type(size) is int and type(alignment) is int
    return (size, alignment) == (-1, -1) or (sized and 0 <= size < 2**31 and 1 <= alignment <= 16)
