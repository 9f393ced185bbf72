"""Statements about the values around the state: `set`, `add` and `drop` of `value(…)` and `metadata(…)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from statex.core.dtypes import DType
from statex.core.header import STAMP, KeyPath
from statex.core.paths import as_list, has, in_rules, is_below, joined, number
from statex.core.source import Span
from statex.core.surroundings import DEPTH, Edit, address_of, found_at, value_in
from statex.diagnostics import StatexError, fail
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import keys as codes
from statex.diagnostics.codes import names as name_codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.dsl.compile.around import kind_at
from statex.dsl.compile.compiler import Compiler
from statex.dsl.compile.state import Outcome
from statex.dsl.expressions.evaluate import Context, Evaluator
from statex.dsl.expressions.scope import Scope
from statex.dsl.keys.quoting import show_rules, show_text
from statex.dsl.keys.regex_help import inside_help
from statex.dsl.ops.base import show_value
from statex.dsl.plan.plan import Change
from statex.dsl.values import PatternValue, Value, has_tensor, is_unknown, kind_of
from statex.grammar import factory as make
from statex.grammar import tree
from statex.trees.rebuilding import edited, known_heads
from statex.trees.roots import two_readings

_OWN = ("format", STAMP)
"""Texts of the metadata that statex writes by itself."""


def set_value(compiler: Compiler, node: tree.SetValue, scope: Scope) -> Outcome:
    """Return what a `set` comes to that gives new values to what stands around the state."""
    edits: list[Edit] = []
    value = _evaluated(compiler, node.value, scope)
    for place in node.places:
        with compiler.reporting():
            path = _to_set(compiler, place)
            _check_apart(path, edits, place.span)
            edits.append(_edit(compiler, "set", place, path, _stored(value, place, node.value.span)))
    return _outcome(compiler, "set", node.span, _once(edits))


def add_value(compiler: Compiler, node: tree.AddValue, scope: Scope) -> Outcome:
    """Return what an `add` comes to that makes a value around the state, or a text of the metadata."""
    value = _evaluated(compiler, node.value, scope)
    edits = []
    with compiler.reporting():
        path = _to_add(compiler, node.place)
        edits.append(_edit(compiler, "added", node.place, path, _stored(value, node.place, node.value.span)))
    return _outcome(compiler, "add", node.span, edits)


def drop_value(compiler: Compiler, node: tree.DropValue, scope: Scope) -> Outcome:
    """Return what a `drop` comes to that leaves out what stands around the state, or texts of the metadata."""
    edits = []
    for place in node.places:
        with compiler.reporting():
            paths = _to_drop(compiler, place, scope, node.optional)
            edits += [_edit(compiler, "left out", place, path) for path in paths]
    # What stands further in, or behind in a list, goes first: the paths of the others stay what they are.
    edits.sort(key=lambda one: (-len(one.path), -last if isinstance(last := one.path[-1], int) else 0))
    return _outcome(compiler, "drop", node.span, _once(edits))


def _edit(compiler: Compiler, kind: Any, place: tree.Around, path: KeyPath, value: Any = None) -> Edit:
    if isinstance(place, tree.MetadataOf):
        return Edit("metadata", kind, path, str(path[0]), compiler.step, value)
    edit = Edit("value", kind, path, "", compiler.step, value)
    # What is added is called by what it is once it is there.
    held = edited(compiler.around.tree, [edit]) if kind == "added" else compiler.around.tree
    return replace(edit, address=address_of(held, path))


def _check_apart(path: KeyPath, edits: Sequence[Edit], span: Span) -> None:
    """Refuse two writes of one statement, one of which would be in what the other one writes.

    Raises:
        StatexError: SX302.
    """
    for one in edits:
        if is_below(path, one.path) or is_below(one.path, path):
            inner, outer = sorted((joined(path), one.address), key=len, reverse=True)
            fail(codes.COLLISION, f"`{inner}` is inside `{outer}`, and both are set at once", span)


def _once(edits: Sequence[Edit]) -> list[Edit]:
    return list({(one.of, one.path): one for one in edits}.values())


def _outcome(compiler: Compiler, verb: str, span: Span, edits: Sequence[Edit]) -> Outcome:
    compiler.around.apply(edits)
    kinds = {"value": "value", "metadata": "text"}
    changes = [
        Change(one.kind if one.kind == "left out" else f"{kinds[one.of]} {one.kind}", (), (one.name,)) for one in edits
    ]
    return Outcome(verb, span, tuple(changes))


# --- values -----------------------------------------------------------------------------------------------------


def _evaluated(compiler: Compiler, node: tree.Expr, scope: Scope) -> Value:
    value = Evaluator(compiler, scope, Context()).value(node)
    if is_unknown(value):
        raise StatexError(())
    return value


def _stored(value: Value, place: tree.Around, span: Span) -> Any:
    """Return what is stored of a value.

    Raises:
        StatexError: SX331.
    """
    if isinstance(place, tree.MetadataOf):
        text = value.text if isinstance(value, PatternValue) else value
        if not isinstance(text, str):
            _not_text(value, span)
        if not _is_text(text):
            fail(codes.NOT_STORABLE, "the text has half a character, which UTF-8 has no bytes for", span)
        return text
    return _plain(value, span)


def _plain(value: Value, span: Span, depth: int = 0) -> Any:
    if depth > DEPTH:
        fail(codes.NOT_STORABLE, f"the value is nested more than {DEPTH} deep", span)
    if isinstance(value, PatternValue):
        return value.text
    if isinstance(value, tuple) and not has_tensor(value):
        return [_plain(one, span, depth + 1) for one in value]
    if isinstance(value, Mapping):
        return {name: _plain(one, span, depth + 1) for name, one in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    fail(
        codes.NOT_STORABLE,
        f"a value around the state is a number, text, bool, none, list or dict, and this is {kind_of(value)}",
        span,
        help=f"write '{value.name}'" if isinstance(value, DType) else _ASK,
    )


_ASK = "ask for what the header knows: `shape(…)`, `numel(…)`"


def _not_text(value: Value, span: Span) -> NoReturn:
    is_scalar = isinstance(value, int | float | bool | DType)
    fail(
        codes.NOT_STORABLE,
        f"metadata holds text only, and this is {kind_of(value)}",
        span,
        help=f"write {show_text(value.name if isinstance(value, DType) else show_value(value))}" if is_scalar else (),
    )


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# --- places -----------------------------------------------------------------------------------------------------


def _to_set(compiler: Compiler, place: tree.Around) -> KeyPath:
    if isinstance(place, tree.MetadataOf):
        name = _own_name(place)
        if name not in compiler.around.metadata_texts:
            _no_text(compiler, place, (f"`{show_rules(make.add_value(place, make.gap()))}` makes a new one",))
        return (name,)
    _check_bare(compiler, place.span)
    path = _only(compiler, place)
    if path is None and compiler.around.is_all:
        _is_all(compiler, _text(place.path), place.path.span, "set")
    if path is None:
        _missing(compiler, place, "set", f"`{show_rules(make.add_value(place, make.gap()))}` makes a new one")
    _check_outside(compiler, path, place.path.span, "set")
    return path


def _to_drop(compiler: Compiler, place: tree.Around, scope: Scope, optional: bool) -> list[KeyPath]:
    if isinstance(place, tree.MetadataOf):
        return _texts(compiler, place, scope, optional)
    path = _only(compiler, place)
    if path is None:
        if not optional:
            _missing(compiler, place, "drop", "if it may be absent: `drop?`")
        return []
    _check_outside(compiler, path, place.path.span, "drop")
    _check_list(compiler, path, place.path.span)
    return [path]


def _texts(compiler: Compiler, place: tree.MetadataOf, scope: Scope, optional: bool) -> list[KeyPath]:
    texts = compiler.around.metadata_texts
    if place.pattern.kind is tree.PatternKind.REGEX:
        pattern = compiler.pattern(place.pattern, scope, placed=False)
        # The library writes them in another order each time.
        found = sorted(name for name in texts if name != "format" and pattern.match(name) is not None)
    else:
        name = place.pattern.text
        found = [name] if name in texts and name != "format" else []
        if name == "format":
            _own_name(place)
    if not found and not optional:
        regex = place.pattern.kind is tree.PatternKind.REGEX
        inside = inside_help(compiler.pattern(place.pattern, scope, placed=False), texts, "name") if regex else ()
        _no_text(compiler, place, (*inside, "if it may be absent: `drop?`"))
    return [(name,) for name in found]


def _own_name(place: tree.MetadataOf) -> str:
    """Return the name of a text that rules may write.

    Raises:
        StatexError: SX332 for those that statex writes, SX331 for what is no text.
    """
    name = place.pattern.text
    if name in _OWN:
        what = "is always `pt`" if name == "format" else "keeps versions of layouts"
        fail(codes.NOT_AROUND, f"`{name}` {what}: statex writes it itself", place.span)
    if not _is_text(name):
        fail(codes.NOT_STORABLE, "the name has half a character, which UTF-8 has no bytes for", place.span)
    return name


def _no_text(compiler: Compiler, place: tree.MetadataOf, hints: Sequence[str]) -> NoReturn:
    names = [name for name in compiler.around.metadata_texts if name not in _OWN]
    is_regex = place.pattern.kind is tree.PatternKind.REGEX
    near = [] if is_regex else [show_text(one) for one in did_you_mean(place.pattern.text, names)]
    what = f"no text in the metadata matches {place.pattern.span.text}"
    fail(
        name_codes.VALUE_MISSING,
        what if is_regex else f"the metadata has no text `{place.pattern.text}`",
        place.span,
        notes=[f"it has {join_words([f'`{one}`' for one in names], limit=6)}"]
        if names
        else ["the checkpoint has no metadata"],
        help=[*([f"did you mean `metadata({near[0]})`?"] if near else []), *hints],
    )


def _text(path: tree.PathNode) -> str:
    return path.value if isinstance(path.value, str) else as_list(tuple(path.value))


def _only(compiler: Compiler, place: tree.ValueOf) -> KeyPath | None:
    """Return the one path that a place can be read as, `None` where nothing stands there."""
    around, given = compiler.around, place.path
    found = found_at(around.tree, given.value)
    if len(found) > 1:
        two_readings(_text(given), found, given.span, "value({})")
    if not found:
        return None
    (path,) = found
    for count in range(1, len(path)):
        inner = value_in(around.tree, path[:count])
        if not has(inner, path[count]):
            rule = show_rules(make.drop_value(make.value_of(around.address(path[:count]))))
            fail(
                codes.NOT_AROUND,
                f"what {kind_at(inner)} holds can be asked for, and not be changed",
                given.span,
                help=f"`{rule}` leaves it out as a whole",
            )
    return path


def _check_bare(compiler: Compiler, span: Span) -> None:
    if compiler.around.bare:
        fail(codes.NOT_AROUND, "`root … -> ''` writes the bare state, with nothing around it", span)


def _check_outside(compiler: Compiler, path: KeyPath, span: Span, verb: str) -> None:
    """Refuse a path to the state, into it, or to what it stands in.

    Raises:
        StatexError: SX332.
    """
    around, taken = compiler.around, compiler.around.taken
    text = joined(path)
    if around.is_all:
        _is_all(compiler, joined(path), span, verb)
    if path == taken:
        fail(codes.NOT_AROUND, f"`{text}` is the state itself", span)
    if is_below(path, taken):
        fail(
            codes.NOT_AROUND,
            f"`{text}` is inside the state",
            span,
            help=_by_key(compiler, joined(path[len(taken) :]), verb),
        )
    if is_below(taken, path):
        what = f"the state stands in `{text}`" if text else "this is all of the checkpoint, which the state stands in"
        fail(codes.NOT_AROUND, what, span)


def _is_all(compiler: Compiler, text: str, span: Span, verb: str) -> NoReturn:
    is_key = text in compiler.state.entries
    what = f"`{text}` is a key of the state" if is_key else "nothing stands around the state"
    fail(
        codes.NOT_AROUND,
        f"{what}, which is all of the checkpoint",
        span,
        help=_by_key(compiler, text, verb) or f"`{show_rules(make.root('', 'model'))}` puts it into a dict",
    )


def _by_key(compiler: Compiler, key: str, verb: str) -> tuple[str, ...]:
    """Return what does to a key of the state what a statement would do."""
    entry = compiler.state.entries.get(key)
    if entry is None or (verb != "drop" and not entry.is_tensor):
        return ()
    pattern = make.key(key)
    if verb == "drop":
        return (show_rules(make.drop(pattern)),)
    return (f"`{show_rules(make.assign(pattern, make.gap()))}` gives it a new value",)


def _check_list(compiler: Compiler, path: KeyPath, span: Span) -> None:
    """Refuse to drop an item of a list that the state stands in: it would move up."""
    around = compiler.around
    outer = path[:-1]
    if is_below(around.taken, outer) and not isinstance(value_in(around.tree, outer), Mapping):
        rule = show_rules(make.assign_value(make.value_of(around.address(path)), make.name("none")))
        fail(
            codes.NOT_AROUND,
            f"the state stands in the list `{joined(outer)}`, and what follows `{joined(path)}` there would move up",
            span,
            help=f"`{rule}` keeps the places",
        )


def _missing(compiler: Compiler, place: tree.ValueOf, verb: str, hint: str) -> NoReturn:
    names, text = compiler.around.names(), _text(place.path)
    near = did_you_mean(text, names)
    outer = [f"`{name}`" for name in compiler.around.outer()]
    hints = [f"did you mean `value({in_rules(near[0])})`?"] if near else []
    fail(
        name_codes.VALUE_MISSING,
        f"there is no value at `{text}` around the state",
        place.span,
        notes=[f"around it are {join_words(outer, limit=6)}"] if outer else (),
        help=_by_key(compiler, text, verb) or [*hints, hint],
    )


# --- new places -------------------------------------------------------------------------------------------------


def _to_add(compiler: Compiler, place: tree.Around) -> KeyPath:
    around = compiler.around
    if isinstance(place, tree.MetadataOf):
        name = _own_name(place)
        if name in around.metadata_texts:
            _exists(f"the metadata already has a text `{name}`", place.span, place)
        return (name,)
    _check_bare(compiler, place.span)
    span = place.path.span
    if around.is_all:
        _is_all(compiler, _text(place.path), span, "add")
    there = _only(compiler, place)
    path = there if there is not None else _new_path(compiler, place.path)
    _check_outside(compiler, path, span, "add")
    if there is not None:
        name = around.address(there)
        what = kind_at(value_in(around.tree, there))
        _exists(f"`{name}` already exists: it is {what}", span, make.value_of(name))
    _check_room(compiler, path, span)
    return path


def _exists(headline: str, span: Span, place: tree.Around) -> NoReturn:
    rule = show_rules(make.assign_value(place, make.gap()))
    fail(codes.VALUE_EXISTS, headline, span, help=f"`{rule}` gives it a new value")


def _new_path(compiler: Compiler, given: tree.PathNode) -> KeyPath:
    """Return the path that an address stands for where nothing is: what is not there yet is one dict a segment."""
    if not isinstance(given.value, str):
        return tuple(given.value)
    around, text = compiler.around, given.value
    found = known_heads(around.tree, text) or [((), text)]
    best = [(head, rest) for head, rest in found if len(rest) == len(found[0][1])]
    if len(best) > 1:
        two_readings(text, [(*head, *rest.split(".")) for head, rest in best], given.span, "value({})")
    ((head, rest),) = best
    first, *others = rest.split(".")
    if not all((first, *others)):
        fail(
            codes.NOT_AROUND,
            f"`{text}` has an empty segment",
            given.span,
            help=f"if a key is empty: value({as_list((*head, first, *others))})",
        )
    return (*head, _as_part(value_in(around.tree, head), first), *others)


def _as_part(container: Any, text: str) -> str | int:
    """Return the key or place that a segment is in a container: an int in lists, and where all others are ints."""
    place = number(text)
    ints = isinstance(container, Mapping) and bool(container) and all(type(key) is int for key in container)
    return place if place is not None and (ints or not isinstance(container, Mapping)) else text


def _check_room(compiler: Compiler, path: KeyPath, span: Span) -> None:
    """Refuse a path through what holds nothing by name, and one beyond the end of a list.

    Raises:
        StatexError: SX332.
    """
    if len(path) > DEPTH:
        fail(codes.NOT_AROUND, f"the path is more than {DEPTH} deep", span)
    here: Any = compiler.around.tree
    for count, part in enumerate(path):
        if not isinstance(here, Mapping | list | tuple):
            name = joined(path[:count])
            fail(codes.NOT_AROUND, f"`{name}` is {kind_at(here)}, which holds no further values", span)
        if has(here, part):
            here = value_in(here, (part,))
            continue
        if not isinstance(here, Mapping) and part != len(here):
            name, end = joined(path[:count]), joined((*path[:count], len(here)))
            fail(
                codes.NOT_AROUND,
                f"`{name}` has {counted(len(here), 'item')}, and a new one goes at the end",
                span,
                help=show_rules(make.add_value(make.value_of(end), make.gap())),
            )
        return
