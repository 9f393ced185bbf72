"""The public functions for checkpoints: convert, verify, compare, infer, open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statex.core.header import Header
from statex.core.paths import Address
from statex.core.progress import Progress, teller
from statex.core.source import Source
from statex.diagnostics import fail
from statex.diagnostics.codes import target as target_codes
from statex.rules import Rules, compile, outside, requested
from statex.session.lazy import Checkpoint
from statex.session.opened import header_of
from statex.session.paramnames import ParamNames
from statex.session.request import InputSpec, OutputSpec, PathLike, Policy, Request, State, TargetSpec
from statex.session.session import Session

if TYPE_CHECKING:
    from statex.execute.verify.verification import Comparison
    from statex.inferring.infer import Inferred
    from statex.session.compared import Compared
    from statex.session.conversion import Conversion


def convert(
    source: State,
    destination: PathLike,
    rules: Any,
    *,
    inputs: Mapping[str, State | Sequence[State]] | None = None,
    target: Any = None,
    like: State | None = None,
    root: Address | None = None,
    params: Mapping[str, Any] | None = None,
    param_names: ParamNames | None = None,
    optimizer: tuple[PathLike, PathLike] | None = None,
    format: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    shard_size: int | None = None,
    copy_files: bool = False,
    update_config: bool = True,
    stem: str | None = None,
    max_memory: int | None = None,
    check_input: bool = False,
    verify_written: bool = False,
    keep_foreign: bool = False,
    reversible: bool = False,
    progress: Callable[[Progress], None] | Callable[[int, int], None] | None = None,
) -> Conversion:
    """Convert a checkpoint; the output appears whole and verified, or not at all.

    A source is a file, an index of shards, a folder that holds either, or a state in memory. `rules` are what `compile`
    takes: text, a path, `Rules`, or several of these. A destination whose name ends in `/` (or has no file ending, if
    the source is a folder or `shard_size` is given) is a folder of shards of at most `shard_size` bytes, 5 × 10⁹ unless
    given; `copy_files` also copies files that are not weights, and with `update_config` a `config.json` among them
    states the new dtype of the tensors. Weight files are named like those of the source
    (`diffusion_pytorch_model.safetensors`), or after a `stem`. `format` is `torch`, `safetensors`, `dcp` or `npz`; by
    default the ending of the name decides. `force` replaces an existing output. With `dry_run` everything is checked,
    but nothing is computed or written. `max_memory` is in bytes. `check_input` compares all input bytes with the
    checksums that a torch file records for them, `verify_written` reads the output again and compares it.
    `optimizer` names a file with the state of an optimizer, and the one that is written of it, to which the same rules
    are applied; `param_names` are the names of its parameters by group, where it does not tell itself.
    `keep_foreign` keeps objects that statex does not load, such as those of your own classes, in torch files as they
    were read; without it they are an error (SX640). A `reversible` conversion also writes the rules that undo it, and
    the tensors that it loses: `out.back.sx` and `out.lost.safetensors` for `out.pth`. `progress` is called with a
    `Progress` in all phases of the run; a function of two arguments is called with the bytes written so far and those
    to be written.

    Raises:
        StatexError: as `Rules.apply`, and 6xx for files.
    """
    from statex.session.conversion import carry_out

    request = to_file(
        requested(compile(rules), source, inputs, target, like, root, params or {}, param_names), destination,
        format=format, force=force, dry_run=dry_run, shard_size=shard_size, copy_files=copy_files,
        max_memory=max_memory, check_input=check_input, verify_written=verify_written, keep_foreign=keep_foreign,
        stem=stem, update_config=update_config,
    )  # fmt: skip
    request = replace(request, policy=replace(request.policy, reversible=reversible))
    if optimizer is not None:
        old, new = optimizer
        beside = OutputSpec(new, "optimizer", optimizer="optimizer")
        request = replace(request, optimizers={"optimizer": InputSpec(old)}, outputs=(*request.outputs, beside))
    return carry_out(request, teller(progress))


def to_file(
    request: Request,
    destination: PathLike,
    *,
    format: str | None,
    force: bool,
    dry_run: bool,
    shard_size: int | None,
    copy_files: bool,
    max_memory: int | None,
    check_input: bool,
    verify_written: bool,
    keep_foreign: bool = False,
    stem: str | None = None,
    update_config: bool = True,
) -> Request:
    """Return a request with one output; the arguments are those of `convert`."""
    policy = Policy(
        replace="always" if force else "never",
        max_memory=max_memory,
        check_input=check_input,
        verify_written=verify_written,
        keep_foreign=keep_foreign,
        dry_run=dry_run,
    )
    output = OutputSpec(
        destination, format=format, shard_size=shard_size, copy_files=copy_files, stem=stem, update_config=update_config
    )
    return replace(request, outputs=(output,), policy=policy)


def verify(state: State, target: Any = None, *, like: State | None = None, root: Address | None = None) -> Comparison:
    """Compare a state with a module (or `"module:callable"`) or another checkpoint, and actually load it.

    `target` may also be a state_dict or the path of a checkpoint. A module that is passed is not changed.

    Raises:
        StatexError: SX501 with the keys that are missing, unexpected, or of the wrong shape or dtype; SX504 if torch
            refuses.
    """
    if target is None and like is None:
        fail(target_codes.NO_TARGET, "there is nothing to verify against")
    with Session(Request(InputSpec(state, root), target=TargetSpec(target, like))) as session:
        return session.whole.verify()


def compare(state: State, target: Any = None, *, like: State | None = None, root: Address | None = None) -> Comparison:
    """Compare keys, shapes and dtypes of a state with a module (or `"module:callable"`), or with another checkpoint.

    The result lists the differences: `missing`, `unexpected` and `different` by keys, and `fits`. `verify` raises
    instead.

    Raises:
        StatexError: SX502 and SX503 for a target that cannot be loaded, 6xx for files.
    """
    from statex.execute.verify.verification import compare as compare_types
    from statex.execute.verify.verification import types_of

    if target is None and like is None:
        fail(target_codes.NO_TARGET, "there is nothing to compare with")
    with Session(Request(InputSpec(state, root), target=TargetSpec(target, like))) as session:
        assert session.target is not None
        header = session.inputs.header
        return compare_types(types_of(header.entries), session.target, paths=header.paths)


def diff(
    first: PathLike,
    second: PathLike,
    *,
    rules: Any = (),
    values: bool = True,
    rtol: float = 0.0,
    atol: float = 0.0,
    params: Mapping[str, Any] | None = None,
) -> Compared:
    """Compare two checkpoint files: keys, shapes and dtypes, and the values, in pieces.

    With `rules`, they are applied to the first one. Numbers `a` of the first and `b` of the second agree if
    `|a - b| <= atol + rtol * |b|`, if one of these is given; otherwise only equal bits agree.

    Raises:
        StatexError: as `Rules.plan`, and 6xx for files.
    """
    from statex.session.bare import Bare
    from statex.session.compared import compared

    one = Session(requested(compile(rules), first, None, None, None, None, params or {}))
    with one, Bare(Path(second)) as other:
        return compared(one, other, values=values, rtol=rtol, atol=atol)


def infer(
    old: State,
    new: State | None = None,
    *,
    root: Address | None = None,
    new_root: Address | None = None,
    target: Any = None,
    like: State | None = None,
    inputs: Mapping[str, State] | None = None,
    start: Rules | str | PathLike | None = None,
    params: Mapping[str, Any] | None = None,
) -> Inferred:
    """Find the rules that make one checkpoint of another, and prove them by applying them.

    The result has the text of the `rules`, whether they are `proved`, and the `unexplained` keys, each with the old key
    that is most like it. Both are paths or states in memory; `root` and `new_root` say where in them their states are.

    Tensors may also come from further `inputs`. With rules to `start` from, these are where the program begins, and
    only what they leave to do is added; `params` are values for their parameters.

    In place of `new`, `target` is a model or `"module:callable"`, and `like` a checkpoint whose names, shapes and
    dtypes count alone: then rules are guessed, and nothing is proved.

    Raises:
        StatexError: 5xx for a model that cannot be had, 6xx for files.
        TypeError: if not exactly one of `new`, `target` and `like` is given, there are `inputs` or a `start` for
            rules that are guessed, or `params` without a `start`.
    """
    from statex.inferring.infer import guess
    from statex.inferring.infer import infer as inferred

    if sum(one is not None for one in (new, target, like)) != 1:
        raise TypeError("give exactly one of `new`, `target` and `like`")
    if params and start is None:
        raise TypeError("`params` are for the rules to `start` from")
    if new is not None:
        begun, given = _one_text(start), outside(params or {})
        return inferred(old, new, root=root, new_root=new_root, inputs=inputs, start=begun, given=given)
    if inputs or start is not None:
        raise TypeError("`inputs` and `start` need `new`: without its data, nothing shows what was made of what")
    return guess(old, TargetSpec(target, like), root=root)


def _one_text(rules: Rules | str | PathLike | None) -> Source | None:
    """Return the text of rules that are one text."""
    if rules is None:
        return None
    parts = compile(rules).parts
    if len(parts) != 1:
        raise TypeError(f"a program starts from one text, and these rules are {len(parts)}")
    return parts[0].program.source


def open(path: PathLike, *, root: Address | None = None) -> Checkpoint:
    """Open a checkpoint as a mapping whose tensors are read on demand; a context manager.

    `with statex.open("model.safetensors") as state: state["linear.weight"]`; `state.header` has all dtypes and shapes.

    Raises:
        StatexError: 6xx.
    """
    return Checkpoint(path, root)


def read_header(path: PathLike, *, root: Address | None = None) -> Header:
    """Return the keys, types and storage of a checkpoint's state, and the plain values around it.

    Raises:
        StatexError: 6xx.
    """
    return header_of(path, root)
