"""Names as Python 2 had them: pickles of protocols before 3 use them, and Python 3 reads them as its own."""

from __future__ import annotations

from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING, REVERSE_IMPORT_MAPPING, REVERSE_NAME_MAPPING

Name = tuple[str, str]
"""A module, and the name in it."""


def from_python2(name: Name) -> Name:
    """Return what Python 3 looks for where an old protocol has a name."""
    return NAME_MAPPING.get(name, (IMPORT_MAPPING.get(name[0], name[0]), name[1]))


def to_python2(name: Name) -> Name:
    """Return what Python 3 writes for a name in an old protocol."""
    return REVERSE_NAME_MAPPING.get(name, (REVERSE_IMPORT_MAPPING.get(name[0], name[0]), name[1]))


def needs_protocol_4(name: Name) -> bool:
    """Say whether an old protocol cannot say a name: it has dots of its own, or is one that only Python 2 had."""
    return "." in name[1] or from_python2(to_python2(name)) != name
