"""Lays out the archives of torch.save, byte for byte as torch does.

The offsets have to be torch's, as `calculate_storage_offsets` derives them from sizes alone.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Any

from statex.checkpoint.blobs.contents import Blob, Moved
from statex.checkpoint.blobs.pages import WORTH, shift
from statex.checkpoint.blobs.write_plan import Derived, FilePlan, Sums, keys_of
from statex.checkpoint.formats.strict_json import is_text
from statex.checkpoint.formats.torch.pickle_writer import PickleWriter
from statex.checkpoint.formats.zip_layout import ALIGNMENT, ZipLayout
from statex.checkpoint.objects import Storage

_VERSION = 0


def archive(tree: Any, name: str) -> FilePlan:
    """Return the archive that holds a tree of plain values, `OutTensor`s and calls.

    Raises:
        StatexError: SX614 for what a torch file cannot hold.
    """
    whole: dict[Storage, Blob] = {}

    def blob_of(storage: Storage) -> Blob:
        return whole.setdefault(storage, Moved.whole(storage.handle))

    pickler = PickleWriter(blob_of)
    pickled = pickler.write(tree)
    keys = keys_of(tree)
    folder = _folder(name)
    layout = ZipLayout(_VERSION)

    def record(what: str, content: bytes | Blob | Derived, keys: tuple[str, ...] = (), further: int = 0) -> None:
        layout.add(f"{folder}/{what}", what, content, keys=keys, further=further)

    record("data.pkl", pickled)
    record(".format_version", b"1")
    record(".storage_alignment", str(ALIGNMENT).encode())
    record("byteorder", b"little")
    further = _further(layout, folder, pickler.blobs)
    for number, blob in enumerate(pickler.blobs):
        record(f"data/{number}", blob, keys.get(blob, ()), further if number == 0 else 0)
    record("version", b"3\n")
    members = layout.members

    def serialization_id(sums: Sums) -> bytes:
        """Return 40 digits that differ where names or contents do, as torch's do."""
        text = b"".join([member.name + struct.pack("<L", member.crc(sums)) for member in members])
        digest = int.from_bytes(hashlib.sha256(text).digest(), "big")
        return f"{digest % 10**40:040d}".encode()

    record(".data/serialization_id", Derived(40, serialization_id))
    return layout.file(name)


def _further(layout: ZipLayout, folder: str, blobs: Sequence[Blob]) -> int:
    """Return how much further than needed the first storage starts, so that large ones keep their place within pages.

    torch looks up where the first one starts, and derives from that where the others do.
    """
    if not any(blob.nbytes >= WORTH and blob.origin is not None for blob in blobs):
        return 0
    starts = layout.starts((f"{folder}/data/{number}", blob.nbytes) for number, blob in enumerate(blobs))
    placed = ((blob, start) for blob, start in zip(blobs, starts, strict=True) if blob.nbytes >= WORTH)
    return shift(placed, ALIGNMENT) or 0


def _folder(name: str) -> str:
    """Return the name of the folder inside an archive: torch.save takes that of the file, where it is text."""
    stem = name.rpartition(".")[0] or name
    return stem if stem and is_text(stem) else "archive"
