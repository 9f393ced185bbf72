"""Objects of classes and functions that statex does not know: carried along, never imported or called."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Literal, NoReturn

How = Literal["name", "call", "new", "new with keywords", "instance"]
"""How Python would make it: a class or function itself, a call, `cls.__new__`, that with keywords, an old instance."""
Deed = tuple[str, list[Any]]
"""What happens to an object once it is made, and with what: `append`, `set` (keys and values in turn), `add`, `state`,
or `call` for a call that is made with it and whose result is thrown away."""

_MADE_BY = {
    "copyreg._reconstructor": 0, "copyreg.__newobj__": 0, "copyreg.__newobj_ex__": 0,
    "torch._utils._rebuild_wrapper_subclass": 0, "torch._utils._rebuild_parameter": 0,
    "torch._utils._rebuild_parameter_with_state": 0, "torch._tensor._rebuild_from_type_v2": 1,
    "numpy.core.multiarray._reconstruct": 0, "numpy._core.multiarray._reconstruct": 0,
}  # fmt: skip
"""Functions that make objects of any class, and the place of that among their arguments."""
_NUMPY_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_SCALAR = "numpy scalar"
_FORMS = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H",
    "u1": "B", "b1": "?",
}  # fmt: skip
"""What `struct` calls the dtypes of numpy."""
_FAR = 8
"""How many objects deep a name is looked for."""


def kind_of(value: object) -> str:
    """Return what lists call a value that is not a tensor: its class, or what it stands for."""
    kind = getattr(value, "kind", None)
    return kind if isinstance(kind, str) else type(value).__name__


class Foreign:
    """An object of a checkpoint that only Python code of its author could make; it stands for itself and is inert.

    `name` says of which class it is, or which function makes it. It can be written to a torch file as it was read, and
    has no part in anything else: it cannot be pickled, and nothing of it is ever imported or called.
    """

    __slots__ = ("arguments", "deeds", "function", "how", "keywords")

    def __init__(self, how: How, function: Any, arguments: Any = (), keywords: Any = None) -> None:
        self.how = how
        self.function = function
        self.arguments = arguments
        self.keywords = keywords
        self.deeds: list[Deed] = []

    @property
    def name(self) -> str:
        """The qualified name of the class, or of the function."""
        return _name(self, _FAR)

    @property
    def number(self) -> int | float | None:
        """The number that a scalar of numpy is; `None` for anything else."""
        given = self.arguments if isinstance(self.arguments, tuple) else ()
        if self.name != _SCALAR or len(given) != 2 or not isinstance(given[1], bytes):
            return None
        dtype, data = given
        code = dtype.arguments[0] if isinstance(dtype, Foreign) and dtype.arguments else None
        order = dtype.state[1] if isinstance(dtype, Foreign) and isinstance(dtype.state, tuple) else None
        form = _FORMS.get(code) if isinstance(code, str) else None
        if form is None or order not in ("<", ">", "|") or struct.calcsize(f"<{form}") != len(data):
            return None
        (found,) = struct.unpack(f"{order.replace('|', '<')}{form}", data)
        return found  # type: ignore[no-any-return]

    @property
    def kind(self) -> str:
        """How lists call it."""
        return f"<{self.name}>"

    @property
    def state(self) -> Any:
        """What its state is set to, the thing itself; `None` where that does not happen once."""
        states = [given[0] for deed, given in self.deeds if deed == "state"]
        return states[0] if len(states) == 1 else None

    @property
    def fields(self) -> dict[str, Any]:
        """The attributes that it gets, as far as these are a plain dict by name."""
        state = self.state
        return dict(state) if type(state) is dict and all(type(name) is str for name in state) else {}

    def parts(self) -> Iterator[Any]:
        """Yield all that it is made of, in the order in which that is needed."""
        yield self.function
        yield self.arguments
        if self.keywords is not None:
            yield self.keywords
        for _, given in self.deeds:
            yield from given

    def __repr__(self) -> str:
        return f"<statex.Foreign {self.name}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"this stands for a `{self.name}` of a checkpoint, which was not loaded: it cannot be pickled; "
            "statex.convert keeps such objects in torch files"
        )

    def __copy__(self) -> Foreign:
        return self

    def __deepcopy__(self, memo: object) -> Foreign:
        return self


def _name(value: Any, far: int) -> str:
    """Return what something is called that is called or made."""
    if not isinstance(value, Foreign):
        return str(value)
    if value.how == "name" or not far:
        return str(value.function) if not isinstance(value.function, Foreign) else "?"
    name = _name(value.function, far - 1)
    arguments = value.arguments if isinstance(value.arguments, tuple) else ()
    if name in _NUMPY_SCALARS:
        return _SCALAR
    if name == "builtins.getattr" and len(arguments) == 2 and isinstance(arguments[1], str):
        return f"{_named(arguments[0], far - 1)}.{arguments[1]}"
    place = _MADE_BY.get(name)
    return _named(arguments[place], far - 1) if place is not None and place < len(arguments) else name


def _named(value: Any, far: int) -> str:
    return _name(value, far) if isinstance(value, Foreign) or hasattr(value, "module") else type(value).__name__
