"""Help that is followed to the letter parses, fixes what it is about, and loses no tensor without a word."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import statex
from statex.diagnostics import Diagnostic
from statex.dsl.plan.ledger import account
from tests.cli.test_bad_input import RULES as BAD_RULES
from tests.dsl.keys.test_no_match import CASES as NO_MATCH
from tests.dsl.keys.test_no_match import KEYS
from tests.messages.corpus import Case, cases, tensors
from tests.messages.following import ADVICE, WAYS, proposals, used
from tests.test_codes import BY_ID, COMMANDS, INPUTS, PROLOGUE, RECIPES, STATES

SQUARE = tensors("a.weight f32[2, 2]")


def of_codes() -> Iterator[Case]:
    """Yield the example of every code that is about rules."""
    for id in sorted(set(BY_ID) - COMMANDS - RECIPES - {"SX154", "SX214", "SX215"}):
        inputs = {name: one if isinstance(one, list) else [one] for name, one in INPUTS.get(id, {}).items()}
        rules = PROLOGUE.get(id, "") + BY_ID[id].example
        yield Case(f"code {id}", dict(STATES.get(id, SQUARE)), inputs, rules=rules.split("\n"))


def of_others() -> Iterator[Case]:
    """Yield wrong programs of other tests."""
    weights = [f"layers.{i}.{n}.weight f32[4, 4]" for i in range(3) for n in "qkv"]
    state = tensors(", ".join([*weights, "layers.0.q.bias bf16[4]", "emb.weight f32[7, 4]"]))
    yield from (Case(f"bad input: {name}", state, rules=rules.split("\n")) for name, rules, *_ in BAD_RULES)
    keys = tensors(", ".join(f"{key} f32[1]" for key in KEYS))
    yield from (Case(f"no match: {name}", keys, rules=rules.split("\n")) for name, rules, *_ in NO_MATCH)


ALL = [*cases(), *of_codes(), *of_others()]


def said(found: Diagnostic) -> tuple[str, str, str]:
    """Return what makes a diagnostic the same as another one."""
    return found.code.id, found.headline, found.span.text if found.span is not None else ""


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_every_help_is_followed(case: Case) -> None:
    before = case.diagnostics()
    for found in before:
        for note in found.notes:
            if note.kind == "help":
                for rules in proposals(case.text, found, note.text):
                    check(case, found, before, note.text, rules)


def test_all_that_help_says_has_come_up() -> None:
    for case in ALL:
        for found in case.diagnostics():
            for note in found.notes:
                if note.kind == "help":
                    proposals(case.text, found, note.text)
    assert used == {*(pattern for pattern, _ in WAYS), *ADVICE}


def check(case: Case, found: Diagnostic, before: tuple[Diagnostic, ...], help: str, rules: str) -> None:
    """Check a program that help has led to."""
    after = case.diagnostics(rules)
    shown = f"{help}\n{rules}\n" + "\n".join(f"{d.code.id}: {d.headline}" for d in after)
    assert said(found) not in [said(one) for one in after], shown
    syntax = [one for one in after if re.match("SX10|SX11", one.code.id)]
    assert not [one for one in syntax if one.headline not in {d.headline for d in before}], shown
    assert not dropped(case, rules) or re.search(r"\b(drop|keep)\b", case.text + help), shown


def dropped(case: Case, rules: str) -> list[str]:
    """Return the keys that a program drops, where it is carried out."""
    try:
        plan = case.plan(rules)
    except statex.StatexError:
        return []
    return [key.key for key, fate in account(plan).items() if fate.kind == "dropped"]
