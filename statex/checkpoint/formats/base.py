"""The interface of a format: its name, how to recognise and open a file, what it can hold, and its layout."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from statex.checkpoint.io.input_file import InputFile

if TYPE_CHECKING:
    from statex.checkpoint.blobs.write_plan import FilePlan, WritePlan
    from statex.checkpoint.formats.zip_directory import ZipDirectory
    from statex.checkpoint.reader import Reader
    from statex.checkpoint.writer import Options

_HEAD = 512


class ProbedFile:
    """A file whose format is to be told: its first bytes, and its directory if it is an archive."""

    def __init__(self, path: Path, file: InputFile) -> None:
        self.path = path
        self.file = file
        self.head = file.read(0, min(_HEAD, file.size))

    @cached_property
    def archive(self) -> ZipDirectory | None:
        """The directory of a zip archive, `None` if it is none.

        Raises:
            StatexError: SX604 for an archive that is damaged.
        """
        from statex.checkpoint.formats.zip_directory import LOCAL, ZipDirectory

        return ZipDirectory(self.file) if self.head.startswith(LOCAL) else None


class Format:
    """A format of checkpoints. Each exists once, and is compared by identity.

    What takes time to import is imported by the methods that need it: most commands need one format. A format has the
    methods that its flags promise: `open` or, with `sniff_folder`, `open_folder`; `arrange` and `file` or `layout`
    where it `is_written`.
    """

    name: ClassVar[str]
    """What `--format` and reports call it."""
    title: ClassVar[str]
    """What messages call it."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """The endings of names that mean it for an output."""
    stem: ClassVar[str] = ""
    """What files in a folder are called if nothing says otherwise; empty where it has no sets of files."""
    set_suffixes: ClassVar[tuple[str, ...]] = ()
    """The endings of files in a set, the usual one first."""
    is_written: ClassVar[bool] = True
    """False for a format that is only read."""
    is_folder: ClassVar[bool] = False
    """True where an output is a folder whose files have names of their own."""
    shares: ClassVar[bool] = False
    """True where tensors can share memory: tied ones are written once."""
    holds_objects: ClassVar[bool] = False
    """True where there is a place for values of Python beside tensors, foreign objects among them."""
    keeps_metadata: ClassVar[bool] = False
    """True where `_metadata` stays as it is; elsewhere the versions of layouts alone are kept."""
    keeps_parameters: ClassVar[bool] = False
    """True where Parameters stay Parameters, with their `requires_grad`; elsewhere they are read as tensors."""
    keeps_notes: ClassVar[bool] = False
    """True where there is a place for texts beside the tensors."""
    records_checksums: ClassVar[bool] = False
    """True where the CRC-32 of every tensor's bytes is recorded."""
    by_torch: ClassVar[bool] = False
    """True where torch writes it, which gets each tensor as a whole, and does not say where it puts it."""

    def __repr__(self) -> str:
        return f"<the format {self.name}>"

    @property
    def successor(self) -> Format:
        """The format that a checkpoint of this one is written in where nothing says which."""
        return self

    @property
    def has_sets(self) -> bool:
        """True where a folder can hold a set of its files."""
        return bool(self.stem)

    def sniff(self, found: ProbedFile) -> bool:
        """Say whether the content of a file is of this format."""
        return False

    def sniff_folder(self, folder: Path) -> bool:
        """Say whether a folder is a checkpoint of this format."""
        return False

    def open(self, found: ProbedFile) -> Reader:
        """Return the reader of a file of this format.

        Raises:
            StatexError: SX603 where it would run code, SX604 where it is damaged.
        """
        self._has_no("files")

    def open_folder(self, folder: Path) -> Reader:
        """Return the reader of a folder of this format; errors as `open`."""
        self._has_no("folders")

    def arrange(self, tree: Any, *, folder: bool) -> Any:
        """Return a tree with `OutTensor`s in place of the tensors of inputs, as a file or a set of files has them.

        Raises:
            StatexError: SX614 for what it cannot hold.
        """
        self._has_no("outputs")

    def layout(self, tree: Any, options: Options) -> WritePlan:
        """Return what an output of an arranged tree will be, from sizes alone.

        Raises:
            StatexError: SX614 for what it cannot hold.
        """
        from statex.checkpoint.blobs.write_plan import WritePlan

        if options.folder:
            from statex.checkpoint.sets import files_of_set

            return WritePlan(self, tree, tuple(files_of_set(self, tree, options)))
        return WritePlan(self, tree, (self.file(tree, options, options.name),))

    def file(self, tree: Any, options: Options, name: str) -> FilePlan:
        """Return what a file of an arranged tree will be; errors as `layout`."""
        self._has_no("outputs of one file")

    def _has_no(self, what: str) -> NoReturn:
        raise AssertionError(f"{self!r} has no {what}, as its flags say")

    def write_folder(self, folder: Path, plan: WritePlan, options: Options) -> None:
        """Write an output into its folder.

        Raises:
            StatexError: SX604 for an input whose checksums do not agree.
            OSError: whatever the system refuses.
        """
        from statex.checkpoint.writer import write_files

        write_files(folder, plan, options)
