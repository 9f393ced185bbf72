"""The opened checkpoints of a run: their trees, the headers of their states, and access to their data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.checkpoint import Format, Reader, open_checkpoint
from statex.checkpoint.blobs.walks import leaves
from statex.checkpoint.formats.torch.format import TORCH
from statex.checkpoint.io.input_file import Stored
from statex.core.header import Header, KeyPath, OpaqueInfo, TensorInfo
from statex.core.paths import Address, joined, written
from statex.core.progress import READING, Phases
from statex.core.quoting import IN_MEMORY, show_label
from statex.diagnostics import StatexError, diagnostic, fail, pointing_at
from statex.diagnostics.codes import files as file_codes
from statex.diagnostics.codes import names as name_codes
from statex.session.sources import links_of
from statex.trees.envelope import state_header
from statex.trees.rebuilding import list_on_the_way, occupied, target_at, tree_of
from statex.trees.roots import find_root, root_at

if TYPE_CHECKING:
    from statex.core.source import Span
    from statex.dsl.parts import ProgramPart
    from statex.dsl.plan.graph import SourceKey
    from statex.dsl.resolve import Resolved
    from statex.grammar import tree
    from statex.session.request import InputSpec, Request, State


class Opened:
    """A state given in memory or as a path: its tree, and how its data is had."""

    def __init__(self, state: State, label: str = "") -> None:
        self.reader: Reader | None = None
        self._is_all = isinstance(state, Header)
        self.linked: Mapping[str, str] = {}
        if isinstance(state, str | os.PathLike):
            self.reader = open_checkpoint(state)
            self.linked = links_of(state, [file.path for file in self.reader.files])
            self.tree, self.label = self.reader.tree, Path(os.path.abspath(state)).name
        elif isinstance(state, Header):
            self.tree, self.label = tree_of(state), state.label
        else:
            self.tree, self.label = _described(state), label

    @property
    def format(self) -> Format:
        """The format of the file, or the one that a state in memory would get."""
        return self.reader.format if self.reader is not None else TORCH

    def root(self, given: tree.PathNode | Address | None, span: Span | None = None) -> KeyPath:
        """Return the path of the state: where it is said to be (perhaps by a rule file), or where it is found."""
        if given is None:
            return () if self._is_all else find_root(self.tree, self.label)
        if isinstance(given, str | Sequence):
            return root_at(self.tree, given, self.label, span)
        return root_at(self.tree, given.value, self.label, given.span)

    def header(self, root: tree.PathNode | Address | None) -> Header:
        """Return the header of the state, at a root (perhaps one that a rule file names) or where it is found."""
        return state_header(self.tree, self.root(root), self.label, self.metadata_texts)

    @property
    def left_texts(self) -> Sequence[str]:
        """The names of what stands beside the tensors, and is too long to be kept."""
        return self.reader.left_texts if self.reader is not None else ()

    @property
    def metadata_texts(self) -> Mapping[str, str]:
        """The texts that the checkpoint's format keeps beside the tensors."""
        return self.reader.metadata_texts if self.reader is not None else {}

    def load(self, leaf: Any) -> Any:
        """Return the data of an entry, or what else a leaf of the tree stands for."""
        if self.reader is not None:
            return self.reader.load(leaf)
        return leaf.handle if isinstance(leaf, TensorInfo | OpaqueInfo) else leaf

    def close(self) -> None:
        """Close the file, if it is one."""
        if self.reader is not None:
            self.reader.close()


def _described(state: Any) -> Any:
    """Return the tree of a state in memory.

    Raises:
        StatexError: SX634 for what is not a mapping.
    """
    if not isinstance(state, Mapping):
        what, help = _no_mapping(state)
        headline = f"a state is a mapping of keys to tensors or a path, and this is {what}"
        fail(file_codes.NOT_A_STATE, headline, help=help)
    from statex.execute.live import describe

    return describe(state)


def _no_mapping(state: Any) -> tuple[str, str | tuple[str, ...]]:
    """Return what something is that is not a state, and how to get one of it."""
    name = type(state).__name__
    if hasattr(state, "state_dict"):
        is_module = hasattr(state, "named_parameters")
        called = "module" if is_module else "optimizer" if hasattr(state, "param_groups") else "it"
        return f"the {called if called != 'it' else 'object'} {name}", f"give its state: {called}.state_dict()"
    if isinstance(state, Iterator) or (isinstance(state, list) and all(isinstance(one, tuple) for one in state)):
        return f"of type {name}", "of pairs of keys and tensors, `dict(…)` makes a mapping"
    return f"of type {name}", ()


def header_of(state: State, root: Address | None = None, label: str = "") -> Header:
    """Return the header of a state that is opened for that alone.

    Raises:
        StatexError: 6xx.
    """
    with closing(Opened(state, label)) as opened:
        return opened.header(root)


class Inputs:
    """The checkpoints that a program reads, opened: the one that it changes, and further ones by name."""

    def __init__(self, request: Request, resolved: Resolved, held: Opened | None = None) -> None:
        """Open them all, but for a state that is `held` open already, by one who closes it."""
        self.opened: list[Opened] = []
        self._held = held
        try:
            self._find_state(request.parts, request.state)
            self._open_further(resolved, request.inputs)
            self.optimizers = {name: self._open(one, name) for name, one in request.optimizers.items()}
        except BaseException:
            self.close()
            raise

    def _find_state(self, parts: Sequence[ProgramPart], given: InputSpec) -> None:
        if self._held is None:
            self.main = self._open(given, IN_MEMORY)
        else:
            self.main = self._held
            self.opened.append(self.main)
        held, label = self.main.tree, self.main.label
        stated = _root_statement(parts)
        named = stated.path if stated is not None and given.root is None else given.root
        self.root = self.main.root(named, given.span)
        self.root_target = _put_at(held, self.root, stated, label) if stated is not None else None
        self.flat = self.root_target == () or (stated is not None and stated.flat)
        self.header = state_header(held, self.root, label, self.main.metadata_texts)

    def _open_further(self, resolved: Resolved, inputs: Mapping[str, tuple[InputSpec, ...]]) -> None:
        roots = {s.name.name: s.root for s in resolved.inputs if s.root is not None}
        self._members = {name: [self._open(one, name) for one in members] for name, members in inputs.items()}
        self.headers = {
            name: tuple(
                opened.header(given.root if given.root is not None else roots.get(name))
                for opened, given in zip(self._members[name], members, strict=True)
            )
            for name, members in inputs.items()
        }

    def _open(self, given: InputSpec, label: str) -> Opened:
        from statex.session.expected import check_named

        with pointing_at(given.span):
            opened = Opened(given.state, label)
        self.opened.append(opened)
        if given.format is not None and opened.format.name != given.format:
            fail(
                file_codes.OTHER_FORMAT,
                f"{show_label(opened.label)} is of the format {opened.format.name}, and {given.format} was expected",
                given.span,
            )
        if opened.reader is not None:
            check_named(given, [file.path for file in opened.reader.files])
        return opened

    @property
    def nested_at(self) -> KeyPath | None:
        """Where the result will be, if the state is nested and stays so."""
        if self.flat or not self.header.paths:
            return None
        return self.root if self.root_target is None else self.root_target

    def written_flat(self) -> str:
        """Return the statement that writes the state without dicts in it."""
        # What has no rules, such as `statex show`, has no need of the language.
        from statex.dsl.keys.quoting import show_rules
        from statex.grammar import factory as make

        return show_rules(make.root(written(self.main.tree, self.root), flat=True))

    @property
    def readers(self) -> Iterator[Reader]:
        """The readers of those that are files."""
        return (opened.reader for opened in self.opened if opened.reader is not None)

    @property
    def linked(self) -> Mapping[str, str]:
        """The files of folders that are links to elsewhere, and where these lead."""
        return {path: end for opened in self.opened for path, end in opened.linked.items()}

    @property
    def further_keys(self) -> int:
        """The number of keys that further inputs have."""
        return sum(len(header.entries) for headers in self.headers.values() for header in headers)

    @property
    def index_metadata(self) -> Mapping[str, Any]:
        """What else the index of the checkpoint says of it, if it is a set."""
        return self.main.reader.index_metadata if self.main.reader is not None else {}

    def info(self, key: SourceKey) -> TensorInfo | OpaqueInfo:
        """Return the header's entry of a source."""
        header = self.headers[key.input][key.member] if key.input else self.header
        return header.entries[key.key]

    def load(self, key: SourceKey, info: TensorInfo | OpaqueInfo | None = None) -> Any:
        """Return the data of a source; what was loaded once is kept. `info` is that of what stands beside the state."""
        members = self._members.get(key.input)
        opened = members[key.member] if members is not None else self._beside(key.input)
        return opened.load(self.info(key) if info is None else info)

    def _beside(self, input: str) -> Opened:
        """Return what holds the tensors of something that follows: a file of its own, or the checkpoint itself."""
        return self.optimizers.get(input.removeprefix("(").partition(")")[0], self.main)

    def load_alone(self, key: SourceKey, info: TensorInfo | OpaqueInfo | None = None) -> Any:
        """Return a tensor's data without keeping it, nor more of its storage than it reaches."""
        info = self.info(key) if info is None else info
        if isinstance(info, TensorInfo) and isinstance(info.handle, Stored):
            from statex.checkpoint.materialize import Materializer

            return Materializer(keep=False).tensor(info).detach()
        return self.load(key, info).detach()

    def check_unchanged(self) -> None:
        """Refuse to go on if an input has been written to since it was opened.

        Raises:
            StatexError: SX609.
        """
        for reader in self.readers:
            reader.check_unchanged()

    def check_stored(self, phases: Phases) -> None:
        """Compare what inputs hold with the checksums they record, if that has not been done.

        Raises:
            StatexError: SX604.
        """
        handles = (getattr(leaf, "handle", None) for reader in self.readers for leaf in leaves(reader.tree))
        due = {id(one): one for one in handles if isinstance(one, Stored) and one.unverified}.values()
        added = phases.phase(READING, sum(one.nbytes for one in due))
        for one in due:
            one.check(added)

    def close(self) -> None:
        """Close the files that were opened."""
        for opened in self.opened:
            if opened is not self._held:
                opened.close()


def _put_at(held: Any, root: KeyPath, stated: tree.Root, label: str) -> KeyPath | None:
    """Return where `root … -> …` puts the state, `None` where it stays.

    Raises:
        StatexError: SX619 where something is there, or where the state would leave a list.
    """
    if stated.target is None:
        return None
    span = stated.target.span
    target = target_at(held, root, stated.target.value, span)
    out_of = list_on_the_way(held, root) if target else None
    if out_of is not None:
        fail(
            file_codes.ROOT_TAKEN,
            f"the state stands in the list `{joined(out_of)}`, and what follows it there would move up",
            span,
            help="-> ''   takes the bare state",
        )
    taken = occupied(held, root, target)
    if taken is not None:
        fail(file_codes.ROOT_TAKEN, f"{show_label(label)} has something at `{joined(taken)}` already", span)
    return target


def _root_statement(parts: Sequence[ProgramPart]) -> tree.Root | None:
    from statex.grammar import tree

    found = [s for part in parts for s in part.program.statements if isinstance(s, tree.Root)]
    if len(found) > 1:
        first, second, *_ = found
        raise StatexError(
            [
                diagnostic(
                    name_codes.MISPLACED_ROOT,
                    "the root is given twice",
                    second.span,
                    also=[(first.span, "first here")],
                )
            ]
        )
    return found[0] if found else None
