"""The effect of each pickle opcode on the machine that reads it.

Format: Python's `pickletools`. Opcodes of protocols before 2 that later ones do not write are not read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statex.checkpoint.formats.torch.pickle_machine import PickleMachine

_MOST_DIGITS = 1024
"""Bytes of a number."""

_U2, _I4, _U4, _U8, _F8 = (struct.Struct(f) for f in ("<H", "<i", "<I", "<Q", ">d"))


def _tuple(count: int) -> Callable[[PickleMachine], None]:
    def step(reader: PickleMachine) -> None:
        stack = reader.stack
        if len(stack) < count:
            raise IndexError("too few values for a tuple")
        reader.budget.spend(1)
        stack[-count:] = [tuple(stack[-count:])]

    return step


def _pair(reader: PickleMachine) -> list[Any]:
    value, key = reader.stack.pop(), reader.stack.pop()
    return [key, value]


def _long(reader: PickleMachine) -> None:
    reader._push(int.from_bytes(reader._bytes(reader._bytes(1)[0]), "little", signed=True))


def _far_long(reader: PickleMachine) -> None:
    count = reader._number(_I4)
    if not 0 <= count <= _MOST_DIGITS:
        reader.damaged(f"a number has {count} bytes")
    reader._push(int.from_bytes(reader._bytes(count), "little", signed=True))


def _reduce(reader: PickleMachine) -> None:
    arguments, function = reader.stack.pop(), reader.stack.pop()
    if type(arguments) is not tuple:
        reader.damaged("the arguments of a call are not a tuple")
    reader._container(reader.called(function, arguments))


def _new(reader: PickleMachine) -> None:
    arguments, cls = reader.stack.pop(), reader.stack.pop()
    reader._container(reader.new(cls, arguments))


def _new_with_keywords(reader: PickleMachine) -> None:
    keywords, arguments, cls = reader.stack.pop(), reader.stack.pop(), reader.stack.pop()
    if type(keywords) is not dict:
        reader.damaged("the keywords of an object are not a dict")
    reader._container(reader.new(cls, arguments, keywords))


def _instance(reader: PickleMachine) -> None:
    cls, *arguments = reader._items()
    reader._container(reader.instance(cls, tuple(arguments)))


def _named_instance(reader: PickleMachine) -> None:
    cls = reader.named(reader._line(), reader._line())
    reader._container(reader.instance(cls, tuple(reader._items())))


def _build(reader: PickleMachine) -> None:
    state = reader.stack.pop()
    reader.done_to(reader.stack[-1], "state", [state])


def _stack_global(reader: PickleMachine) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    if type(name) is not str or type(module) is not str:
        reader.damaged("a name is not text")
    reader._push(reader.named(module, name))


def _frozen_set(reader: PickleMachine) -> None:
    items = reader._items()
    reader._container(reader.called(reader.named("builtins", "frozenset"), (items,)))


def _byte_array(reader: PickleMachine) -> None:
    data = reader.raw(reader._number(_U8))
    reader._container(reader.called(reader.named("builtins", "bytearray"), (data,)))


def _protocol(reader: PickleMachine) -> None:
    number = reader._bytes(1)[0]
    if not 2 <= number <= 5:
        reader.damaged(f"it has the protocol {number}")
    reader.protocol = number


_STEPS: Mapping[bytes, Callable[[PickleMachine], None]] = {
    b"h": lambda r: r._get(r._bytes(1)[0]),
    b"j": lambda r: r._get(r._number(_U4)),
    b"q": lambda r: r._put(r._bytes(1)[0]),
    b"r": lambda r: r._put(r._number(_U4)),
    b"\x94": lambda r: r._memoize(),
    b"K": lambda r: r._push(r._bytes(1)[0]),
    b"M": lambda r: r._push(r._number(_U2)),
    b"J": lambda r: r._push(r._number(_I4)),
    b"\x8a": _long,
    b"\x8b": _far_long,
    b"G": lambda r: r._push(_F8.unpack(r._bytes(8))[0]),
    b"X": lambda r: r._push(r.text(r._number(_U4))),
    b"\x8c": lambda r: r._push(r.text(r._bytes(1)[0])),
    b"\x8d": lambda r: r._push(r.text(r._number(_U8))),
    b"U": lambda r: r._push(r.old_text(r._bytes(1)[0])),
    b"T": lambda r: r._push(r.old_text(r._number(_U4))),
    b"C": lambda r: r._push(r.raw(r._bytes(1)[0])),
    b"B": lambda r: r._push(r.raw(r._number(_U4))),
    b"\x8e": lambda r: r._push(r.raw(r._number(_U8))),
    b"N": lambda r: r._push(None),
    b"\x88": lambda r: r._push(True),
    b"\x89": lambda r: r._push(False),
    b"(": lambda r: r._mark(),
    b")": lambda r: r._push(()),
    b"t": lambda r: r._container(tuple(r._items())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"]": lambda r: r._container([]),
    b"}": lambda r: r._container({}),
    b"\x8f": lambda r: r._container(set()),
    b"\x91": _frozen_set,
    b"\x96": _byte_array,
    b"a": lambda r: r._append_items([r.stack.pop()]),
    b"e": lambda r: r._append_items(r._items()),
    b"s": lambda r: r._set_items(_pair(r)),
    b"u": lambda r: r._set_items(r._items()),
    b"\x90": lambda r: r._add_items(r._items()),
    b"c": lambda r: r._push(r.named(r._line(), r._line())),
    b"\x93": _stack_global,
    b"R": _reduce,
    b"\x81": _new,
    b"\x92": _new_with_keywords,
    b"o": _instance,
    b"i": _named_instance,
    b"b": _build,
    b"Q": lambda r: r._push(r.persistent(r.stack.pop())),
    b"\x82": lambda r: r.extension(r._bytes(1)[0]),
    b"\x83": lambda r: r.extension(r._number(_U2)),
    b"\x84": lambda r: r.extension(r._number(_I4)),
    b"1": lambda r: r._pop_mark(),
    b"2": lambda r: r._push(r.stack[-1]),
    b"0": lambda r: r._pop(),
    b"\x80": _protocol,
    b"\x95": lambda r: r._frame(),
    b".": lambda r: r._stop(),
}


def _unknown(reader: PickleMachine) -> None:
    code = reader.data[reader.at - 1 : reader.at]
    reader.damaged(f"it has the opcode {code!r} at byte {reader.at - 1}, which is not read")


TABLE: tuple[Callable[[PickleMachine], None], ...] = tuple(_STEPS.get(bytes([code]), _unknown) for code in range(256))
"""What each byte stands for."""
