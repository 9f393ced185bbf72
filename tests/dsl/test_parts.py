"""Programs in several parts: which names each part knows, which values it is given, and which files it may include."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import statex
from statex import StatexError
from statex.core.source import Source
from statex.diagnostics import Diagnostic
from statex.dsl.expressions.parameters import Given
from statex.dsl.parts import Outside, ProgramPart, addresses, short_names, stem_of
from statex.dsl.resolve import resolve
from statex.grammar import parse
from statex.grammar.rulefiles import includes_from, read_include, read_rules

STATE = {"a.w": torch.full((2,), 3.0), "b.w": torch.full((2,), 5.0)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def refused(rules: statex.Rules, **given: object) -> list[Diagnostic]:
    """Return what a program is refused for, with and without a checkpoint alike where both find it."""
    with pytest.raises(StatexError) as caught:
        rules.plan(STATE, params=given)
    return list(caught.value.diagnostics)


def one(rules: statex.Rules, **given: object) -> tuple[str, str, str]:
    """Return code, headline and place of the only finding."""
    (found,) = refused(rules, **given)
    return found.code.id, found.headline, found.span.text if found.span is not None else ""


class TestRules:
    def test_a_sum_is_one_program(self) -> None:
        rules = statex.compile("rename a.w -> c.w", name="one") + statex.compile("drop b.w", name="two")
        assert list(rules.apply(STATE)) == ["c.w"]
        assert repr(rules) == "<statex.Rules one + two: 2 statements>"
        assert [step.span.source.name for step in rules.plan(STATE).steps] == ["one", "two"]

    def test_texts_are_scopes_of_their_own(self) -> None:
        one_text = statex.compile("param n: int = 1\nlet m = n\nset a.w = it * m")
        rules = one_text + statex.compile("param n: int = 2\nlet m = n\nset b.w = it * m")
        assert rules.parameters == ("n",)
        assert [float(v[0]) for v in rules.apply(STATE).values()] == [3.0, 10.0]
        assert [float(v[0]) for v in rules.apply(STATE, n=3).values()] == [9.0, 15.0]
        assert one(statex.compile("let m = 1") + statex.compile("set a.w = it * m"))[0] == "SX202"

    def test_parts_are_not_changed_by_adding(self) -> None:
        first, second = statex.compile("drop a.w"), statex.compile("drop b.w")
        both = first + second
        assert (len(first.statements), len(second.statements), len(both.statements)) == (1, 1, 2)
        assert list((both + statex.compile("")).apply(STATE)) == []

    def test_only_rules_can_be_added(self) -> None:
        with pytest.raises(TypeError):
            statex.compile("") + "drop a.w"  # type: ignore[operator]

    def test_parameters(self) -> None:
        text = "param a: int\nif a > 1 {\n  param b: int = 1\n} else {\n  param c: int = 1\n}\nparam a2: int = 2"
        assert statex.compile(text).parameters == ("a", "b", "c", "a2")
        assert statex.compile("").parameters == ()
        assert repr(statex.compile("drop a.w")) == "<statex.Rules <rules>: 1 statement>"

    def test_a_value_for_one_file(self, folder: Path) -> None:
        write({"x/soup.sx": "param n: int = 1\nset a.w = it * n", "next.sx": "param n: int = 1\nset b.w = it * n"})
        rules = statex.load("x/soup.sx") + statex.load(folder / "next.sx")
        for name in ("soup.n", "x/soup.n"):
            assert [float(v[0]) for v in rules.apply(STATE, params={name: 2}).values()] == [6.0, 5.0]
        assert [float(v[0]) for v in rules.apply(STATE, params={"next.n": 2}).values()] == [3.0, 10.0]
        assert one(rules, **{"soap.n": 1})[0] == "SX205"
        assert one(rules, **{"soup.m": 1}) == ("SX205", "there is no parameter `m`", "")

    def test_convert_takes_a_sum(self, folder: Path) -> None:
        torch.save(STATE, "in.pth")
        rules = statex.compile("rename a.w -> c.w") + statex.compile("param n: int\nset b.w = it * n")
        done = statex.convert("in.pth", "out.pth", rules, params={"n": 2})
        assert done.path == Path("out.pth")
        found = torch.load("out.pth", weights_only=True)
        assert {key: float(value[0]) for key, value in found.items()} == {"c.w": 3.0, "b.w": 10.0}
        with pytest.raises(StatexError, match="SX205"):
            statex.convert("in.pth", "other.pth", rules, params={"n": 2, "m": 1})
        assert not Path("other.pth").exists()

    def test_a_check_finds_what_is_wrong_in_every_text(self) -> None:
        rules = statex.compile("set a.w = nope", name="one") + statex.compile("use none()", name="two")
        with pytest.raises(StatexError) as caught:
            rules.check()
        names = [d.span.source.name for d in caught.value.diagnostics if d.span is not None]
        assert names == ["one", "two"]


def test_all_shared_parts_are_one_scope() -> None:
    parts = [
        ProgramPart(parse(Source("1", "let n = 2\nmacro f() { drop a.w }")), shared=True),
        ProgramPart(parse(Source("file.sx", "let n = 3\nset a.w = m")), stem="file"),
        ProgramPart(parse(Source("2", "let m = n\nuse f()")), shared=True),
    ]
    found = resolve(parts, read_include, Outside())
    assert [(d.code.id, d.span.source.name if d.span else "") for d in found.diagnostics] == [("SX202", "file.sx")]


class TestStems:
    @pytest.mark.parametrize(
        ("name", "stem"),
        [("soup.sx", "soup"), ("a/b/soup.sx", "a/b/soup"), ("a\\soup.sx", "a/soup"), ("v1.2.sx", "v1.2"), ("x", "x")],
    )
    def test_of(self, name: str, stem: str) -> None:
        assert stem_of(name) == stem

    @pytest.mark.parametrize(
        ("file", "stem", "meant"),
        [
            ("soup", "soup", True),
            ("soup", "a/soup", True),
            ("a/soup", "a/soup", True),
            ("a/soup", "x/a/soup", True),
            ("a/soup", "xa/soup", False),
            ("oup", "soup", False),
            ("a/soup", "soup", False),
            ("./soup", "soup", True),
            ("./soup", "a/soup", False),
            ("./a/soup", "a/soup", True),
            ("../soup", "../soup", True),
            ("/t/soup", "/t/soup", True),
            ("t/soup", "/t/soup", True),
            ("", "soup", False),
            ("soup", "", False),
            ("", "", False),
        ],
    )
    def test_addresses(self, file: str, stem: str, meant: bool) -> None:
        assert addresses(file, stem) is meant

    @given(
        st.lists(st.lists(st.sampled_from(["a", "b", "..", "soup"]), min_size=1, max_size=3).map("/".join), max_size=6)
    )
    def test_short_names_tell_apart(self, stems: Sequence[str]) -> None:
        short = short_names(stems)
        assert set(short) == set(stems)
        for stem, name in short.items():
            assert [other for other in short if addresses(name, other)] == [stem]

    def test_the_name_with_more_folders_wins(self) -> None:
        values = {"soup.w": Given(1), "x/a/soup.w": Given(3), "a/soup.w": Given(2), "w": Given(0)}
        for stem, wanted in [("soup", 1), ("a/soup", 2), ("x/a/soup", 3), ("other", 0), ("", 0)]:
            for given_values in (values, dict(reversed(values.items()))):
                assert Outside(given_values).values_for(stem, {"w": Given(9)} if wanted else {})["w"].value == wanted

    def test_a_file_with_a_dot_in_its_name(self, folder: Path) -> None:
        write({"v1.2.sx": "param n: int\nset a.w = it * n"})
        assert float(statex.load("v1.2.sx").apply(STATE, params={"v1.2.n": 2})["a.w"][0]) == 6.0


class TestIncludes:
    @pytest.fixture(autouse=True)
    def files(self, folder: Path) -> None:
        write({"main/rules.sx": "include 'part.sx'", "main/part.sx": "drop a.w", "main/sub/deep.sx": "include 'x.sx'",
               "main/sub/x.sx": "drop b.w", "lib/lib.sx": "include 'more.sx'", "lib/more.sx": "drop b.w",
               "secret.txt": "password", "outside.sx": "secret stuff"})  # fmt: skip

    def included(self, text: str, folder: str = "main") -> list[str]:
        return list(statex.compile(text, folder=folder).apply(STATE))

    @pytest.mark.parametrize(
        ("path", "left"),
        [
            ("part.sx", ["b.w"]),
            ("./part.sx", ["b.w"]),
            ("sub/../part.sx", ["b.w"]),
            ("sub/deep.sx", ["a.w"]),
            ("sub//deep.sx", ["a.w"]),
            ("../main/part.sx", ["b.w"]),
        ],
    )
    def test_at_or_below_the_folder(self, path: str, left: Sequence[str]) -> None:
        assert self.included(f"include '{path}'") == left

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("../outside.sx", "leads out of the folder of the file that includes it"),
            ("sub/../../outside.sx", "leads out of the folder of the file that includes it"),
            ("../../../../etc/passwd.sx", "leads out of the folder of the file that includes it"),
            ("/etc/hostname.sx", "an include path is relative to the file it is in, not absolute"),
            ("//x.sx", "an include path is relative to the file it is in, not absolute"),
            ("../secret.txt", "does not end in .sx, and only rule files can be included"),
            ("/etc/passwd", "does not end in .sx, and only rule files can be included"),
            ("part.SX", "does not end in .sx"),
            ("", "does not end in .sx"),
            ("sub", "does not end in .sx"),
            ("gone.sx", "cannot be read: No such file or directory"),
            ("part.sx/x.sx", "cannot be read: Not a directory"),
            ("dir.sx", "is not a file"),
            (f"{'x' * 300}.sx", "cannot be read: File name too long"),
            ("statex:peft/merge", "this version of statex comes without rule files"),
            ("binary.sx", "is a binary file, not text"),
            ("latin.sx", "`main/latin.sx` is Latin-1 text, not UTF-8 (byte 2, `ä` in line 1)"),
        ],
    )
    def test_what_cannot_be_included(self, path: str, said: str) -> None:
        Path("main/dir.sx").mkdir()
        Path("main/binary.sx").write_bytes(b"a\0b")
        Path("main/latin.sx").write_bytes(b"# \xe4")
        rules = statex.compile(f"drop? q.w\ninclude '{path}'", folder="main")
        for refuse in (rules.check, lambda: rules.plan(STATE)):
            with pytest.raises(StatexError) as caught:
                refuse()
            (found,) = caught.value.diagnostics
            assert found.code.id == "SX215"
            assert said in found.headline
            assert found.span is not None
            assert found.span.text == f"'{path}'"
            assert "password" not in str(caught.value)
            assert "secret stuff" not in str(caught.value)

    def test_links_that_lead_out(self) -> None:
        Path("main/link.sx").symlink_to("../outside.sx")
        Path("main/away").symlink_to("../lib")
        Path("main/near.sx").symlink_to("sub/x.sx")
        Path("main/broken.sx").symlink_to("nowhere.sx")
        Path("main/loop.sx").symlink_to("loop.sx")
        for path in ("link.sx", "away/more.sx"):
            assert "leads out" in one(statex.compile(f"include '{path}'", folder="main"))[1]
        assert self.included("include 'near.sx'") == ["a.w"]
        for path in ("broken.sx", "loop.sx"):
            assert "cannot be read" in one(statex.compile(f"include '{path}'", folder="main"))[1]

    def test_a_folder_that_is_a_link_itself(self) -> None:
        Path("linked").symlink_to("main")
        assert self.included("include 'part.sx'", "linked") == ["b.w"]
        assert self.included("include 'linked/part.sx'", ".") == ["b.w"]

    def test_further_folders(self) -> None:
        load = includes_from(["lib", "main/sub"])
        assert load("main", "part.sx").name == "main/part.sx"
        assert load("main", "lib.sx").name == "lib/lib.sx"
        assert load("main", "x.sx").name == "main/sub/x.sx"
        assert load("main", "../lib/lib.sx").name == "lib/lib.sx"
        write({"lib/x.sx": "", "main/lib.sx": ""})
        assert load("main", "x.sx").name == "lib/x.sx"
        assert load("main", "lib.sx").name == "main/lib.sx"
        with pytest.raises(StatexError, match="leads out"):
            load("main", "../outside.sx")
        with pytest.raises(StatexError, match=r"main/gone\.sx"):
            load("main", "gone.sx")

    def test_a_link_in_the_own_folder_is_not_passed_over(self) -> None:
        Path("main/more.sx").symlink_to("../outside.sx")
        with pytest.raises(StatexError, match="leads out"):
            includes_from(["lib"])("main", "more.sx")

    def test_values_of_included_files(self) -> None:
        write({"main/soup.sx": "param w: int = 7\nset a.w = ones_like * w"})
        for text, params, wanted in [
            ("include 'soup.sx'", {}, 7),
            ("include 'soup.sx'", {"w": 1}, 1),
            ("include 'soup.sx' with w = 2", {"w": 1}, 2),
            ("include 'soup.sx' with w = 2", {"w": 1, "soup.w": 3}, 3),
            ("param w: int\ninclude 'soup.sx' with w = w + 1", {"w": 1}, 2),
        ]:
            rules = statex.compile(text, folder="main")
            assert float(rules.apply(STATE, params=params)["a.w"][0]) == wanted

    def test_the_outer_names_are_not_seen_inside(self) -> None:
        write({"main/inner.sx": "set a.w = it * outer"})
        code, headline, place = one(statex.compile("let outer = 2\ninclude 'inner.sx'", folder="main"))
        assert (code, headline, place) == ("SX202", "`outer` is not defined", "outer")

    def test_errors_in_an_included_file_stand_there(self) -> None:
        write({"main/inner.sx": "drop? q.w\n\nset a.w = transpoze", "main/outer.sx": "include 'inner.sx'"})
        (found,) = refused(statex.load("main/outer.sx"))
        assert found.span is not None
        assert (found.span.source.name, found.span.line) == ("main/inner.sx", 3)

    def test_a_file_that_is_named_and_included(self) -> None:
        write({"main/a.sx": "param n: int = 1\nset a.w = it * n", "main/b.sx": "include 'a.sx' with n = 2"})
        rules = statex.load("main/a.sx") + statex.load("main/b.sx")
        assert float(rules.apply(STATE)["a.w"][0]) == 6.0
        assert float(rules.apply(STATE, n=5)["a.w"][0]) == 30.0
        assert float(rules.apply(STATE, params={"a.n": 5})["a.w"][0]) == 75.0


class TestRuleFiles:
    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("gone.sx", "`gone.sx` cannot be read: No such file or directory"),
            ("folder.sx", "`folder.sx` cannot be read: Is a directory"),
            ("statex:peft/merge", "there is no `statex:peft/merge`: this version of statex comes without rule files"),
            ("latin.sx", "`latin.sx` is Latin-1 text, not UTF-8 (byte 2, `ä` in line 1)"),
            ("windows.sx", "`windows.sx` is Windows-1252 text, not UTF-8 (byte 7, `“` in line 2)"),
            ("wide.sx", "`wide.sx` is UTF-16 text, not UTF-8"),
            ("in.pth", "`in.pth` is a binary file, not text"),
        ],
    )
    def test_what_cannot_be_read(self, folder: Path, name: str, said: str) -> None:
        (folder / "folder.sx").mkdir()
        (folder / "latin.sx").write_bytes(b"# \xe4")
        (folder / "windows.sx").write_bytes(b"# a\n# \t\x93")
        (folder / "wide.sx").write_bytes("drop a".encode("utf-16"))
        torch.save({"a": torch.ones(2)}, folder / "in.pth")
        with pytest.raises(StatexError) as caught:
            read_rules(name)
        (found,) = caught.value.diagnostics
        assert (found.code.id, found.headline) == ("SX222", said)

    def test_a_pipe_may_be_named(self, folder: Path) -> None:
        read, write_end = os.pipe()
        try:
            os.write(write_end, b"drop a.w")
            os.close(write_end)
            assert read_rules(f"/dev/fd/{read}").text == "drop a.w"
        finally:
            os.close(read)
