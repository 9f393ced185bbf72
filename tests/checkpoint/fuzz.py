"""Pickles taken apart and put together at random: each is read, or refused by a diagnostic, and nothing of it is run.

`make fuzz` does this for ten minutes, or `python -m tests.checkpoint.fuzz MINUTES`.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import pickle
import pickletools
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn

import statex
from statex import StatexError
from statex.checkpoint import Options, arrange, open_checkpoint
from statex.checkpoint.blobs.contents import Moved
from statex.checkpoint.formats.torch.format import TORCH
from statex.checkpoint.formats.torch.pickle_writer import PickleWriter
from statex.cli.listing import Listing, beside, totals
from statex.session.carried import carried
from statex.session.overview import overview
from statex.session.request import InputSpec, Request
from statex.session.session import Session
from statex.trees import roots
from tests.checkpoint.archives import Record, archive
from tests.checkpoint.symbolic import symbols

TRAP = "tests.checkpoint.trap"
SECONDS = 2.0
"""Of work for a file of a few kilobytes."""


class Made:
    """An object whose pickle has all that there is: arguments, state, items of both kinds."""

    def __init__(self, *given: Any) -> None:
        self.given = given

    def __reduce__(self) -> Any:
        return Made, self.given, {"a": 1}, iter([1, 2]), iter({"k": 3}.items())

    def extend(self, items: Any) -> None:
        pass

    def __setitem__(self, key: Any, item: Any) -> None:
        pass


class Keyed:
    """Made with keywords."""

    def __new__(cls, **given: Any) -> Keyed:
        return object.__new__(cls)

    def __getnewargs_ex__(self) -> Any:
        return (), {"size": 3}


def _contents() -> list[Any]:
    """Return what real files hold."""
    state = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    tagged = nn.Parameter(torch.ones(2))
    tagged.no_decay = True  # type: ignore[attr-defined]
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(3, 2)).sum().backward()
    optimizer.step()
    cyclic: list[Any] = [Made()]
    cyclic.append(cyclic[0].given)
    return [
        state,
        {"state_dict": model.state_dict(), "args": argparse.Namespace(lr=1, names=["a"]), "epoch": 3},
        {"model": model, "optimizer": optimizer.state_dict()},
        {"w": tagged, "q": state["w"].to_sparse(), "z": torch.quantize_per_tensor(torch.ones(2), 0.5, 1, torch.quint8)},
        {"w": torch.ones(2), "a": numpy.arange(3), "s": numpy.float32(1), "o": numpy.array([{}], dtype=object)},
        {
            "model": {"a.w": numpy.arange(6.0).reshape(2, 3), "a.b": numpy.ones(9, ">f4")},
            "author": "x",
            "big": [b"x" * 5000],
        },
        {"w": torch.ones(2), "d": datetime.datetime(2024, 5, 6), "q": collections.deque([1], 3), "c": 1 + 2j},
        {"w": torch.ones(2), "m": Made(1, [2]), "k": Keyed(), "p": partial(print, 1), "f": frozenset([1]), "e": {Made}},
        {"w": torch.ones(2), "n": {(1, "a"): [None, True, -5, 2**70, 1.5, b"bytes", "text" * 30]}, "l": cyclic},
        {
            "w": torch.ones(2),
            "i": io.BytesIO(b"x"),
            "dd": collections.defaultdict(list, {"a": [1]}),
            "t": torch.float16,
        },
    ]


@dataclass(frozen=True)
class Seed:
    """The pickle of a real file, as its opcodes with their operands, and the storages that it names."""

    tokens: list[bytes]
    storages: Mapping[str, bytes]


@lru_cache(maxsize=1)
def seeds() -> list[Seed]:
    """Return what real files are made of, in two protocols."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        contents = _contents()
    for content, protocol in product(contents, (2, 4)):
        file = io.BytesIO()
        torch.save(content, file, pickle_protocol=protocol)
        with ZipFile(file) as members:
            names = [name for name in members.namelist() if name.startswith("archive/data/")]
            storages = {name.rpartition("/")[2]: members.read(name) for name in names}
            found.append(Seed(tokens(members.read("archive/data.pkl")), storages))
    return found


def tokens(pickled: bytes) -> list[bytes]:
    """Return the opcodes of a pickle with their operands."""
    starts = [at or 0 for _, _, at in pickletools.genops(pickled)]
    return [pickled[start:end] for start, end in zip(starts, [*starts[1:], len(pickled)], strict=True)]


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _name(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


NAMES = [
    (TRAP, "spring"), (TRAP, "Trap"), ("os", "system"), ("builtins", "getattr"), ("builtins", "exec"), ("nt", "a.b.c"),
    ("collections", "OrderedDict"), ("collections", "Counter"), ("torch", "FloatStorage"), ("torch", "Tensor"),
    ("torch", "Size"), ("torch", "float32"), ("torch._utils", "_rebuild_tensor_v2"), ("__builtin__", "set"),
    ("torch._utils", "_rebuild_parameter_with_state"), ("torch._utils", "_rebuild_sparse_tensor"), ("torch", "device"),
    ("torch._utils", "_rebuild_qtensor"), ("torch._utils", "_rebuild_parameter"), ("torch.storage", "UntypedStorage"),
    ("torch._tensor", "_rebuild_from_type_v2"), ("torch.serialization", "_get_layout"), ("builtins", "bytearray"),
    ("torch._utils", "_rebuild_nested_tensor"), ("torch._utils", "_rebuild_meta_tensor_no_storage"),
    ("_codecs", "encode"), ("argparse", "Namespace"), ("numpy", "dtype"), ("numpy", "ndarray"),
    ("builtins", "complex"), ("torch._utils", "_rebuild_tensor_v3"), ("torch._utils", "_rebuild_tensor"),
    ("copyreg", "__newobj__"),
]  # fmt: skip
SINGLE = [
    bytes([code])
    for code in b"().012NQRabdeiloqrstu}]\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94"
]  # fmt: skip
NUMBERS = [b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"\x8a\x00", b"\x8b\x01\x00\x00\x00\x05", b"G\x7f\xf8" + b"\0" * 6]
EXTENSIONS = [b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00"]
FRAMES = [b"\x80\x04", b"\x95" + b"\0" * 8, b"\x95" + b"\xff" * 8]
WORDS = ["storage", "0", "cpu", "_metadata", "a", "__class__", "items", "_parameters", "_modules", "_buffers"]
pieces = st.one_of(
    st.sampled_from(SINGLE),
    st.sampled_from(NAMES).map(lambda pair: _name(*pair)),
    st.integers(0, 40).map(lambda n: b"h" + bytes([n])),
    st.integers(0, 40).map(lambda n: b"q" + bytes([n])),
    st.integers(0, 255).map(lambda n: b"K" + bytes([n])),
    st.sampled_from([-1, 2**31 - 1, -(2**31)]).map(lambda n: b"J" + struct.pack("<i", n)),
    st.sampled_from(NUMBERS + EXTENSIONS + FRAMES),
    st.sampled_from(WORDS).map(_text),
    st.binary(max_size=3).map(lambda data: b"C" + bytes([len(data)]) + data),
    st.binary(min_size=1, max_size=2),
)  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file whose pickle is a real one with some of its opcodes left out, repeated, moved, or replaced by others."""
    seed = draw(st.sampled_from(seeds()))
    found = list(seed.tokens)
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(found)))
        end = draw(st.integers(at, min(len(found), at + 12)))
        how = draw(st.integers(0, 5))
        if how == 0:
            found[at:end] = []
        elif how == 1:
            found[at:at] = found[at:end]
        elif how == 2:
            found[at:end] = draw(st.lists(pieces, max_size=6))
        elif how == 3:
            other = draw(st.sampled_from(seeds())).tokens
            start = draw(st.integers(0, len(other)))
            found[at:end] = other[start : start + draw(st.integers(0, 30))]
        elif how == 4:
            found[at:at] = draw(st.lists(pieces, min_size=1, max_size=4))
        elif at < len(found):
            found[at] = draw(st.sampled_from([one for one in found if one[:1] == found[at][:1]]))
    write = draw(st.sampled_from([as_archive, as_old_file, as_it_is]))
    return write(b"".join(found), seed.storages)


def as_archive(pickled: bytes, storages: Mapping[str, bytes]) -> bytes:
    """Return a file of torch.save with a pickle, and storages that it may name."""
    records = [Record("fuzz/data.pkl", pickled), Record("fuzz/byteorder", b"little")]
    return archive([*records, *(Record(f"fuzz/data/{key}", data) for key, data in storages.items())])


def as_old_file(pickled: bytes, storages: Mapping[str, bytes]) -> bytes:
    """Return a file of torch.save before 1.6 with a pickle; its storages have to be of float32."""
    before = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    parts = [pickle.dumps(one, 2) for one in before] + [pickled, pickle.dumps(list(storages), 2)]
    return b"".join(parts) + b"".join(struct.pack("<Q", len(data) // 4) + data for data in storages.values())


def as_it_is(pickled: bytes, storages: Mapping[str, bytes]) -> bytes:
    """Return a file that is a pickle and nothing else."""
    return pickled


def rewritten(path: Path) -> bytes:
    """Return the file that this one would be written as, without any change."""
    with open_checkpoint(path) as reader:
        whole: dict[Any, Moved] = {}
        pickler = PickleWriter(lambda storage: whole.setdefault(storage, Moved.whole(storage.handle)))
        pickled = pickler.write(arrange(reader.tree, Options(TORCH)))
        records = [Record("fuzz/data.pkl", pickled), Record("fuzz/byteorder", b"little")]
        for number, blob in enumerate(pickler.blobs):
            runs = blob.runs if isinstance(blob, Moved) else ()
            data = b"".join(run.extent.file.read(run.extent.offset, run.nbytes) for run in runs)
            made = blob.buffers() if hasattr(blob, "buffers") else ()
            records.append(Record(f"fuzz/data/{number}", data + b"".join(bytes(buffer) for buffer in made)))
    return archive(records)


def look(path: Path) -> None:
    """Do with a file what the commands do that read no tensors."""
    found = overview(path)
    for header in found.states.values():
        Listing().table(header.entries, 100)
        totals(header.entries)
    list(beside(found))
    for root in found.states:
        with Session(Request(InputSpec(path, root))) as session:
            carried(session.plan, session.inputs)
            session.priced()


def attempt(data: bytes, path: Path) -> bool:
    """Read a file in every way; return whether it could be read at all.

    Whatever is raised but diagnostics, takes too long, is imported or comes out otherwise than it went in is an error.
    """
    path.write_bytes(data)
    known = set(sys.modules)
    started = time.process_time()
    readable = False
    for work in (look, partial(_again, data), _in_memory):
        try:
            work(path)
            readable = readable or work is not look
        except StatexError as error:
            str(error)
    assert time.process_time() - started < SECONDS * 3
    imported = {name.partition(".")[0] for name in set(sys.modules) - known}
    assert imported <= {"statex", "torch", "numpy", "importlib", "encodings"}, imported
    assert TRAP not in sys.modules
    return readable


def _again(data: bytes, path: Path) -> None:
    """Write a file as it is, twice: nothing is lost, and what was written can be read and does not change again."""
    once = rewritten(path)
    second = path.with_name("once.pth")
    second.write_bytes(once)
    assert rewritten(second) == once
    try:
        wanted = symbols(path, tensors=False)
    except Exception:  # Python's own unpickler stops at things that are let pass here
        return
    assert wanted == symbols(second, tensors=False)


def _in_memory(path: Path) -> None:
    with open_checkpoint(path) as reader:
        found = roots.candidates(reader.tree)
    for root in found[:2]:
        statex.compile("").apply(path, root=root)


def main(minutes: float) -> None:
    """Try pickles for so many minutes."""
    statex.compile("")  # what statex itself imports is imported before a file is read
    end = time.monotonic() + 60 * minutes
    counts = collections.Counter[str]()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")

        @settings(
            max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink], report_multiple_bugs=False,
        )  # fmt: skip
        @given(files())
        def once(data: bytes) -> None:
            counts["read" if attempt(data, Path(folder, "fuzz.pth")) else "refused"] += 1

        while time.monotonic() < end:
            once()
            print(f"{int(end - time.monotonic())} s left: {dict(counts)}", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10)
