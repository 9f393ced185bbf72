"""Lays out the archives of torch.save, byte for byte as torch does.

The offsets have to be torch's, as `calculate_storage_offsets` derives them from sizes alone.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from statex.checkpoint.contents import Blob, Moved
from statex.checkpoint.objects import Storage
from statex.checkpoint.pickle_writer import PickleWriter
from statex.checkpoint.strict_json import is_text
from statex.checkpoint.write_plan import Derived, FilePlan, Sums, keys_of
from statex.checkpoint.zip_layout import ALIGNMENT, ZipLayout

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

    def record(what: str, content: bytes | Blob | Derived, keys: tuple[str, ...] = ()) -> None:
        layout.add(f"{folder}/{what}", what, content, keys=keys)

    record("data.pkl", pickled)
    record(".format_version", b"1")
    record(".storage_alignment", str(ALIGNMENT).encode())
    record("byteorder", b"little")
    for number, blob in enumerate(pickler.blobs):
        record(f"data/{number}", blob, keys.get(blob, ()))
    record("version", b"3\n")
    members = layout.members

    def serialization_id(sums: Sums) -> bytes:
        """Return 40 digits that differ where names or contents do, as torch's do."""
        text = b"".join([member.name + struct.pack("<L", member.crc(sums)) for member in members])
        digest = int.from_bytes(hashlib.sha256(text).digest(), "big")
        return f"{digest % 10**40:040d}".encode()

    record(".data/serialization_id", Derived(40, serialization_id))
    return layout.file(name)


def _folder(name: str) -> str:
    """Return the name of the folder inside an archive: torch.save takes that of the file, where it is text."""
    stem = name.rpartition(".")[0] or name
    return stem if stem and is_text(stem) else "archive"
