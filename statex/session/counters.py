"""Numbers that an optimizer keeps of each parameter, such as how many steps it has taken: whether they are the same."""

from __future__ import annotations

from collections.abc import Sequence

from statex.checkpoint.io.input_file import Stored
from statex.core.header import RawType, TensorInfo
from statex.session.opened import Opened


def same_numbers(opened: Opened, infos: Sequence[TensorInfo]) -> bool:
    """Say whether tensors of a checkpoint hold the same; single numbers are read without torch.

    Raises:
        StatexError: SX604 for data that does not have the checksum that the file records.
    """
    first, *others = infos
    if not others:
        return True
    if any(one.type != first.type for one in others):
        return False
    bits = [_bits(one) for one in infos]
    if None not in bits:
        return len({*bits}) == 1
    import torch

    loaded, *rest = [opened.load(info) for info in infos]
    return all(torch.equal(one, loaded) for one in rest)


def _bits(info: TensorInfo) -> bytes | None:
    """Return the bytes of a single number in a file; `None` for everything else."""
    stored, kind = info.handle, info.type
    if not isinstance(stored, Stored) or isinstance(kind, RawType) or kind.numel != 1 or kind.dtype.block is not None:
        return None
    stored.check()
    return stored.extent.file.read(stored.extent.offset + info.offset * kind.dtype.itemsize, kind.dtype.itemsize)
