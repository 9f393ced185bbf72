"""GGUF files are read as the `gguf` package reads them, and quantized blocks become the numbers it makes of them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import statex
from statex import StatexError
from statex.checkpoint import open_checkpoint
from statex.core.dtypes import BLOCKS, BY_NAME
from tests.checkpoint.formats.ggufs import ARRAY, F32, TEXT, U32, Tensor, entry, gguf, text
from tests.without_torch import run_without_torch

NUMBERS = numpy.random.default_rng(0)
KNOWN = {"q4_0": (2, 32, 18), "q8_0": (8, 32, 34), "q4_k": (12, 256, 144), "q6_k": (14, 256, 210)}


def blocks(name: str, count: int) -> bytes:
    """Return blocks of random bytes whose scales are finite numbers."""
    _, _, nbytes = KNOWN[name]
    found = NUMBERS.integers(0, 256, (count, nbytes), dtype=numpy.uint8)
    for at in {"q4_k": (0, 2), "q6_k": (208,)}.get(name, (0,)):
        found[:, at : at + 2] = NUMBERS.normal(0, 0.1, (count, 1)).astype("<f2").view(numpy.uint8)
    return found.tobytes()


def quantized(path: Path, name: str, rows: int = 3, columns: int = 512) -> bytes:
    """Write a file with a quantized tensor, and return its blocks."""
    kind, numel, _ = KNOWN[name]
    data = blocks(name, rows * columns // numel)
    path.write_bytes(gguf([Tensor("a.weight", (columns, rows), kind, 0)], data=data))
    return data


# --- what the gguf package says ------------------------------------------------------------------------------------


@pytest.fixture
def library() -> Any:
    return pytest.importorskip("gguf")


@pytest.fixture
def written(library: Any, tmp_path: Path) -> Path:
    path = tmp_path / "in.gguf"
    writer = library.GGUFWriter(path, "llama")
    writer.add_block_count(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_name("tiny ☃")
    writer.add_bool("general.flag", True)
    writer.add_array("general.tags", ["a", "b"])
    writer.add_array("llama.long", list(range(1000)))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token{number}" for number in range(5000)])
    for dtype in ("float32", "float16", "float64", "int8", "int16", "int32", "int64"):
        writer.add_tensor(f"blk.0.{dtype}", NUMBERS.integers(-9, 9, (3, 5)).astype(dtype))
    writer.add_tensor("one", NUMBERS.normal(size=(7,)).astype("float32"))
    writer.add_tensor("bf16", library.quants.quantize(
        NUMBERS.normal(size=(2, 3)).astype("float32"), library.GGMLQuantizationType.BF16
    ), raw_dtype=library.GGMLQuantizationType.BF16)  # fmt: skip
    for name in ("Q8_0", "Q4_0"):
        kind = library.GGMLQuantizationType[name]
        data = library.quants.quantize(NUMBERS.normal(size=(4, 64)).astype("float32"), kind)
        writer.add_tensor(f"blk.0.{name}", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_it_agrees_with_the_package(library: Any, written: Path, tmp_path: Path) -> None:
    with open_checkpoint(written) as reader:
        found = reader.tree
        places = {key: (info.handle.extent.offset, info.handle.nbytes) for key, info in found.items()}
        shapes = {key: info.type.shape for key, info in found.items()}
    wanted = library.GGUFReader(written).tensors
    assert list(found) == [one.name for one in wanted]
    assert places == {one.name: (one.data_offset, one.n_bytes) for one in wanted}
    assert shapes == {one.name: tuple(int(n) for n in reversed(one.shape)) for one in wanted}
    statex.convert(written, tmp_path / "out.safetensors", "set blk.0.Q* = cast(f32)", verify_written=True)
    state = load_file(tmp_path / "out.safetensors")
    for one in wanted:
        numbers = state[one.name].float().numpy()
        is_plain = one.tensor_type.name[0] in "FI"
        assert numpy.array_equal(
            numbers, one.data if is_plain else library.quants.dequantize(one.data, one.tensor_type)
        ), one.name


def test_metadata_is_text(written: Path, tmp_path: Path) -> None:
    rules = (
        "drop blk.0.Q*; expect metadata('general.architecture') == 'llama' and metadata('llama.block_count') == '32'"
    )
    done = statex.convert(written, tmp_path / "out.safetensors", rules)
    assert [one.headline for one in done.warnings if one.code.id == "SX905"] == [
        "the metadata of `in.gguf` is kept without its long arrays: `llama.long` and `tokenizer.ggml.tokens`"
    ]
    data = (tmp_path / "out.safetensors").read_bytes()
    notes = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]
    assert notes == {
        "format": "pt", "general.architecture": "llama", "general.name": "tiny ☃", "llama.block_count": "32",
        "llama.attention.layer_norm_rms_epsilon": "1e-05", "general.flag": "true", "general.tags": '["a", "b"]',
        "tokenizer.ggml.model": "gpt2",
    }  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_blocks_of_any_bytes_become_the_same_numbers(library: Any, tmp_path: Path, name: str) -> None:
    data = quantized(tmp_path / "in.gguf", name, 40, 4096)  # several chunks
    kind = library.GGMLQuantizationType[name.upper()]
    rows = numpy.frombuffer(data, numpy.uint8).reshape(40, -1)
    wanted = torch.from_numpy(library.quants.dequantize(rows, kind))
    for rules, result in [
        ("set a.weight = cast(f32)", wanted),
        ("set a.weight = cast(bf16)", wanted.bfloat16()),
        ("set a.weight = cast(f16)", wanted.half()),
        ("set a.weight = cast(f64)", wanted.double()),
        ("set a.weight = cast(f8_e4m3fn)", wanted.to(torch.float8_e4m3fn)),
        ("set a.weight = cast(f32) | transpose", wanted.t().contiguous()),
        ("set a.weight = cast(f32) * 2 | cast(bf16)", (wanted * 2).bfloat16()),
        ("set a.weight = cast(f32) | sum(dim=1, keepdim=true)", wanted.sum(1, keepdim=True)),
    ]:
        statex.convert(tmp_path / "in.gguf", tmp_path / "out.safetensors", rules, force=True)
        found = load_file(tmp_path / "out.safetensors")["a.weight"]
        assert found.dtype == result.dtype
        assert torch.equal(found.view(torch.uint8), result.view(torch.uint8)), rules
        in_memory = statex.compile(rules).apply(tmp_path / "in.gguf")["a.weight"]
        assert torch.equal(in_memory.view(torch.uint8), result.view(torch.uint8)), rules


def test_sizes_of_blocks_are_those_of_the_package(library: Any) -> None:
    known = {one.name: (one.block.numel, one.block.nbytes) for one in BLOCKS if one.block is not None}
    sizes = {kind.name.lower(): sizes for kind, sizes in library.GGML_QUANT_SIZES.items() if sizes[0] > 1}
    assert known == {name: sizes[name] for name in known}


# --- without it ----------------------------------------------------------------------------------------------------


def test_blocks_by_hand(tmp_path: Path) -> None:
    half = struct.pack("<e", 0.5)
    (tmp_path / "in.gguf").write_bytes(
        gguf(
            [Tensor("four", (32,), 2, 0), Tensor("eight", (32, 1), 8, 32)],
            data=half + bytes(range(16)) + bytes(14) + half + bytes(range(240, 256)) + bytes(range(16)),
        )
    )
    statex.convert(tmp_path / "in.gguf", tmp_path / "out.safetensors", "set ** = cast(f32) where dtype in [q4_0, q8_0]")
    found = load_file(tmp_path / "out.safetensors")
    assert found["four"].tolist() == [(n - 8) / 2 for n in range(16)] + [-4.0] * 16
    assert found["eight"].tolist() == [[n / 2 for n in range(-16, 16)]]


@pytest.mark.parametrize("output", ["out.safetensors", "out.pth", "out.npz", "out/"])
def test_blocks_are_refused_as_they_are(tmp_path: Path, output: str) -> None:
    quantized(tmp_path / "in.gguf", "q4_k")
    with pytest.raises(StatexError, match="SX614") as caught:
        statex.convert(tmp_path / "in.gguf", f"{tmp_path}/{output}", "")
    said = str(caught.value)
    assert "a.weight" in said
    assert "q4_k" in said
    assert "write a" not in said
    rule = next(line.partition("= help: ")[2] for line in said.splitlines() if "cast" in line)
    statex.convert(tmp_path / "in.gguf", f"{tmp_path}/{output}", rule)


def test_blocks_that_are_not_known_are_listed_and_dropped(tmp_path: Path) -> None:
    described = [Tensor("a", (256, 2), 13, 0), Tensor("b", (4,), 0, 352), Tensor("new", (7,), 99, 384)]
    (tmp_path / "in.gguf").write_bytes(gguf(described, data=bytes(400)))
    with open_checkpoint(tmp_path / "in.gguf") as reader:
        assert [str(getattr(info, "type", None) or info.kind) for info in reader.tree.values()] == [
            "q5_k[2, 256]", "f32[4]", "GGUF tensor of type 99"
        ]  # fmt: skip
    for rules, code in [("set a = cast(f32)", "SX403"), ("drop new", "SX614"), ("drop a", "SX614")]:
        with pytest.raises(StatexError, match=code):
            statex.convert(tmp_path / "in.gguf", tmp_path / "out.safetensors", rules)
    statex.convert(tmp_path / "in.gguf", tmp_path / "out.safetensors", "drop a, new")
    assert load_file(tmp_path / "out.safetensors")["b"].tolist() == [0.0] * 4


@pytest.mark.parametrize(
    "rules",
    ["set a.weight = it + 1", "set a.weight = transpose", "set a.weight = cast(i32)", "set a.weight = cast(q8_0)",
     "set a.weight = it[:1]"],
)  # fmt: skip
def test_only_a_cast_to_a_float_computes_with_blocks(tmp_path: Path, rules: str) -> None:
    quantized(tmp_path / "in.gguf", "q8_0")
    with pytest.raises(StatexError, match="SX403"):
        statex.compile(rules).plan(tmp_path / "in.gguf")


def test_no_torch_is_needed(tmp_path: Path) -> None:
    quantized(tmp_path / "in.gguf", "q6_k")
    run_without_torch("apply", "-e", "set ** = cast(bf16)", tmp_path / "in.gguf", tmp_path / "out.safetensors")


def test_a_folder_is_one_of_safetensors(tmp_path: Path) -> None:
    quantized(tmp_path / "in.gguf", "q8_0")
    statex.convert(tmp_path / "in.gguf", f"{tmp_path}/out/", "set ** = cast(f16)")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


def test_it_is_no_format_of_outputs(tmp_path: Path) -> None:
    quantized(tmp_path / "in.gguf", "q8_0")
    with pytest.raises(StatexError, match="SX613"):
        statex.convert(tmp_path / "in.gguf", tmp_path / "out.gguf", "")


def test_a_dtype_of_safetensors_that_is_called_so_is_not_one_of_blocks(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "Q4_0", "shape": [64], "data_offsets": [0, 32]}}).encode()
    path = tmp_path / "in.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(32))
    statex.convert(path, tmp_path / "out.safetensors", "")
    with pytest.raises(StatexError, match="SX403"):
        statex.convert(path, tmp_path / "cast.safetensors", "set a = cast(f32)")


# --- files that lie ------------------------------------------------------------------------------------------------

F4 = Tensor("a", (4,), 0, 0)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (gguf([F4], data=bytes(16), version=1), "SX602"),
        (gguf([F4], data=bytes(16), version=4), "SX602"),
        (gguf([F4], data=bytes(16), version=0x03000000), "SX602"),
        (gguf([F4], data=bytes(16), counts=(2, 0)), "SX604"),
        (gguf([F4], data=bytes(16), counts=(2**60, 0)), "SX604"),
        (gguf([F4], data=bytes(16), counts=(1, 2**60)), "SX604"),
        (gguf([F4], data=bytes(15)), "SX604"),
        (gguf([Tensor("a", (4,), 0, 8)], data=bytes(64)), "SX604"),  # not aligned
        (gguf([Tensor("a", (4,), 0, 2**63)], data=bytes(64)), "SX604"),
        (gguf([Tensor("a", (2**62, 4), 0, 0)], data=bytes(64)), "SX604"),
        (gguf([Tensor("a", (2**63,) * 40, 0, 0)], data=bytes(64)), "SX604"),
        (gguf([Tensor("a", (0, 2**61), 0, 0)], data=bytes(64)), "SX604"),
        (gguf([Tensor("a", (1,) * 65, 0, 0)], data=bytes(64)), "SX604"),
        (gguf([Tensor("a", (33,), 8, 0)], data=bytes(640)), "SX604"),  # no whole blocks
        (gguf([Tensor("a", (), 8, 0)], data=bytes(640)), "SX604"),
        (gguf([F4, F4], data=bytes(64)), "SX604"),  # one name
        (gguf([F4, Tensor("b", (4,), 0, 0)], data=bytes(64)), "SX604"),  # one place
        (gguf([Tensor("a", (9,), 0, 0), Tensor("b", (4,), 0, 32)], data=bytes(64)), "SX604"),
        (gguf([F4, Tensor("new", (4,), 99, 0)], data=bytes(64)), "SX604"),
        (gguf([Tensor("new", (4,), 99, 96)], data=bytes(64)), "SX604"),
        (gguf(entries=[entry("a", U32, bytes(4))] * 2), "SX604"),
        (gguf(entries=[entry("a", 13, bytes(4))]), "SX604"),
        (gguf(entries=[entry("a", ARRAY, struct.pack("<IQ", U32, 2**62))]), "SX604"),
        (gguf(entries=[entry("a", ARRAY, struct.pack("<IQ", TEXT, 300) + bytes(300))]), "SX604"),
        (gguf(entries=[entry("a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 9)]), "SX604"),
        (gguf(entries=[entry("a", TEXT, struct.pack("<Q", 2**63))]), "SX604"),
        (gguf(entries=[entry("a", TEXT, text(b"\xff"))]), "SX604"),
        (gguf(entries=[entry("general.alignment", U32, struct.pack("<I", 0))]), "SX604"),
        (gguf(entries=[entry("general.alignment", U32, struct.pack("<I", 24))]), "SX604"),
        (gguf(entries=[entry("general.alignment", U32, struct.pack("<I", 1 << 31))]), "SX604"),
        (gguf(entries=[entry("general.alignment", TEXT, text("32"))]), "SX604"),
        (b"GGUF", "SX604"),
    ],
)
def test_a_file_that_lies_is_refused(tmp_path: Path, data: bytes, code: str) -> None:
    (tmp_path / "in.gguf").write_bytes(data)
    with pytest.raises(StatexError, match=code):
        open_checkpoint(tmp_path / "in.gguf")


WHOLE = gguf(
    [F4, Tensor("b", (32, 2), 8, 64), Tensor("c", (), 24, 192), Tensor("d", (0, 3), 0, 256)],
    [
        entry("general.alignment", U32, struct.pack("<I", 64)),
        entry("name", TEXT, text("ä")),
        entry("eps", F32, struct.pack("<f", 1e-5)),
        entry("many", ARRAY, struct.pack("<IQ", TEXT, 300) + text("x") * 300),
        entry("deep", ARRAY, struct.pack("<IQ", ARRAY, 2) + struct.pack("<IQHH", 2, 2, 1, 2) * 2),
        entry("not", F32, struct.pack("<f", float("nan"))),
    ],
    bytes(256),
    alignment=64,
)  # fmt: skip


def test_alignment_and_metadata(tmp_path: Path) -> None:
    (tmp_path / "in.gguf").write_bytes(WHOLE)
    with open_checkpoint(tmp_path / "in.gguf") as reader:
        assert reader.metadata_texts == {"name": "ä", "eps": "1e-05", "deep": "[[1, 2], [1, 2]]", "not": "NaN"}
        assert reader.left_texts == ("many",)
        assert {key: str(info.type) for key, info in reader.tree.items()} == {
            "a": "f32[4]", "b": "q8_0[2, 32]", "c": "i8[]", "d": "f32[3, 0]"
        }  # fmt: skip


def test_a_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.gguf"
    for end in range(4, len(WHOLE) - 64, 3):
        path.write_bytes(WHOLE[:end])
        with pytest.raises(StatexError, match=r"SX60[24]"):
            open_checkpoint(path)


@given(st.lists(st.tuples(st.integers(4, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_whatever_it_says_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, changes: Any) -> None:
    data = bytearray(WHOLE)
    for at, value in changes:
        data[at] = value
    path = tmp_path_factory.mktemp("gguf") / "in.gguf"
    path.write_bytes(data)
    try:
        with open_checkpoint(path) as reader:
            for info in reader.tree.values():
                extent = getattr(info.handle, "extent", None)
                assert extent is None or extent.offset + extent.nbytes <= len(data) or not extent.nbytes
    except StatexError as error:
        assert {one.code.id for one in error.diagnostics} <= {"SX602", "SX604"}  # noqa: PT017


def test_types_are_numbered_as_by_ggml() -> None:
    from gguf import GGMLQuantizationType

    from statex.checkpoint.formats.gguf.format import _TYPES

    assert {number: dtype.name for number, dtype in _TYPES.items()} == {
        one.value: BY_NAME[one.name.lower()].name for one in GGMLQuantizationType
    }
