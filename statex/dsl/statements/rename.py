"""Statements that move keys: `rename` in all its modes, and `renumber`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from statex.core.source import Span
from statex.diagnostics import StatexError, diagnostic, fail
from statex.diagnostics.amounts import counted
from statex.diagnostics.codes import keys as codes
from statex.diagnostics.suggest import join_words
from statex.dsl.compile.compiler import Compiler
from statex.dsl.compile.match import Clause, Match, everything, main_only
from statex.dsl.compile.reports import LONGEST_KEY, ambiguous, long_key
from statex.dsl.compile.state import Made, Outcome
from statex.dsl.expressions.scope import Scope
from statex.dsl.keys.captures import Bindings, Captured, CaptureType, is_named, is_of_prefix
from statex.dsl.keys.literals import literal_captures
from statex.dsl.keys.patterns import all_told
from statex.dsl.keys.quoting import show_rules
from statex.dsl.keys.rename_tables import AffixMode, AffixTable, Holds, PartTable, TextTable, plain_text
from statex.dsl.plan.plan import Change, Rule
from statex.dsl.statements.empty_keys import instead
from statex.grammar import factory as make
from statex.grammar import tree

Moves = dict[str, tuple[str, Span]]
"""New keys by old ones, with the row that says so."""


def rename(compiler: Compiler, node: tree.Rename, scope: Scope) -> Outcome:
    """Return what a `rename` comes to."""
    if node.mode is tree.RenameMode.KEY:
        moves, rules = _whole_keys(compiler, node, scope)
        return replace(move(compiler, "rename", node.span, moves, node), rules=tuple(rules))
    return move(compiler, "rename", node.span, _rewritten(compiler, node, scope), node)


def move(compiler: Compiler, verb: str, span: Span, moves: Moves, node: tree.Rename | None = None) -> Outcome:
    """Return what giving keys new names at once comes to, after checking that nothing is lost."""
    state, step = compiler.state, compiler.step
    moves = {old: to for old, to in moves.items() if to[0] != old}
    good = _without_collisions(compiler, moves, node)
    changes = tuple([Change("renamed", (old,), (new,)) for old, (new, _) in good.items()])
    produced: dict[str, Made] = {
        change.after[0]: (state.entries[old].at_step(step), state.rank(old), change.before)
        for old, change in zip(good, changes, strict=True)
    }
    return Outcome(verb, span, changes, good, produced, goes_on=True)


def _without_collisions(compiler: Compiler, moves: Moves, node: tree.Rename | None) -> Moves:
    """Return the moves that can be made, and report the others."""
    names = {new for new, _ in moves.values()}
    distinct = len(names) == len(moves) and (names & compiler.state.entries.keys()) <= moves.keys()
    short = max(map(len, names), default=0) <= LONGEST_KEY
    if distinct and short and ".." not in "." + ".\n.".join(names) + ".":
        return moves
    good: Moves = {}
    taken: dict[str, str] = {}
    for old, (new, span) in moves.items():
        if new in taken:
            first = taken[new]
            also = [(moves[first][1], f"`{first}` goes there too")] if moves[first][1] != span else []
            compiler.found.add(
                diagnostic(
                    codes.COLLISION,
                    f"two keys become `{new}`",
                    span,
                    also=also,
                    values=[f"{first} -> {new}", f"{old} -> {new}"],
                    help="in '…' nothing is filled in; a template is written bare, or in \"…\"" if "{" in new else (),
                    cases=[old],
                )
            )
        elif new in compiler.state.entries and new not in moves:
            compiler.found.add(
                diagnostic(
                    codes.COLLISION,
                    f"`{old}` becomes `{new}`, and that key exists",
                    span,
                    values=_operands(compiler, old, new),
                    help=f"if it is not needed, drop it first: `{show_rules(make.drop(make.key(new)))}`",
                    cases=[old],
                )
            )
        elif len(new) > LONGEST_KEY:
            compiler.found.add(long_key(new, span, old))
        elif not all(new.split(".")):
            compiler.found.add(
                diagnostic(
                    codes.EMPTY_KEY,
                    f"`{old}` would become `{new}`, which has an empty segment"
                    if new
                    else f"nothing is left of `{old}`",
                    span,
                    help=instead(node, span, old, new) or (),
                    cases=[old],
                )
            )
        else:
            taken[new] = old
            good[old] = (new, span)
    # A refused move keeps its old key, onto which another key may not move then.
    stuck = [old for old, (new, _) in good.items() if new in moves and new not in good]
    return good if not stuck else {old: to for old, to in good.items() if old not in stuck}


def _operands(compiler: Compiler, *keys: str) -> list[str]:
    """Return the one line that shows what keys hold, as far as that is known."""
    entries = [(key, compiler.state.entries[key]) for key in keys]
    known = [(key, entry) for key, entry in entries if entry.type is not None or entry.opaque is not None]
    return ["   ".join(f"{key}: {entry.type or 'not a tensor'}" for key, entry in known)] if known else []


# --- whole keys -------------------------------------------------------------------------------------------------


def _whole_keys(compiler: Compiler, node: tree.Rename, scope: Scope) -> tuple[Moves, list[Rule]]:
    rules: list[Rule] = []
    winners: dict[str, tuple[int, tree.Row]] = {}
    moves: Moves = {}
    for number, row in enumerate(node.rows):
        matches, target, clause = _row(compiler, node, row, scope)
        rules += compiler.rules(row, clause) if matches else ()
        wins = 0
        for match in matches:
            if match.key in winners:
                if not node.first:
                    _two_rows(compiler, match.key, winners[match.key][1], row)
                continue
            winners[match.key] = (number, row)
            wins += 1
            new = _rendered(compiler, target, match, scope)
            if new is not None:
                moves[match.key] = (new, row.span)
        if node.first and matches and not wins and not (row.optional or node.optional):
            earlier = {winners[m.key][1].source.span for m in matches}
            _dead_row(compiler, row, [m.key for m in matches], list(earlier))
    return moves, rules


def _maybe(node: tree.Rename) -> str:
    return "->?" if len(node.rows) > 1 else "rename?"


def _row(
    compiler: Compiler, node: tree.Rename, row: tree.Row, scope: Scope
) -> tuple[list[Match], Callable[[Match], str], Clause]:
    clause = Clause(scope, node.where, node.optional or row.optional, maybe=_maybe(node), templates=(row.target,))
    try:
        main_only(row.source)
        compiler_pattern = compiler.pattern(row.source, scope)
        clause.known.update(compiler_pattern.captures)
        template = compiler.checked_template(row.target, clause)
    except StatexError as error:
        compiler.report(error)
        return [], lambda match: match.key, clause
    matches = compiler.matches(row.source, clause, stars=template.stars > 0)
    constants = compiler.constants(scope)
    if not template.asks_key:
        return matches, lambda match: template.render(match.bindings, constants), clause
    return matches, lambda match: template.render(match.bindings, constants | {"key": match.visible}), clause


def _rendered(compiler: Compiler, target: Callable[[Match], str], match: Match, scope: Scope) -> str | None:
    try:
        return target(match)
    except StatexError as error:
        compiler.report(error, match.case)
        return None


def _two_rows(compiler: Compiler, key: str, first: tree.Row, second: tree.Row) -> None:
    compiler.found.add(
        diagnostic(
            codes.TWO_ROWS,
            f"two rows match `{key}`",
            second.source.span,
            also=[(first.source.span, "matches it too")],
            help="`rename first { … }` lets the first row that matches win",
            cases=[key],
        )
    )


def _dead_row(compiler: Compiler, row: tree.Row, keys: list[str], earlier: list[Span] | None = None) -> None:
    compiler.found.add(
        diagnostic(
            codes.DEAD_ROW,
            "every key this row matches is taken by an earlier row",
            row.source.span,
            also=[(span, "taken by this row") for span in (earlier or [])[:2]],
            help="put it before the earlier row, or remove it",
            cases=keys,
        )
    )


# --- parts, prefixes, suffixes, text ----------------------------------------------------------------------------


def _rewritten(compiler: Compiler, node: tree.Rename, scope: Scope) -> Moves:
    try:
        rewrite = _rewriter(compiler, node, scope)
    except StatexError as error:
        compiler.report(error)
        return {}
    moves: Moves = {}
    used: set[int] = set()
    filtered: set[int] = set()
    spans = [row.span for row in node.rows]
    for key, visible, bindings in _below(compiler, node, scope):
        holds = None if node.where is None else _condition(compiler, node.where, key, bindings, scope, filtered)
        outer = _named(bindings) if bindings else bindings
        try:
            new, rows = rewrite(visible, outer, holds)
            if not rows:
                continue
        except StatexError as error:
            compiler.report(error, key)
            # What went wrong is said once; the rows are not reported as useless as well.
            used.update(range(len(node.rows)))
            continue
        used.update(rows)
        first = rows[0] if len(rows) == 1 else min(rows)
        moves[key] = (new if visible is key else key[: len(key) - len(visible)] + new, spans[first])
    _unused_rows(compiler, node, scope, used, filtered)
    return moves


def _condition(
    compiler: Compiler, where: tree.Expr, key: str, bindings: Bindings, scope: Scope, filtered: set[int]
) -> Holds:
    """Return what says of a row and its captures whether `where` holds; rows for which it did not are noted."""

    def holds(row: int, found: Bindings) -> bool:
        match = compiler.own_match(scope, key, bindings)
        match = replace(match, bindings={**bindings, **found})
        result = compiler.evaluator(match, scope).condition(where, "`where`")
        if not result:
            filtered.add(row)
        return result

    return holds


def _below(compiler: Compiler, node: tree.Rename, scope: Scope) -> Iterable[tuple[str, str, Bindings]]:
    """Return the keys in their order, what the statement sees of each, and the captures of the `within` around it."""
    if scope.prefix is None:
        nothing: Bindings = {}
        return [(key, key, nothing) for key in compiler.state.in_order()]
    found = compiler.matches(everything(node.span), Clause(scope, optional=True))
    return [(m.key, m.visible, m.bindings) for m in found]


def _unused_rows(compiler: Compiler, node: tree.Rename, scope: Scope, used: set[int], filtered: set[int]) -> None:
    for number, row in enumerate(node.rows):
        if number in used or row.optional or node.optional:
            continue
        what = {
            tree.RenameMode.PART: "has these segments",
            tree.RenameMode.PREFIX: "starts with this",
            tree.RenameMode.SUFFIX: "ends with this",
        }.get(node.mode, "contains this")
        if number in filtered:
            assert node.where is not None
            compiler.found.add(
                diagnostic(codes.WHERE_NONE, f"the condition holds for no key that {what}", node.where.span)
            )
            continue
        alone = len(node.rows) == 1 or compiler.found.brief
        shadowed = [] if alone else _matched_alone(compiler, node, row, scope)
        if shadowed:
            _dead_row(compiler, row, shadowed)
            continue
        keys = compiler.state.in_order()
        compiler.found.add(
            diagnostic(
                codes.NO_MATCH,
                f"no key {what}",
                row.source.span,
                at=f"0 of {counted(len(keys), 'key')}",
                notes=[f"the keys are {join_words(keys, limit=3)}"] if keys else (),
                help=f"if it may be absent: `{_maybe(node)}`",
            )
        )


def _matched_alone(compiler: Compiler, node: tree.Rename, row: tree.Row, scope: Scope) -> list[str]:
    """Return the keys a row would change if it were the only one."""
    alone = replace(node, rows=(row,))
    rewrite = _rewriter(compiler, alone, scope)
    found = []
    for key, visible, bindings in _below(compiler, alone, scope):
        outer = _named(bindings)
        try:
            matched = bool(rewrite(visible, outer, None)[1])
        except StatexError:
            # It matches, and cannot be carried out.
            matched = True
        if matched:
            found.append(key)
    return found


def _named(bindings: Bindings) -> Bindings:
    return {name: captured for name, captured in bindings.items() if is_named(name)}


Rewrite = Callable[[str, Bindings, Holds | None], tuple[str, Sequence[int]]]
"""Gives the new key and the rows that had a part in it; takes the captures of the blocks around, and a condition."""


def _rewriter(compiler: Compiler, node: tree.Rename, scope: Scope) -> Rewrite:
    for row in node.rows:
        main_only(row.source)
        main_only(row.target)
    if node.mode is tree.RenameMode.PART:
        return _parts(compiler, node, scope)
    _check_plain(compiler, node, scope)
    if node.mode is tree.RenameMode.TEXT:
        table = TextTable(
            [(row.source, row.target) for row in node.rows],
            splice=scope.splice,
            constants=compiler.constants(scope),
            outer=_outer_types(compiler, node.span, scope),
        )

        def text(key: str, outer: Bindings, holds: Holds | None) -> tuple[str, Sequence[int]]:
            result = table.rewrite(key, outer)
            return _if_it_holds(key, result.key, result.used, holds)

        return text
    mode = AffixMode.PREFIX if node.mode is tree.RenameMode.PREFIX else AffixMode.SUFFIX
    rows = [(plain_text(r.source, scope.splice), plain_text(r.target, scope.splice)) for r in node.rows]
    affixes = AffixTable(mode, rows)

    def affix(key: str, outer: Bindings, holds: Holds | None) -> tuple[str, Sequence[int]]:
        row = affixes.row_for(key)
        if row is None:
            return key, ()
        new = affixes.replace(key, row)
        return (new, (row,)) if holds is None else _if_it_holds(key, new, (row,), holds)

    return affix


def _check_plain(compiler: Compiler, node: tree.Rename, scope: Scope) -> None:
    """Refuse literal text with a `{$name}` of the program in it, in rows of plain text."""
    names = [f"${name}" for name in compiler.constants(scope)]
    plain = [row.target for row in node.rows if row.source.kind is not tree.PatternKind.REGEX]
    problems = [problem for target in plain for problem in literal_captures(target, {}, names)]
    if problems:
        raise StatexError(problems)


def _if_it_holds(key: str, new: str, rows: Sequence[int], holds: Holds | None) -> tuple[str, Sequence[int]]:
    """Return the new key where a condition on the whole key holds, else the key as it is."""
    if holds is None:
        return new, rows
    held = [holds(row, {}) for row in rows]
    return (new, rows) if all(held) else (key, ())


def _outer_types(compiler: Compiler, span: Span, scope: Scope) -> Mapping[str, CaptureType]:
    """Return the captures of the `within` blocks around."""
    if scope.prefix is None:
        return {}
    captures = compiler.pattern(everything(span), scope).captures
    return {name: kind for name, kind in captures.items() if is_named(name)}


def _parts(compiler: Compiler, node: tree.Rename, scope: Scope) -> Rewrite:
    rows = []
    problems = []
    constants = compiler.constants(scope)
    outer_types = _outer_types(compiler, node.span, scope)
    for row in node.rows:
        pattern = compiler.pattern(row.source, scope, outer_types, placed=False)
        template = compiler.template(row.target, scope, placed=False)
        problems += template.check({**outer_types, **pattern.captures}, {*constants, "key"})
        rows.append((pattern, template))
    if problems:
        raise StatexError(problems)
    table = PartTable(rows)

    def parts(key: str, outer: Bindings, holds: Holds | None) -> tuple[str, Sequence[int]]:
        result = table.rewrite(key, constants, outer, holds)
        if result.ambiguous is not None:
            number, one, other = result.ambiguous
            raise StatexError([ambiguous(node.rows[number].source, key, one, other)])
        return result.key, result.used

    return parts


# --- renumber ---------------------------------------------------------------------------------------------------


def renumber(compiler: Compiler, node: tree.Renumber, scope: Scope) -> Outcome | None:
    """Return what a `renumber` comes to: for each group of captures, the numbers present become 0, 1, 2, …"""
    node = replace(node, pattern=all_told(node.pattern))
    try:
        main_only(node.pattern)
        pattern = compiler.pattern(node.pattern, scope)
        if node.pattern.pieces and isinstance(node.pattern.pieces[-1], tree.DoubleStar):
            fail(
                codes.RENUMBER,
                "`renumber` takes the keys up to the number, and this goes on after it",
                node.pattern.span,
                help=_up_to_rest(node.pattern),
            )
        outer = _outer_types(compiler, node.span, scope)
        ints = [n for n, t in pattern.captures.items() if t.is_int and n not in outer and not is_of_prefix(n)]
        if len(ints) != 1:
            fail(
                codes.RENUMBER,
                f"`renumber` needs one int capture, and this pattern has {len(ints)}",
                node.pattern.span,
                help="declare only the number to close gaps in as an int: `renumber layers.{i}.experts.{e:int}`"
                if ints
                else _declared_last(node.pattern),
            )
        template = compiler.template(node.pattern, scope)
    except StatexError as error:
        compiler.report(error)
        return None
    matches = _starting_with(compiler, node, scope)
    name = ints[0]
    numbers = _new_numbers(matches, name)
    constants = compiler.constants(scope)
    moves: Moves = {}
    for match in matches:
        number = numbers[_group(match, name)][int(match.bindings[name].value)]
        # The number alone changes: of a choice, the text it has matched stays, whatever it stands for.
        texts = {n: replace(captured, rendered=captured.text) for n, captured in match.bindings.items()}
        old = template.render(texts, constants)
        new = template.render({**texts, name: Captured.number(number)}, constants)
        moves[match.key] = (new + match.key[len(old) :], node.span)
    return move(compiler, "renumber", node.span, moves)


def _declared_last(node: tree.PatternNode) -> str:
    """Return the help for a pattern without an int: its last capture, declared as one."""
    last = next((p for p in reversed(node.pieces) if isinstance(p, tree.Capture)), None)
    if last is None or last.span.source is not node.span.source or last.kind is not tree.CaptureForm.PLAIN:
        return "declare the number: `renumber layers.{i:int}`"
    text, at = node.span.text, last.span.start - node.span.start
    return f"write `{text[:at]}{{{last.name}:int}}{text[at + len(last.span.text) :]}`"


def _starting_with(compiler: Compiler, node: tree.Renumber, scope: Scope) -> list[Match]:
    """Return the matches of keys that are the pattern, or begin with it."""
    following = _followed(node.pattern)
    clause = Clause(scope, node.where, optional=True)
    found = {m.key: m for m in compiler.matches(following, clause, stars=True)}
    exact = Clause(scope, node.where, optional=node.optional or bool(found), maybe="renumber?")
    found.update((m.key, m) for m in compiler.matches(node.pattern, exact, stars=True))
    return [found[key] for key in compiler.state.sort(found)]


def _new_numbers(matches: list[Match], name: str) -> dict[tuple[tuple[str, str], ...], dict[int, int]]:
    present: dict[tuple[tuple[str, str], ...], set[int]] = {}
    for match in matches:
        present.setdefault(_group(match, name), set()).add(int(match.bindings[name].value))
    return {group: {old: new for new, old in enumerate(sorted(found))} for group, found in present.items()}


def _group(match: Match, name: str) -> tuple[tuple[str, str], ...]:
    # The rest of the key, captured by the last `**`, does not tell groups apart; only what is before the number does.
    before = []
    for other, captured in match.bindings.items():
        if other == name:
            break
        before.append((other, captured.text))
    return tuple(before)


def _followed(node: tree.PatternNode) -> tree.PatternNode:
    """Return the pattern of the keys below a pattern: `PATTERN.**`."""
    pieces = (*node.pieces, tree.Text(node.span, "."), tree.DoubleStar(node.span))
    return replace(node, kind=tree.PatternKind.QUOTED, pieces=pieces)


def _up_to_rest(pattern: tree.PatternNode) -> str | tuple[str, ...]:
    """Return the `renumber` of a pattern that ends in `**` without that."""
    *kept, last = pattern.pieces[:-1] or [None]
    if not isinstance(last, tree.Text):
        return ()
    return show_rules(make.renumber(make.pattern([*kept, last.text.removesuffix(".")])))
