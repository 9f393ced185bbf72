"""The dtypes of torch as plain data, so that planning needs no torch.

Names are those of torch (`torch.bfloat16` is `bfloat16`); each has a short form for rules and messages (`bf16`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What arithmetic a dtype takes part in."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    COMPLEX = "complex"
    QUANTIZED = "quantized"
    """Numbers with a scale and a zero point beside them; moved, never computed with."""
    RAW = "raw"
    """Elements of less than a byte, or of a dtype that only files know; moved as bytes, never computed with."""


@dataclass(frozen=True, slots=True)
class Block:
    """Numbers that are quantized together: how many, in how many bytes, and whether it is known what they stand for."""

    numel: int
    nbytes: int
    is_known: bool


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """One dtype: torch's name, the short name, bytes an element, and its kind.

    Each exists once (one of `ALL`, `FLOAT4X2`, `BLOCKS`, or of `raw_dtype`) and is compared by identity, also after
    copying and pickling. `block` is what tensors of a dtype of `BLOCKS` are made of; their `itemsize` says nothing.
    """

    name: str
    short: str
    itemsize: int
    kind: Kind
    block: Block | None = None

    def __str__(self) -> str:
        return self.short

    def __reduce__(self) -> tuple[object, ...]:
        return _named, (self.name,)

    @property
    def is_floating_point(self) -> bool:
        """True for the real floating-point dtypes, as in torch."""
        return self.kind is Kind.FLOAT

    @property
    def is_complex(self) -> bool:
        """True for the complex dtypes."""
        return self.kind is Kind.COMPLEX


ALL: tuple[DType, ...] = (
    DType("float64", "f64", 8, Kind.FLOAT),
    DType("float32", "f32", 4, Kind.FLOAT),
    DType("float16", "f16", 2, Kind.FLOAT),
    DType("bfloat16", "bf16", 2, Kind.FLOAT),
    DType("float8_e4m3fn", "f8_e4m3fn", 1, Kind.FLOAT),
    DType("float8_e5m2", "f8_e5m2", 1, Kind.FLOAT),
    DType("float8_e4m3fnuz", "f8_e4m3fnuz", 1, Kind.FLOAT),
    DType("float8_e5m2fnuz", "f8_e5m2fnuz", 1, Kind.FLOAT),
    DType("float8_e8m0fnu", "f8_e8m0fnu", 1, Kind.FLOAT),
    DType("int64", "i64", 8, Kind.INT),
    DType("int32", "i32", 4, Kind.INT),
    DType("int16", "i16", 2, Kind.INT),
    DType("int8", "i8", 1, Kind.INT),
    DType("uint64", "u64", 8, Kind.INT),
    DType("uint32", "u32", 4, Kind.INT),
    DType("uint16", "u16", 2, Kind.INT),
    DType("uint8", "u8", 1, Kind.INT),
    DType("bool", "bool", 1, Kind.BOOL),
    DType("complex32", "c32", 4, Kind.COMPLEX),
    DType("complex64", "c64", 8, Kind.COMPLEX),
    DType("complex128", "c128", 16, Kind.COMPLEX),
    DType("qint8", "qint8", 1, Kind.QUANTIZED),
    DType("quint8", "quint8", 1, Kind.QUANTIZED),
    DType("qint32", "qint32", 4, Kind.QUANTIZED),
)

FLOAT4X2 = DType("float4_e2m1fn_x2", "f4_e2m1fn_x2", 1, Kind.RAW)
"""Two numbers of 4 bits in a byte; torch counts bytes in its shape, and cannot even copy it."""

_KNOWN = ("q4_0", "q8_0", "q4_k", "q6_k")
BLOCKS: tuple[DType, ...] = tuple(
    DType(name, name, 1, Kind.RAW, Block(numel, nbytes, name in _KNOWN))
    for name, numel, nbytes in (
        ("q4_0", 32, 18), ("q4_1", 32, 20), ("q5_0", 32, 22), ("q5_1", 32, 24), ("q8_0", 32, 34), ("q8_1", 32, 40),
        ("q2_k", 256, 84), ("q3_k", 256, 110), ("q4_k", 256, 144), ("q5_k", 256, 176), ("q6_k", 256, 210),
        ("q8_k", 256, 292), ("iq2_xxs", 256, 66), ("iq2_xs", 256, 74), ("iq3_xxs", 256, 98), ("iq1_s", 256, 50),
        ("iq4_nl", 32, 18), ("iq3_s", 256, 110), ("iq2_s", 256, 82), ("iq4_xs", 256, 136), ("iq1_m", 256, 56),
        ("tq1_0", 256, 54), ("tq2_0", 256, 66), ("mxfp4", 32, 17), ("nvfp4", 64, 36), ("q1_0", 128, 18),
    )
)  # fmt: skip
"""The quantized types of ggml: rows of blocks. `cast` makes numbers of those that are known."""

_NAMED = (*ALL, FLOAT4X2, *BLOCKS)
BY_NAME: dict[str, DType] = {d.name: d for d in _NAMED} | {d.short: d for d in _NAMED}
"""Every dtype under torch's name (or ggml's) and under its short name."""


_RAW: dict[str, DType] = {}


def raw_dtype(name: str) -> DType:
    """Return the dtype that files know by a name and torch does not; how many bytes its tensors have, files say."""
    return _RAW.setdefault(name, DType(name, name, 1, Kind.RAW))


def _named(name: str) -> DType:
    return BY_NAME.get(name) or raw_dtype(name)


FLOAT32 = BY_NAME["float32"]
INT64 = BY_NAME["int64"]
BOOL = BY_NAME["bool"]
