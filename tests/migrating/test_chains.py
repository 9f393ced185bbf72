"""Folders of migrations, and digests of what their rules mean."""

from __future__ import annotations

import copy
import pickle
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex.migrating.chain import chain_of

RULES = """\
param heads: int = 4
rename { head.{p:weight|bias} -> fc.{p}
         layers.{i:int}.w     ->? blocks.{i + 1}.w }
set **.scale = it * 2 + 1.5 where ndim == 1
merge {m:**}.q as q, {m}.k as k -> {m}.qk = cat(q, k, dim=0)
if heads > 2 { drop? rope.freqs, /old_(.*)/ }
"""


def codes(error: statex.StatexError) -> list[str]:
    return [one.code.id for one in error.diagnostics]


def folder_of(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.sx").write_text(text)
    return folder


def test_a_folder_is_a_chain(tmp_path: Path) -> None:
    folder_of(tmp_path, **{"0001_first": "rename a -> b", "0002_second": "param n: int\nset b = it * n"})
    (tmp_path / "README.md").write_text("what it is about")
    chain = statex.migrations(tmp_path)
    assert [(step.number, step.name) for step in chain.steps] == [(1, "0001_first.sx"), (2, "0002_second.sx")]
    assert chain.version == len(chain) == 2
    assert chain.parameters == ("n",)
    assert repr(chain) == f"<statex.Chain {tmp_path.as_posix()}: 2 steps>"


@pytest.mark.parametrize(
    ("files", "code", "said"),
    [
        (["0001_a", "0003_c"], "SX803", "no step 0002"),
        (["0002_b"], "SX803", "no step 0001"),
        (["0001_a", "0002_b", "0002_c"], "SX804", "0003_c.sx"),
        (["0001_a", "fuse qkv"], "SX802", "0002_fuse_qkv.sx"),
        (["0001_a", "1_b"], "SX802", "not named like a migration"),
        (["0000_a"], "SX802", "not named like a migration"),
        (["0001_a", "0002_b.down"], "SX802", "`0002_b.sx`, and there is no such step"),
        ([], "SX801", "holds no migrations"),
    ],
)
def test_what_is_not_a_chain_is_refused(files: list[str], code: str, said: str, tmp_path: Path) -> None:
    folder_of(tmp_path, **dict.fromkeys(files, "drop? x"))
    with pytest.raises(statex.StatexError, match=re.escape(said)) as caught:
        statex.migrations(tmp_path)
    assert codes(caught.value) == [code]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(statex.StatexError) as caught:
        statex.migrations(tmp_path / "migratoins")
    assert codes(caught.value) == ["SX801"]


@pytest.mark.parametrize("rules", ["input ft\nset ** = (it + ft::{key}) / 2", "root 'state_dict'"])
def test_a_step_that_needs_more_than_the_state_is_refused(rules: str, tmp_path: Path) -> None:
    with pytest.raises(statex.StatexError) as caught:
        statex.migrations(folder_of(tmp_path, **{"0001_a": rules}))
    assert codes(caught.value) == ["SX805"]


def test_rules_are_checked_when_the_chain_is_read(tmp_path: Path) -> None:
    with pytest.raises(statex.StatexError) as caught:
        statex.migrations(folder_of(tmp_path, **{"0001_a": "drop? x", "0002_b": "set a = transpoze"}))
    assert codes(caught.value) == ["SX202"]


def test_what_undoes_a_step_is_read_with_it(tmp_path: Path) -> None:
    chain = statex.migrations(folder_of(tmp_path, **{"0001_a": "rename a -> b", "0001_a.down": "rename b -> a"}))
    assert [len(step.down) for step in chain.steps] == [1]
    with pytest.raises(statex.StatexError, match="nonsense"):
        statex.migrations(folder_of(tmp_path, **{"0001_a.down": "nonsense b"}))


def test_pickles_and_copies_need_no_files(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "names.sx").write_text("rename a -> b")
    chain = statex.migrations(folder_of(tmp_path, **{"0001_a": "include 'parts/names.sx'"}))
    for path in (tmp_path / "parts" / "names.sx", tmp_path / "0001_a.sx"):
        path.unlink()
    again = pickle.loads(pickle.dumps(chain))
    assert again == chain == copy.deepcopy(chain)
    assert again.digests == chain.digests
    assert [part.program.source.text for part in again.parts] == ["include 'parts/names.sx'"]


# --- digests ----------------------------------------------------------------------------------------------------------


def digest(rules: str) -> str:
    return chain_of(statex.compile(rules).parts).digests[0]


def test_the_digest_of_known_rules_is_known() -> None:
    """States in the world carry these: where this fails, SCHEME has to be counted up."""
    assert digest(RULES) == "aeff3d267a20d14b407c2703bc14b4de"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rename a -> b", "rename   a   ->\n   b  # why"),
        ("rename a.b -> c.d", "rename 'a.b' -> \"c.d\""),
        ("rename l.{i:int}.w -> l.{i + 1}.w", "rename l.{i:int}.w -> l.{i+1}.w"),
        ("rename { a -> b }", "rename a -> b"),
        ("set a = rearrange('h w -> w h')", 'set a = rearrange("h w -> w h")'),
        ("set a = (it * 2)", "set a = it*2"),
        ("drop a; drop b", "drop a\n\n\ndrop b\n"),
    ],
)
def test_how_rules_are_written_does_not_count(one: str, other: str) -> None:
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rename a -> b", "rename a -> c"),
        ("rename a -> b", "rename? a -> b"),
        ("rename a -> b", "copy a -> b"),
        ("rename a* -> b*", "rename 'a*' -> 'b*'"),
        ("rename /a/ -> b", "rename a -> b"),
        ("rename { a -> b\n c -> d }", "rename first { a -> b\n c -> d }"),
        ("set a = it * 2", "set a = it * 2.0"),
        ("set a = it - 1 - 2", "set a = it - (1 - 2)"),
        ("drop a", "drop a where ndim == 1"),
        ("drop a", "keep a"),
        ("drop a\ndrop b", "drop b\ndrop a"),
        ("param n = 1", "param n = 2"),
        ("set a = flip(0)", "set a = flip(1)"),
        ("drop {p:q|k}", "drop {p:q=k|k=q}"),
        ("", "drop? a"),
    ],
)
def test_what_rules_mean_counts(one: str, other: str) -> None:
    assert digest(one) != digest(other)


def test_included_rules_count_and_their_place_does_not(tmp_path: Path) -> None:
    def included(where: str, rules: str) -> str:
        (tmp_path / where).parent.mkdir(exist_ok=True)
        (tmp_path / where).write_text(rules)
        return chain_of(statex.compile(f"include '{where}'", folder=tmp_path).parts).digests[0]

    first = included("one/a.sx", "drop a")
    assert included("two/b.sx", "drop a  # the same") == first
    assert included("one/a.sx", "drop b") != first


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_comments_and_blanks_do_not_change_a_digest(rnd: random.Random) -> None:
    lines = []
    for line in RULES.splitlines():
        lines += [rnd.choice(["", "   ", "# a comment", "\t# drop **"])] * rnd.randrange(2)
        lines.append(line + rnd.choice(["", "   ", "  # why"]))
    text = re.sub(r"(?<=\S) (?=\S)", lambda _: " " * rnd.randrange(1, 4), "\n".join(lines))
    assert digest(rnd.choice(["", "\n"]) + text + rnd.choice(["", "\n", "\n# end"])) == digest(RULES)
