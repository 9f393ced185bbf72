"""Hostile and broken files: each is refused with one message that names the file, quickly, and nothing is executed."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import pickle
import random
import struct
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import statex
from statex import StatexError
from statex.checkpoint.objects import NAMES
from tests.checkpoint.archives import Record, archive, records_of, tensor_pickle

SECONDS = 2.0
"""A message comes within a second of work."""


def refused(path: Path, code: str, *words: str) -> None:
    """Check that a file is refused with a code and a text that names the file."""
    started = time.process_time()
    with pytest.raises(StatexError) as caught:
        statex.convert(path, path.with_name("out.pth"), statex.compile("rename? prefix 'zz' -> ''"))
    assert time.process_time() - started < SECONDS
    assert [d.code.id for d in caught.value.diagnostics] == [code], caught.value
    said = str(caught.value)
    assert path.name in said
    for word in words:
        assert word in said, said
    assert sorted(p.name for p in path.parent.iterdir() if p.name.startswith((".", "out"))) == []


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A file of torch.save with two tensors."""
    path = tmp_path / "bad.pth"
    torch.save({"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}, path)
    return path


# --- the zip archive --------------------------------------------------------------------------------------------


def test_every_cut_is_noticed(good: Path) -> None:
    whole = good.read_bytes()
    for size in sorted({1, 3, 4, 30, 100, *range(64, len(whole), 97), len(whole) - 1}):
        good.write_bytes(whole[:size])
        with pytest.raises(StatexError) as caught:
            statex.read_header(good)
        assert caught.value.diagnostics[0].code.id in ("SX602", "SX604")


def test_a_wrong_checksum_is_noticed_in_small_records(good: Path) -> None:
    data = bytearray(good.read_bytes())
    at = data.index(b"storage")
    data[at] ^= 1
    good.write_bytes(data)
    refused(good, "SX604", "checksum")


@pytest.mark.parametrize("rules", ["set w = it * 2", "set w = cast(f64)", "set w = transpose", "set w = it[:1]"])
def test_a_wrong_checksum_is_noticed_when_data_is_computed_with(good: Path, rules: str) -> None:
    data = bytearray(good.read_bytes())
    data[data.index(struct.pack("<6f", *range(6))) + 5] ^= 1
    good.write_bytes(data)
    with pytest.raises(StatexError) as caught:
        statex.convert(good, good.with_name("out.pth"), statex.compile(rules))
    assert [d.code.id for d in caught.value.diagnostics] == ["SX604"]
    assert not good.with_name("out.pth").exists()


def test_a_wrong_checksum_is_noticed_when_views_are_gathered(tmp_path: Path) -> None:
    views = {"turned": torch.randn(20, 30).t(), "columns": torch.randn(20, 30)[:, 3:5]}
    for name, view in views.items():
        path = tmp_path / f"{name}.pth"
        torch.save({"view": view}, path)
        data = bytearray(path.read_bytes())
        data[data.index(bytes(view.untyped_storage())) + 40] ^= 1
        path.write_bytes(data)
        for target in ("out.safetensors", "out.pth") if name == "columns" else ("out.safetensors",):
            with pytest.raises(StatexError) as caught:
                statex.convert(path, tmp_path / target, statex.compile(""))
            assert [d.code.id for d in caught.value.diagnostics] == ["SX604"]


def test_a_wrong_checksum_moves_along_unless_all_is_checked_or_the_format_has_none(good: Path) -> None:
    data = bytearray(good.read_bytes())
    data[data.index(struct.pack("<6f", *range(6))) + 5] ^= 1
    good.write_bytes(data)
    rules = statex.compile("rename w -> v")
    for name, check in (("out.pth", True), ("out.safetensors", False)):
        with pytest.raises(StatexError) as caught:
            statex.convert(good, good.with_name(name), rules, check_input=check)
        assert [d.code.id for d in caught.value.diagnostics] == ["SX604"]
    statex.convert(good, good.with_name("out.pth"), rules)
    # The record's own checksum is carried over, so that the damage can still be seen.
    assert zipfile.ZipFile(good.with_name("out.pth")).testzip() == "out/data/0"


def test_two_members_of_one_name(good: Path) -> None:
    records = records_of(good)
    good.write_bytes(archive([*records, records[-3]]))
    refused(good, "SX604", "two members")


def test_overlapping_members(good: Path) -> None:
    records = records_of(good)
    first = next(r for r in records if r.name.endswith("data/0"))
    second = next(r for r in records if r.name.endswith("data/1"))
    data = archive(records, place={second.name: first.name})
    good.write_bytes(data)
    refused(good, "SX604")


def test_lying_sizes(good: Path) -> None:
    records = records_of(good)
    for grown in (1, 1 << 20, 1 << 40, (1 << 63) - 1):
        good.write_bytes(archive(records, grow={"bad/data/0": grown}))
        refused(good, "SX604")


def test_a_directory_that_promises_millions_of_members(good: Path) -> None:
    data = bytearray(good.read_bytes())
    at = data.rindex(b"PK\x06\x06")
    struct.pack_into("<2Q", data, at + 24, 1 << 40, 1 << 40)
    struct.pack_into("<2H", data, data.rindex(b"PK\x05\x06") + 8, 0xFFFF, 0xFFFF)
    good.write_bytes(data)
    refused(good, "SX604")


def test_a_compressed_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bad.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("bad/data.pkl", b"\x80\x02}." + b"\0" * (1 << 28))
    assert path.stat().st_size < 1 << 20
    refused(path, "SX604", "compressed")


def test_a_missing_storage(good: Path) -> None:
    good.write_bytes(archive([r for r in records_of(good) if not r.name.endswith("data/1")]))
    refused(good, "SX604", "missing")


def test_big_endian_numbers(good: Path) -> None:
    records = [Record(r.name, b"big") if r.name.endswith("byteorder") else r for r in records_of(good)]
    good.write_bytes(archive(records))
    refused(good, "SX602", "endian")


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_is_refused_or_harmless(good: Path, seed: int) -> None:
    noise = random.Random(seed)
    data = bytearray(good.read_bytes())
    for _ in range(noise.randint(1, 8)):
        data[noise.randrange(len(data))] = noise.randrange(256)
    good.write_bytes(data)
    # Whatever else is raised fails the test.
    with contextlib.suppress(StatexError):
        statex.convert(good, good.with_name("out.safetensors"), statex.compile("rename w -> v"), force=True)


# --- the pickle -------------------------------------------------------------------------------------------------


def file_with(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """Write an archive with this pickle."""
    records = [Record("bad/data.pkl", pickled), Record("bad/byteorder", b"little"), Record("bad/version", b"3\n")]
    records += [Record(f"bad/data/{key}", data) for key, data in (storages or {}).items()]
    path.write_bytes(archive(records))
    return path


class Calls:
    """An object whose pickle calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _exec(marker: Path) -> list[Any]:
    text = f"open({str(marker)!r}, 'w').close()"
    return [
        Calls(os.system, f"touch {marker}"),
        Calls(exec, text),
        Calls(eval, text),
        Calls(__import__, "this"),
        Calls(getattr, "", "upper"),
        Calls(pickle.loads, b"N."),
    ]


@pytest.mark.parametrize("which", range(6))
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_is_named_and_never_run(tmp_path: Path, which: int, protocol: int) -> None:
    marker = tmp_path / "marker"
    pickled = pickle.dumps({"w": _exec(marker)[which]}, protocol)
    refused(file_with(tmp_path / "bad.pth", pickled), "SX603", "which is code")
    (tmp_path / "bad.pkl").write_bytes(pickled)
    refused(tmp_path / "bad.pkl", "SX603", "which is code")
    assert not marker.exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x02c__builtin__\neval\n(X\x01\x00\x00\x001tR.",
        b"\x80\x02(X\x01\x00\x00\x001ios\nsystem\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02ctorch.storage\n_load_from_bytes\n.",
        b"\x80\x02ctorch\nload\n.",
        b"\x80\x02cbuiltins\ngetattr\n.",
        b"\x80\x02ccollections\nOrderedDict.__init__\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02ccopyreg\n_reconstructor\n.",
    ],
)
def test_names_beside_the_table_are_refused(tmp_path: Path, pickled: bytes) -> None:
    with pytest.raises(StatexError) as caught:
        statex.read_header(file_with(tmp_path / "bad.pth", pickled))
    assert caught.value.diagnostics[0].code.id in ("SX603", "SX604")


@pytest.mark.parametrize("elsewhere", ["evil", "evil.{}", "{}.evil", "{}_", "_{}"])
def test_a_name_that_is_allowed_is_so_in_its_own_module_alone(tmp_path: Path, elsewhere: str) -> None:
    for module, name in NAMES:
        other = elsewhere.format(module)
        path = file_with(tmp_path / "bad.pth", b"\x80\x02}X\x01\x00\x00\x00wc" + f"{other}\n{name}\n".encode() + b"s.")
        with pytest.raises(pickle.UnpicklingError, match="Unsupported global"):
            torch.load(path, weights_only=True)
        with pytest.raises(StatexError) as caught:
            statex.read_header(path)
        assert [found.code.id for found in caught.value.diagnostics] == ["SX603"]
        assert f"`{other}.{name}`" in str(caught.value)


@pytest.mark.parametrize(
    "pickled",
    [
        b"",
        b"\x80",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02}q\x00(X\xff\xff\xff\xffabc.",
        b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02r\xff\xff\xff\x7f.",
        b"\x80\x02}r\xff\xff\xff\x7f}0j\x01\x00\x00\x00.",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02" + b"(" * 1_000_000,
        b"\x80\x02)" + b"\x85" * 100_000 + b".",
        b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"Ns.",
        b"\x80\x02]q\x00" + b"h\x00a.",
        b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (n, n - 1, n - 1) for n in range(1, 60)) + b".",
        b"\x80\x02NN.",
        b"\x80\x02(N.",
        b"\x80\x02NQ.",
        b"\x80\x02X\x01\x00\x00\x00\xff.",
        b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsNsb.",
        b"\x80\x02ccollections\nOrderedDict\n)R}X\x09\x00\x00\x00_metadataK\x05sb.",
        b"\x80\x09N.",
    ],
    ids=range(22),
)
def test_broken_pickles(tmp_path: Path, pickled: bytes) -> None:
    started = time.process_time()
    with pytest.raises(StatexError) as caught:
        statex.read_header(file_with(tmp_path / "bad.pth", pickled))
    assert time.process_time() - started < SECONDS
    assert caught.value.diagnostics[0].code.id in ("SX603", "SX604", "SX605")


F32 = {"cls": "FloatStorage", "numel": 4}


@pytest.mark.parametrize(
    "tensor",
    [
        dict(F32, shape=(5,)),
        dict(F32, offset=1, shape=(4,)),
        dict(F32, offset=-1, shape=(1,)),
        dict(F32, shape=(-1,)),
        dict(F32, shape=(4,), stride=(-1,)),
        dict(F32, shape=(2, 2), stride=(3, 1)),
        dict(F32, shape=(2**61, 2**61), stride=(0, 2**61)),
        dict(F32, shape=(2,), stride=(2**62,)),
        dict(F32, shape=(2**32, 2**32), stride=(0, 0)),
        dict(F32, shape=(2**60,), stride=(0,)),
        dict(F32, cls="LongStorage", numel=2, shape=(2,), grad=True),
        dict(F32, cls="BoolStorage", numel=16, shape=(2,), grad=True),
        dict(F32, shape=(4,), stride=(1, 1)),
        dict(F32, numel=2**40, shape=(4,)),
        dict(F32, numel=-4, shape=(0,)),
        dict(F32, cls="LongStorage", shape=(4,)),
        dict(F32, cls="Linear", shape=(4,)),
        dict(F32, key="9", shape=(4,)),
        dict(F32, key="../../etc/passwd", shape=(4,)),
    ],
)
def test_geometry_that_does_not_fit(tmp_path: Path, tensor: dict[str, Any]) -> None:
    path = file_with(tmp_path / "bad.pth", tensor_pickle([tensor]), {"0": b"\0" * 16})
    refused(path, "SX604")


def test_a_parameter_of_integers_has_no_gradient(tmp_path: Path) -> None:
    torch.save({"w": torch.nn.Parameter(torch.arange(3), requires_grad=False)}, tmp_path / "bad.pth")
    records = records_of(tmp_path / "bad.pth")
    (pickled,) = (r.data for r in records if r.name.endswith("data.pkl"))
    at = pickled.rindex(b"\x89")
    lying = pickled[:at] + b"\x88" + pickled[at + 1 :]
    data = archive([Record(r.name, lying) if r.data == pickled else r for r in records])
    (tmp_path / "bad.pth").write_bytes(data)
    refused(tmp_path / "bad.pth", "SX604", "requires_grad")


@pytest.mark.parametrize(
    ("version", "good"),
    [("3", True), ("1", True), ("10", True), ("999", False), ("NaN", False), ("", False), ("-1", False), ("0", False)],
)
def test_versions_of_the_archive(tmp_path: Path, version: str, good: bool) -> None:
    """torch reads 1 to 10, and writes 3."""
    torch.save({"w": torch.ones(2)}, tmp_path / "bad.pth")
    text = f"{version}\n".encode()
    data = archive([Record(r.name, text) if r.name == "bad/version" else r for r in records_of(tmp_path / "bad.pth")])
    (tmp_path / "bad.pth").write_bytes(data)
    if good:
        assert torch.equal(torch.load(tmp_path / "bad.pth")["w"], torch.ones(2))
        statex.read_header(tmp_path / "bad.pth")
        return
    refused(tmp_path / "bad.pth", "SX604", "version")
    with pytest.raises(RuntimeError):
        torch.load(tmp_path / "bad.pth")


@pytest.mark.parametrize(
    ("at", "changed"),
    [
        (0, b"PK\x03\x03"),
        (0, b"PK\x03\x05"),
        (0, b"PK\x01\x02"),
        (26, b"\x09\0"),
        (26, b"\x0b\0"),
        (30, b"bat"),
        (38, b"/1"),
    ],
)
def test_a_local_header_that_is_another(good: Path, at: int, changed: bytes) -> None:
    with zipfile.ZipFile(good) as found:
        start = found.getinfo("bad/data/0").header_offset + at
    data = bytearray(good.read_bytes())
    assert data[start : start + len(changed)] != changed
    data[start : start + len(changed)] = changed
    good.write_bytes(data)
    refused(good, "SX604", "there is no member `bad/data/0`")


@pytest.mark.parametrize("size", [0, 12, 15, 17, 20])
def test_a_storage_of_another_size_than_its_tensors_say(tmp_path: Path, size: int) -> None:
    path = file_with(tmp_path / "bad.pth", tensor_pickle([dict(F32, shape=(2,))]), {"0": b"\0" * size})
    refused(path, "SX604", f"the storage `0` has {size} bytes, and its tensors say 16")


@pytest.mark.filterwarnings("ignore:Sparse ")
@pytest.mark.parametrize("layout", ["csr", "bsc"])
def test_sparse_layouts(tmp_path: Path, layout: str) -> None:
    """A layout that torch does not have, and those of which a tensor has other parts."""
    path = tmp_path / "bad.pth"
    for other in ("xyz", "coo", "CSR"):
        torch.save({"s": sparse(layout)}, path)
        records = [Record(r.name, r.data.replace(f"sparse_{layout}".encode(), f"sparse_{other}".encode()))
                   for r in records_of(path)]  # fmt: skip
        assert records != records_of(path)
        path.write_bytes(archive(records))
        with pytest.raises(StatexError) as caught:
            statex.convert(path, tmp_path / "out.pth", "rename s -> v")
        assert [found.code.id for found in caught.value.diagnostics] == ["SX604"]
        assert "sparse tensor" in str(caught.value)


SPARSE = ["coo", "csr", "csc", "bsr", "bsc"]


def sparse(layout: str, seed: int = 0) -> torch.Tensor:
    """A sparse tensor; of blocks of 2 x 3 where the layout has blocks."""
    torch.manual_seed(seed)
    dense = torch.randn(4, 6) * (torch.rand(4, 6) > 0.5)
    if layout == "coo":
        return dense.to_sparse()
    if layout in ("bsr", "bsc"):
        dense = torch.kron(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.ones(2, 3))
    return dense.to_sparse(layout=getattr(torch, f"sparse_{layout}"), blocksize=(2, 3) if "b" in layout else None)


@pytest.mark.filterwarnings("ignore:Sparse ", "ignore:Validating sparse", "ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("layout", SPARSE)
def test_sparse_indices(tmp_path: Path, layout: str) -> None:
    """What torch refuses to load is refused, one changed index at a time, and nothing else is."""
    path, out = tmp_path / "bad.pth", tmp_path / "out.pth"
    torch.save({"w": torch.ones(2), "s": sparse(layout)}, path)
    statex.convert(path, out, "rename w -> v", force=True, verify_written=True)
    records = records_of(path)
    places = [
        (number, at, value)
        for number, record in enumerate(records)
        if "/data/" in record.name and number
        for at in range(0, len(record.data) // 8 * 8, 8)
        for value in (-1, 0, 1, 2, 3, 6, 1000)
    ]
    refusals = accepted = 0
    for number, at, value in random.Random(layout).sample(places, 60):
        old = records[number]
        changed = Record(old.name, old.data[:at] + struct.pack("<q", value) + old.data[at + 8 :])
        path.write_bytes(archive([*records[:number], changed, *records[number + 1 :]]))
        try:
            # torch looks at them only if it is told to.
            with torch.sparse.check_sparse_tensor_invariants(True):  # type: ignore[no-untyped-call]
                torch.load(path, weights_only=True)
        except (RuntimeError, pickle.UnpicklingError):
            with pytest.raises(StatexError) as caught:
                statex.convert(path, out, "rename w -> v", force=True)
            assert [d.code.id for d in caught.value.diagnostics] == ["SX604"]
            with pytest.raises(StatexError):
                statex.compile("").apply(path)
            refusals += 1
        else:
            statex.convert(path, out, "rename w -> v", force=True)
            accepted += 1
    assert refusals > 10
    assert accepted > 10


@pytest.mark.filterwarnings("ignore:Sparse ", "ignore:Validating sparse", "ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("layout", SPARSE)
def test_sparse_sizes(tmp_path: Path, layout: str) -> None:
    """Sizes that torch refuses are refused, and nothing else is."""
    path = tmp_path / "bad.pth"
    torch.save({"s": sparse(layout)}, path)
    records = records_of(path)
    refusals = accepted = 0
    for rows, columns in itertools.product(range(9), repeat=2):
        sizes = b"K" + bytes([rows]) + b"K" + bytes([columns])
        changed = [Record(r.name, r.data.replace(b"K\x04K\x06", sizes)) for r in records]
        assert changed != records or (rows, columns) == (4, 6)
        path.write_bytes(archive(changed))
        try:
            with torch.sparse.check_sparse_tensor_invariants(True):  # type: ignore[no-untyped-call]
                torch.load(path, weights_only=True)
        except (RuntimeError, pickle.UnpicklingError):
            with pytest.raises(StatexError) as caught:
                statex.convert(path, tmp_path / "out.pth", "rename s -> v", force=True)
            assert [d.code.id for d in caught.value.diagnostics] == ["SX604"]
            refusals += 1
        else:
            statex.convert(path, tmp_path / "out.pth", "rename s -> v", force=True)
            accepted += 1
    assert refusals > 10
    assert accepted


def test_one_storage_with_two_dtypes(tmp_path: Path) -> None:
    two = [dict(F32, shape=(4,)), {"cls": "LongStorage", "numel": 2, "shape": (2,)}]
    refused(file_with(tmp_path / "bad.pth", tensor_pickle(two), {"0": b"\0" * 16}), "SX604", "two dtypes")


def test_zero_strides_are_read_and_written_compactly(tmp_path: Path) -> None:
    """A small storage may stand for a huge tensor; that is only refused when it would be written in full."""
    path = file_with(tmp_path / "wide.pth", tensor_pickle([dict(F32, shape=(2**40,), stride=(0,))]), {"0": b"\0" * 16})
    assert statex.read_header(path).entries["t0"].type.shape == (2**40,)  # type: ignore[union-attr]
    with pytest.raises(StatexError) as caught:
        statex.convert(path, tmp_path / "out.safetensors", statex.compile("rename t0 -> t1"))
    assert caught.value.diagnostics[0].code.id == "SX642"


# --- legacy files -----------------------------------------------------------------------------------------------


def huge(path: Path) -> Path:
    """Save a view of 19.6 GB over one number."""
    torch.save({"w": torch.ones(1).as_strided((70_000, 70_000), (0, 0)), "b": torch.ones(3)}, path)
    return path


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        ("set w = it * 2", "out.pth"),
        ("set w = it * 2", "out.safetensors"),
        ("set w = transpose | sum(dim=0)", "out.pth"),
        ("set w = cat(it, ::b[none, :1] | expand(1, 70000), dim=0)", "out.pth"),
        ("set b = it * mean(::w)", "out.pth"),
        ("split w -> {p:q|k}.w = sections([35000, 35000], dim=0)", "out.safetensors"),
        ("rename w -> v", "out.safetensors"),
        ("rename w -> v", "out/"),
    ],
)
def test_a_small_file_does_not_make_a_large_one(tmp_path: Path, rules: str, name: str) -> None:
    source = huge(tmp_path / "bad.pth")
    format = "dcp" if name == "out/" else None
    started = time.process_time()
    with pytest.raises(StatexError) as caught:
        statex.convert(source, f"{tmp_path}/{name}", statex.compile(rules), format=format)
    assert time.process_time() - started < 2 * SECONDS
    assert [d.code.id for d in caught.value.diagnostics] == ["SX642"], caught.value
    assert "`w`" in str(caught.value)
    assert "bad.pth" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pth"]
    if name == "out.pth":
        with pytest.raises(StatexError, match="SX642"):
            statex.compile(rules).apply(source)


def test_small_views_may_add_up_to_no_large_file(tmp_path: Path) -> None:
    part = torch.ones(1).expand(1 << 17, 1 << 10)
    torch.save({f"w{n}": part[n:] for n in range(3)}, tmp_path / "in.pth")
    with pytest.raises(StatexError, match=r"SX642(.|\n)*and 2 others of `in\.pth`"):
        statex.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", "")


def test_a_large_view_is_moved_dropped_and_taken_apart(tmp_path: Path) -> None:
    source = huge(tmp_path / "in.pth")
    statex.convert(source, tmp_path / "moved.pth", "rename w -> v")
    assert torch.load(tmp_path / "moved.pth")["v"].untyped_storage().nbytes() == 4
    statex.convert(source, tmp_path / "part.safetensors", "set w = it[:2, :3] * 2")
    assert torch.equal(load_file(tmp_path / "part.safetensors")["w"], torch.full((2, 3), 2.0))
    statex.convert(source, tmp_path / "dropped.safetensors", "drop w")
    assert list(load_file(tmp_path / "dropped.safetensors")) == ["b"]
    statex.convert(source, tmp_path / "like.safetensors", "set b = zeros([2]); set w = ones([2, 2])")


def legacy(state: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def test_legacy_files_lacking_or_cutting_storages(tmp_path: Path) -> None:
    path = tmp_path / "bad.pth"
    data = legacy({"w": torch.arange(6.0), "b": torch.ones(4)})
    for end in (len(data) - 1, len(data) - 24, len(data) - 60, 200, 40):
        path.write_bytes(data[:end])
        refused(path, "SX604")


# --- safetensors ------------------------------------------------------------------------------------------------


def header_file(path: Path, header: bytes | dict[str, Any], data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": entry()}, b""),
        ({"a": entry()}, b"\0" * 8),
        ({"a": entry(), "b": entry(offsets=(8, 12))}, b"\0" * 12),
        ({"a": entry(), "b": entry(offsets=(2, 6))}, b"\0" * 6),
        ({"a": entry(shape=(2,))}, b"\0" * 4),
        ({"a": entry(shape=(-1,), offsets=(0, -4))}, b""),
        ({"a": entry(shape=(2**62, 4, 2**62), offsets=(0, 0))}, b""),
        ({"a": entry(shape=(2**64 + 1,), offsets=(0, 4))}, b"\0" * 4),
        ({"a": entry(shape=(1,) * 65)}, b"\0" * 4),
        ({"a": entry(shape=(True,))}, b"\0" * 4),
        ({"a": entry(shape=(1.0,))}, b"\0" * 4),
        ({"a": entry(shape=1)}, b"\0" * 4),
        ({"a": entry(dtype="F31")}, b"\0" * 4),
        ({"a": entry(dtype=["F32"])}, b"\0" * 4),
        ({"a": entry(offsets=(4, 0))}, b"\0" * 4),
        ({"a": entry(offsets=(0, 2**63))}, b"\0" * 4),
        ({"a": entry(offsets=(0, 4, 8))}, b"\0" * 8),
        ({"a": entry(more=1)}, b"\0" * 4),
        ({"a": [1]}, b""),
        ({"a": None}, b""),
        ({"__metadata__": {"a": 1}}, b""),
        ({"__metadata__": []}, b""),
        (b'{"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "a": {"dtype":"F32","shape":[1],'
         b'"data_offsets":[0,4]}}', b"\0" * 4),
        (b'{"a": {"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4),
        (b'{"a": NaN}', b""),
        (b"{" + b'"a":[' * 50_000, b""),
        (b'{"a": "\xff"}', b""),
        (b'{"a": ', b""),
    ],
    ids=range(28),
)  # fmt: skip
def test_headers_of_safetensors(tmp_path: Path, header: Any, data: bytes) -> None:
    refused(header_file(tmp_path / "bad.safetensors", header, data), "SX604")


def test_one_of_many_names_comes_twice(tmp_path: Path) -> None:
    names = ",".join(f'"{number}":0' for number in [*range(50_000), 49_999])
    path = header_file(tmp_path / "bad.safetensors", f"{{{names}}}".encode(), b"")
    refused(path, "SX604", "names `49999` twice")


def test_a_header_longer_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    for length in (3, 10**6, 2**40, 2**63):
        path.write_bytes(struct.pack("<Q", length) + b"{}" + b" " * 20)
        with pytest.raises(StatexError) as caught:
            statex.read_header(path)
        assert caught.value.diagnostics[0].code.id in ("SX602", "SX604")


# --- sharded sets -----------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    save_file({"a": torch.ones(1)}, folder / "one.safetensors")
    save_file({"b": torch.ones(1)}, folder / "two.safetensors")
    save_file({"b": torch.ones(1)}, tmp_path / "outside.safetensors")
    return folder


@pytest.mark.parametrize(
    ("weights", "code"),
    [
        ({"a": "one.safetensors", "b": "../outside.safetensors"}, "SX603"),
        ({"a": "one.safetensors", "b": "/etc/passwd"}, "SX603"),
        ({"a": "one.safetensors", "b": ".."}, "SX603"),
        ({"a": "one.safetensors", "b": "loop.safetensors"}, "SX604"),
        ({"a": "one.safetensors", "b": "sub/two.safetensors"}, "SX603"),
        ({"a": "one.safetensors", "b": "three.safetensors"}, "SX604"),
        ({"a": "one.safetensors", "c": "two.safetensors"}, "SX604"),
        ({"a": "one.safetensors", "b": "one.safetensors"}, "SX604"),
        ({"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}, "SX604"),
        ({"a": "one.safetensors", "b": 5}, "SX604"),
        (["a"], "SX604"),
    ],
)
def test_an_index_that_lies(shards: Path, weights: Any, code: str) -> None:
    (shards / "loop.safetensors").symlink_to("loop.safetensors")
    (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    with pytest.raises(StatexError) as caught:
        statex.read_header(shards)
    assert [d.code.id for d in caught.value.diagnostics] == [code]


# --- what is no checkpoint --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git-lfs"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\x1f\x8b\x08" + zlib.compress(b"x"), "gzip"),
        (b"\0" * 257 + b"ustar" + b"\0" * 300, "tar"),
        (b"\x89HDF\r\n", "HDF5"),
        (b'{"a": 1}', "JSON"),
        (b"", "empty"),
        (b"plain text", "neither"),
    ],
)
def test_what_is_no_checkpoint_is_called_by_its_name(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    refused(path, "SX602", word)


def test_programs_are_no_states(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit")  # in newer versions of torch, of one kind or another
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "script.pth"))
    refused(tmp_path / "script.pth", "SX603", "TorchScript")
    torch.save(Calls(torch.nn.Linear, 2, 2), tmp_path / "module.pth")
    refused(tmp_path / "module.pth", "SX603", "torch.nn.modules.linear.Linear", "state_dict")


@pytest.mark.parametrize("make", [os.mkfifo, lambda p: p.symlink_to("/dev/zero"), lambda p: p.symlink_to("missing")])
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "bad.pth"
    make(path)
    started = time.monotonic()
    with pytest.raises(StatexError) as caught:
        statex.read_header(path)
    assert time.monotonic() - started < SECONDS
    assert caught.value.diagnostics[0].code.id in ("SX601", "SX602")
