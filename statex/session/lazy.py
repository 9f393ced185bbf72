"""A checkpoint as a mapping whose tensors are read on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from statex.core.header import Header, OpaqueInfo, TensorInfo
from statex.core.paths import Address
from statex.core.quoting import show_label
from statex.diagnostics.suggest import did_you_mean
from statex.dsl.plan.metadata import Metadata, copied
from statex.session.opened import Opened
from statex.session.request import InputSpec, PathLike, Request
from statex.session.session import settled


class Checkpoint(Mapping[str, Any]):
    """The state of a checkpoint, by its keys; a context manager that closes its files.

    `checkpoint["linear.weight"]` reads that tensor, as `torch.load` would give it, anew each time; `header` has all
    types without reading any. Entries that are not tensors are returned as they are.
    `model.load_state_dict(checkpoint)` finds the `_metadata` of modules, including versions of layouts.

    Raises:
        StatexError: 6xx for its files.
        KeyError: for a key that it does not have, with the nearest one.
    """

    def __init__(self, path: PathLike, root: Address | None = None) -> None:
        settled(Request(InputSpec(path)))
        self._opened = Opened(path)
        try:
            self.header: Header = self._opened.header(root)
        except BaseException:
            self._opened.close()
            raise

    @property
    def _metadata(self) -> Metadata | None:
        """The notes of `state_dict()` about modules, for `load_state_dict`; a copy, because that writes into it."""
        found = self.header.metadata
        return copied(found) if found is not None else None

    def __getitem__(self, key: str) -> Any:
        info = self.header.entries.get(key)
        if info is None:
            raise KeyError(_unknown(key, self.header))
        return self._load(info)

    def _load(self, info: TensorInfo | OpaqueInfo) -> Any:
        from statex.checkpoint.io.input_file import Stored

        if isinstance(info, TensorInfo) and isinstance(info.handle, Stored):
            from statex.checkpoint.materialize import Materializer

            return Materializer(keep=False).tensor(info)
        return self._opened.load(info)

    def __iter__(self) -> Iterator[str]:
        return iter(self.header.entries)

    def __len__(self) -> int:
        return len(self.header.entries)

    def __contains__(self, key: object) -> bool:
        return key in self.header.entries

    def __repr__(self) -> str:
        return f"<statex.Checkpoint {self.header.label}: {len(self)} keys>"

    def close(self) -> None:
        """Close its files; a second call does nothing."""
        self._opened.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _unknown(key: str, header: Header) -> str:
    near = did_you_mean(key, list(header.entries)[:20_000])
    return f"{show_label(header.label)} has no `{key}`" + (f"; did you mean `{near[0]}`?" if near else "")
