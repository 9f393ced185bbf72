"""The checkpoints of a run, opened: their trees, the headers of their states, and how their data is had."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from statex import nesting
from statex.checkpoint import Reader, open_checkpoint
from statex.checkpoint.input_file import Stored
from statex.checkpoint.walks import leaves
from statex.diagnostics import StatexError, diagnostic, fail, pointing_at
from statex.diagnostics.codes import files as file_codes
from statex.diagnostics.codes import names as name_codes
from statex.dsl.check import Checked
from statex.dsl.graph import SourceKey
from statex.dsl.parts import Part
from statex.grammar import tree
from statex.header import Header, OpaqueInfo, TensorInfo
from statex.session.expected import check_named
from statex.session.request import InputSpec, Request, State


class Opened:
    """A state given in memory or as a path: its tree, and how its data is had."""

    def __init__(self, state: State, label: str = "") -> None:
        self.reader: Reader | None = None
        if isinstance(state, str | os.PathLike):
            self.reader = open_checkpoint(state)
            self.tree, self.label = self.reader.tree, Path(os.path.abspath(state)).name
        elif isinstance(state, Header):
            self.tree, self.label = _tree_of(state), state.label
        else:
            self.tree, self.label = _described(state), label

    @property
    def format(self) -> str:
        """The format of the file, or the one that a state in memory would get."""
        return self.reader.format if self.reader is not None else "torch"

    def header(self, root: tree.String | str | None) -> Header:
        """Return the header of the state, at a root (perhaps one that a rule file names) or where it is found."""
        path, span = (root.value, root.span) if isinstance(root, tree.String) else (root, None)
        found = nesting.find_root(self.tree, self.label) if path is None else path
        return nesting.state_header(self.tree, found, self.label, span)

    def load(self, leaf: Any) -> Any:
        """Return the data of an entry, or what else a leaf of the tree stands for."""
        if self.reader is not None:
            return self.reader.load(leaf)
        return leaf.handle if isinstance(leaf, TensorInfo | OpaqueInfo) else leaf

    def close(self) -> None:
        """Close the file, if it is one."""
        if self.reader is not None:
            self.reader.close()


def _tree_of(header: Header) -> Any:
    """Return the tree of a state of which the header alone is known."""
    tree: Any = OrderedDict(header.entries)
    if header.metadata is not None:
        tree._metadata = header.metadata
    return tree


def _described(state: Any) -> Any:
    """Return the tree of a state in memory.

    Raises:
        StatexError: SX634 for what is not a mapping.
    """
    if not isinstance(state, Mapping):
        is_module = hasattr(state, "state_dict")
        what = f"the module {type(state).__name__}" if is_module else f"of type {type(state).__name__}"
        fail(
            file_codes.NOT_A_STATE,
            f"a state is a mapping of keys to tensors or a path, and this is {what}",
            help="give its state: module.state_dict()" if is_module else (),
        )
    from statex.execute.live import describe

    return describe(state)


def header_of(state: State, root: str | None = None, label: str = "") -> Header:
    """Return the header of a state that is opened for that alone.

    Raises:
        StatexError: 6xx.
    """
    with closing(Opened(state, label)) as opened:
        return opened.header(root)


class Inputs:
    """The checkpoints that a program reads, opened: the one that it changes, and further ones by name."""

    def __init__(self, request: Request, checked: Checked) -> None:
        self.opened: list[Opened] = []
        try:
            self._find_state(request.parts, request.state)
            self._open_further(checked, request.inputs)
        except BaseException:
            self.close()
            raise

    def _find_state(self, parts: Sequence[Part], given: InputSpec) -> None:
        self.main = self._open(given, "the checkpoint")
        stated = _root_statement(parts)
        self.root_target = stated.target.value if stated is not None and stated.target is not None else None
        named = stated.path if stated is not None and given.root is None else None
        wanted = named.value if named is not None else given.root
        self.root = nesting.find_root(self.main.tree, self.main.label) if wanted is None else wanted
        span = named.span if named is not None else given.span
        self.header = nesting.state_header(self.main.tree, self.root, self.main.label, span)
        taken = nesting.occupied(self.main.tree, self.root, self.root_target)
        if taken is not None and stated is not None:
            what = f"`{self.main.label}` has something at `{taken}` already"
            fail(file_codes.ROOT_TAKEN, what, stated.target.span if stated.target is not None else stated.span)

    def _open_further(self, checked: Checked, inputs: Mapping[str, tuple[InputSpec, ...]]) -> None:
        roots = {s.name.name: s.root for s in checked.inputs if s.root is not None}
        self._members = {name: [self._open(one, name) for one in members] for name, members in inputs.items()}
        self.headers = {
            name: tuple(
                opened.header(given.root if given.root is not None else roots.get(name))
                for opened, given in zip(self._members[name], members, strict=True)
            )
            for name, members in inputs.items()
        }

    def _open(self, given: InputSpec, label: str) -> Opened:
        with pointing_at(given.span):
            opened = Opened(given.state, label)
        self.opened.append(opened)
        if given.format is not None and opened.format != given.format:
            fail(
                file_codes.OTHER_FORMAT,
                f"`{opened.label}` is of the format {opened.format}, and {given.format} was expected",
                given.span,
            )
        if opened.reader is not None:
            check_named(given, [file.path for file in opened.reader.files])
        return opened

    @property
    def readers(self) -> Iterator[Reader]:
        """The readers of those that are files."""
        return (opened.reader for opened in self.opened if opened.reader is not None)

    @property
    def further_keys(self) -> int:
        """The number of keys that further inputs have."""
        return sum(len(header.entries) for headers in self.headers.values() for header in headers)

    @property
    def notes(self) -> Mapping[str, str]:
        """The texts that the checkpoint's format keeps beside the tensors."""
        return self.main.reader.notes if self.main.reader is not None else {}

    @property
    def index(self) -> Mapping[str, Any]:
        """What else the index of the checkpoint says of it, if it is a set."""
        return self.main.reader.index if self.main.reader is not None else {}

    def info(self, key: SourceKey) -> TensorInfo | OpaqueInfo:
        """Return the header's entry of a source."""
        header = self.headers[key.input][key.member] if key.input else self.header
        return header.entries[key.key]

    def load(self, key: SourceKey) -> Any:
        """Return the data of a source; what was loaded once is kept."""
        opened = self._members[key.input][key.member] if key.input else self.main
        return opened.load(self.info(key))

    def load_alone(self, key: SourceKey) -> Any:
        """Return a tensor's data without keeping it, nor more of its storage than it reaches."""
        info = self.info(key)
        if isinstance(info, TensorInfo) and isinstance(info.handle, Stored):
            from statex.checkpoint.materialize import Materializer

            return Materializer(keep=False).tensor(info).detach()
        return self.load(key).detach()

    def check_unchanged(self) -> None:
        """Refuse to go on if an input has been written to since it was opened.

        Raises:
            StatexError: SX609.
        """
        for reader in self.readers:
            reader.check_unchanged()

    def check_stored(self) -> None:
        """Compare what inputs hold with the checksums they record, if that has not been done.

        Raises:
            StatexError: SX604.
        """
        for reader in self.readers:
            for leaf in leaves(reader.tree):
                stored = getattr(leaf, "handle", None)
                if isinstance(stored, Stored):
                    stored.check()

    def close(self) -> None:
        """Close the files that were opened."""
        for opened in self.opened:
            opened.close()


def _root_statement(parts: Sequence[Part]) -> tree.Root | None:
    found = [s for part in parts for s in part.program.statements if isinstance(s, tree.Root)]
    if len(found) > 1:
        first, second, *_ = found
        raise StatexError(
            [
                diagnostic(
                    name_codes.MISPLACED_ROOT,
                    "the root is named twice",
                    second.span,
                    also=[(first.span, "first here")],
                )
            ]
        )
    return found[0] if found else None
