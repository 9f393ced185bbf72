"""The format of safetensors: named tensors of bytes behind a header of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from statex.checkpoint.formats.base import Format, ProbedFile

if TYPE_CHECKING:
    from statex.checkpoint.blobs.write_plan import FilePlan
    from statex.checkpoint.reader import Reader
    from statex.checkpoint.writer import Options


class Safetensors(Format):
    """Names, dtypes and shapes, and texts beside them; each tensor has bytes of its own."""

    name = "safetensors"
    title = "safetensors"
    suffixes = (".safetensors",)
    stem = "model"
    set_suffixes = (".safetensors",)
    keeps_notes = True

    def sniff(self, found: ProbedFile) -> bool:
        """Say whether a file begins with the length of a header, and a brace."""
        from statex.checkpoint.formats.safetensors.file import looks_like_safetensors

        return looks_like_safetensors(found.head, found.file.size)

    def open(self, found: ProbedFile) -> Reader:
        """Return the reader of a file."""
        from statex.checkpoint.formats.safetensors.file import SafetensorsReader

        return SafetensorsReader(found.path, found.file)

    def arrange(self, tree: Any, *, folder: bool) -> Any:
        """Return a flat state, each tensor with bytes of its own."""
        from statex.checkpoint.blobs import layout
        from statex.checkpoint.formats.packed import for_safetensors
        from statex.checkpoint.formats.safetensors.file import check_holdable
        from statex.core.header import TensorInfo

        check_holdable(tree)
        return {key: for_safetensors(layout.alone(v) if isinstance(v, TensorInfo) else v) for key, v in tree.items()}

    def file(self, tree: Any, options: Options, name: str) -> FilePlan:
        """Return the header, and the tensors in the order of the size of their elements."""
        from statex.checkpoint.formats.safetensors.file import laid_out

        return laid_out(tree, options.metadata_texts, name)


SAFETENSORS = Safetensors()
