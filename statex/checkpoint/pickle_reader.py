"""Reads the pickles in torch's files as data: a small machine for the opcodes, in which no name is ever imported.

A name stands for itself (`objects.Global`), a call for itself (`objects.Call`) but for the few that make plain
containers and tensors, which are made here. Format: Python's `pickletools`; torch writes protocol 2.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from statex.checkpoint.objects import FUNCTIONS, NAMES, TENSOR_V2, Call, Global
from statex.checkpoint.pickled_tensors import MakeTensor, read_tensor
from statex.checkpoint.pickled_trees import DEPTH, TOO_DEEP, check_key, check_tree
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_MOST_MARKS = 4 * DEPTH
"""Marks that may be open at once: a level of nesting takes a few at most."""

_NOTHING = object()

Build = Callable[[Global, tuple[Any, ...]], Any]
"""Makes the result of a call that the file asks for."""
Persistent = Callable[[Any], Any]
"""Makes the storage that a persistent id names."""


class _AgainError(Exception):
    """Something refers to a part of a tensor that was recognised as a whole."""


class PickleReader:
    """One pickle in a buffer; `label` is how messages call the file, `names` are those that it may name.

    `tensor` makes the tensors that are recognised as a whole, where that is wanted.
    """

    def __init__(
        self,
        data: bytes,
        label: str,
        persistent: Persistent,
        build: Build,
        start: int = 0,
        names: Mapping[tuple[str, str], Global] = NAMES,
        tensor: MakeTensor | None = None,
    ) -> None:
        self.data = data
        self.label = label
        self.at = self._start = start
        self._persistent = persistent
        self._build = build
        self._names = names
        self._tensor = tensor
        self._begin()

    def _begin(self) -> None:
        self.at = self._start
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._skipped = False
        """True once the memo lacks parts of tensors that were recognised as a whole."""
        self._done = False

    def read(self) -> Any:
        """Return what the pickle holds.

        Raises:
            StatexError: SX603 for a name that is not allowed, SX604 for a broken pickle.
        """
        try:
            try:
                self._run()
            except _AgainError:
                self._tensor = None
                self._begin()
                self._run()
            result = self._stack.pop()
        except (IndexError, KeyError, struct.error, ValueError, TypeError) as error:
            self.damaged(f"at byte {self.at} ({error or type(error).__name__})")
        if self._stack or self._marks:
            self.damaged("values are left over at its end")
        check_tree(result, self.damaged)
        return result

    def _run(self) -> None:
        data, table = self.data, _TABLE
        while not self._done:
            step = table[data[self.at]]
            self.at += 1
            step(self)

    def damaged(self, why: str) -> NoReturn:
        """Raise the diagnostic of a broken pickle."""
        fail(codes.DAMAGED, f"`{self.label}` is damaged: its pickle is broken: {why}")

    # --- operands ----------------------------------------------------------------------------------------------

    def _bytes(self, count: int) -> bytes:
        start = self.at
        self.at = start + count
        if self.at > len(self.data):
            self.damaged("it ends too early")
        return self.data[start : self.at]

    def _number(self, layout: struct.Struct) -> int:
        (value,) = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return int(value)

    def _line(self) -> str:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            self.at = len(self.data)
            self.damaged("it ends too early")
        line = self.data[self.at : end]
        self.at = end + 1
        return line.decode("utf-8")

    # --- the stack ---------------------------------------------------------------------------------------------

    def _items(self) -> list[Any]:
        """Return what stands above the last mark."""
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _mark(self) -> None:
        if len(self._marks) > _MOST_MARKS:
            self.damaged(TOO_DEEP)
        self._marks.append(self._stack)
        self._stack = []

    def _append_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            self.damaged("values are appended to what is no list")
        target.extend(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict and type(target) is not OrderedDict:
            self.damaged("items are set on what is no dict")
        if len(items) % 2:
            self.damaged("a key has no value")
        for place in range(0, len(items), 2):
            key = items[place]
            if type(key) is not str:
                check_key(key, self.damaged)
            target[key] = items[place + 1]

    def _add_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not set:
            self.damaged("items are added to what is no set")
        for item in items:
            check_key(item, self.damaged)
        target.update(items)

    # --- names and calls ---------------------------------------------------------------------------------------

    def _global(self, module: str, name: str) -> None:
        found = self._names.get((module, name))
        if found is None:
            unsafe(self.label, f"{module}.{name}")
        self._stack.append(found)

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if type(arguments) is not tuple or type(function) is not Global:
            self.damaged("a call is none")
        if function not in FUNCTIONS and self._names is NAMES:
            unsafe(self.label, str(function))
        self._stack.append(self._build(function, arguments))

    def _build_state(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, Call) and target.state is None:
            target.state = state
            return
        if type(target) is not OrderedDict or type(state) is not dict or not all(k == "_metadata" for k in state):
            names = [str(k) for k in state] if isinstance(state, Mapping) else [type(state).__name__]
            fail(
                codes.UNSAFE,
                f"`{self.label}` sets attributes ({', '.join(names[:3])}) on a {type(target).__name__}: not kept",
                help="where you trust the file, save the state alone: torch.save(model.state_dict(), 'state.pth')",
            )
        metadata = state.get("_metadata")
        if not _is_metadata(metadata):
            self.damaged("`_metadata` is no dict of dicts")
        vars(target).update(state)

    def _new_object(self) -> None:
        arguments, cls = self._stack.pop(), self._stack.pop()
        if type(cls) is not Global or type(arguments) is not tuple:
            self.damaged("an object has no class")
        if cls not in FUNCTIONS and self._names is NAMES:
            unsafe(self.label, str(cls))
        self._stack.append(self._build(cls, arguments))

    def _get(self, place: int) -> None:
        value = self._memo.get(place, _NOTHING)
        if value is TENSOR_V2 and self._tensor is not None:
            read = read_tensor(self.data, self.at, self._memo, self._tensor)
            if read is not None:
                value, self.at = read
                self._skipped = True
        elif value is _NOTHING:
            if self._skipped:
                raise _AgainError
            raise KeyError(place)
        self._stack.append(value)

    def _get_far(self) -> None:
        (place,) = _U4.unpack_from(self.data, self.at)
        self.at += 4
        self._get(place)

    def _memoize(self) -> None:
        if self._skipped:
            raise _AgainError
        self._memo[len(self._memo)] = self._stack[-1]

    def _put(self) -> None:
        self._memo[self._bytes(1)[0]] = self._stack[-1]

    def _put_far(self) -> None:
        (place,) = _U4.unpack_from(self.data, self.at)
        self.at += 4
        self._memo[place] = self._stack[-1]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> None:
        self._stack.pop()

    def _frame(self) -> None:
        self._bytes(8)  # how much follows, which does not matter to who has it all

    def _stop(self) -> None:
        self._done = True

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            self.damaged("a name is no text")
        self._global(module, name)

    def _persistent_id(self) -> None:
        self._stack.append(self._persistent(self._stack.pop()))


def _is_metadata(value: Any) -> bool:
    """Say whether a value is what `Module.state_dict()` notes: a dict for each module by its path."""
    if value is None:
        return True
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, dict) for k, v in value.items())


def unsafe(label: str, name: str) -> NoReturn:
    """Raise the diagnostic of a file that names what may be code."""
    fail(
        codes.UNSAFE,
        f"`{label}` names `{name}`, which is code: it is not loaded",
        notes=["only tensors and plain containers are read from a pickle"],
        help="where you trust the file, save the state alone: torch.save(model.state_dict(), 'state.pth')",
    )


_U2, _I4, _U4, _U8, _F8 = (struct.Struct(f) for f in ("<H", "<i", "<I", "<Q", ">d"))


def _text(reader: PickleReader, count: int) -> None:
    reader._stack.append(reader._bytes(count).decode("utf-8", "surrogatepass"))


def _tuple(count: int) -> Callable[[PickleReader], None]:
    def step(reader: PickleReader) -> None:
        stack = reader._stack
        if len(stack) < count:
            raise IndexError("too few values for a tuple")
        stack[-count:] = [tuple(stack[-count:])]

    return step


def _pair(reader: PickleReader) -> list[Any]:
    value, key = reader._stack.pop(), reader._stack.pop()
    return [key, value]


def _long(reader: PickleReader) -> None:
    reader._push(int.from_bytes(reader._bytes(reader._bytes(1)[0]), "little", signed=True))


def _protocol(reader: PickleReader) -> None:
    number = reader._bytes(1)[0]
    if not 2 <= number <= 5:
        reader.damaged(f"it has the protocol {number}")


_STEPS: Mapping[bytes, Callable[[PickleReader], None]] = {
    b"h": lambda r: r._get(r._bytes(1)[0]),
    b"j": PickleReader._get_far,
    b"q": PickleReader._put,
    b"r": PickleReader._put_far,
    b"\x94": PickleReader._memoize,
    b"K": lambda r: r._push(r._bytes(1)[0]),
    b"M": lambda r: r._push(r._number(_U2)),
    b"J": lambda r: r._push(r._number(_I4)),
    b"\x8a": _long,
    b"G": lambda r: r._push(_F8.unpack(r._bytes(8))[0]),
    b"X": lambda r: _text(r, r._number(_U4)),
    b"\x8c": lambda r: _text(r, r._bytes(1)[0]),
    b"\x8d": lambda r: _text(r, r._number(_U8)),
    b"U": lambda r: r._push(r._bytes(r._bytes(1)[0]).decode("ascii")),
    b"T": lambda r: r._push(r._bytes(r._number(_U4)).decode("ascii")),
    b"C": lambda r: r._push(r._bytes(r._bytes(1)[0])),
    b"B": lambda r: r._push(r._bytes(r._number(_U4))),
    b"\x8e": lambda r: r._push(r._bytes(r._number(_U8))),
    b"N": lambda r: r._push(None),
    b"\x88": lambda r: r._push(True),
    b"\x89": lambda r: r._push(False),
    b"(": PickleReader._mark,
    b")": lambda r: r._push(()),
    b"t": lambda r: r._push(tuple(r._items())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"]": lambda r: r._push([]),
    b"}": lambda r: r._push({}),
    b"\x8f": lambda r: r._push(set()),
    b"a": lambda r: r._append_items([r._stack.pop()]),
    b"e": lambda r: r._append_items(r._items()),
    b"s": lambda r: r._set_items(_pair(r)),
    b"u": lambda r: r._set_items(r._items()),
    b"\x90": lambda r: r._add_items(r._items()),
    b"c": lambda r: r._global(r._line(), r._line()),
    b"\x93": PickleReader._stack_global,
    b"R": PickleReader._reduce,
    b"\x81": PickleReader._new_object,
    b"b": PickleReader._build_state,
    b"Q": PickleReader._persistent_id,
    b"0": PickleReader._pop,
    b"\x80": _protocol,
    b"\x95": PickleReader._frame,
    b".": PickleReader._stop,
}


def _unknown(reader: PickleReader) -> None:
    code = reader.data[reader.at - 1 : reader.at]
    reader.damaged(f"it has the opcode {code!r} at byte {reader.at - 1}, which is not read")


_TABLE: tuple[Callable[[PickleReader], None], ...] = tuple(_STEPS.get(bytes([code]), _unknown) for code in range(256))
