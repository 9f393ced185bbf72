"""Random programs: a diagnostic or a result, never another exception; the result is what the plan said."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex import StatexError
from statex.core.dtypes import BY_NAME
from tests.effort import examples, least

KEYS = ["a.w", "a.b", "l.0.w", "l.0.b", "l.1.w", "l.1.b", "l.10.w", "head.w", "n"]
PATTERNS = ["a.w", "**", "*.w", "l.{i:int}.w", "l.{i}.{x}", "{m:**}.w", "{m:**}.b", "{x:w|b}", "a.*", "**.b", "head.w",
            "::n", "zz", "{m:**}.{x:w=weight|b=bias}", "'a.w'", '"l.{i}.w"', "/l\\.(\\d+)\\.w/"]  # fmt: skip
TEMPLATES = ["x.y", "{m}.v", "l.{i}.v", "l.{i + 1}.w", "{x}.{m}", "l.{i:02}.w", "**", "q.**", "a.w", "{m}.{x}", "{i}"]
VALUES = ["it", "it * 2", "-it", "transpose", "cast(bf16)", "cast(f32)", "it + a.w", "reshape(-1)", "it[0]", "it[:1]",
          "cat(it, it)", "zeros([2, 2])", "ones_like", "sum(it, dim=0)", "{m}.w", "{m}.b + it", "flatten | it[:2]",
          "permute(1, 0)", "(it | transpose) @ it", "size(it, 0)", "nosuch(it)", "chunk(2)", "unstack", "stack", "cat",
          "sections([1, 1])", "mean", "2", "'text'", "i", "abs(it) / 0", "rearrange('a b -> b a')"]  # fmt: skip
CONDITIONS = ["ndim == 2", "key matches **.w", "i > 0", "dtype == f32", "numel < 5", "x == 'w'", "shape == [2, 2]",
              "not is_floating_point(it)", "exists({m}.b)", "count(l.*.w) == 3", "it > 0", "i + 1"]  # fmt: skip

maybe = st.sampled_from(["", "", "", "?"])


def filled(*parts: Any) -> st.SearchStrategy[str]:
    """Return texts joined of texts and strategies."""
    return st.tuples(*(st.just(p) if isinstance(p, str) else p for p in parts)).map("".join)


def over(captures: str, values: list[str] = VALUES) -> st.SearchStrategy[str]:
    """Return statements whose patterns have some of these captures, and whose other parts mostly use no others."""

    def chosen(texts: list[str]) -> st.SearchStrategy[str]:
        named = [t for t in texts if {c for c in "imx" if re.search(rf"\b{c}\b", t)} <= set(captures)]
        named = [t for t in named if "**" not in t or "matches" in t or "*" in captures] or texts
        return st.sampled_from(named * 8 + texts)

    template, value, condition = chosen(TEMPLATES), chosen(values), chosen(CONDITIONS)
    pattern = st.sampled_from([t for t in PATTERNS if all((f"{{{c}" if c in "imx" else "**") in t for c in captures)])
    where = st.just("") | filled(" where ", condition)
    return st.one_of(
        filled("rename", maybe, " ", pattern, " -> ", template, where),
        filled("rename", maybe, " { ", pattern, " -> ", template, "; ", pattern, " ->? ", template, " }"),
        filled("rename first { ", pattern, " -> ", template, "; ", pattern, " ->? ", template, " }"),
        filled("drop", maybe, " ", pattern, where),
        filled("keep ", pattern, ", ", pattern, where),
        filled("copy", maybe, " ", pattern, " -> ", template, where),
        filled("set", maybe, " ", pattern, " = ", value, where),
        filled("set ", pattern, " = ", value, " for ", pattern, where),
        filled("add ", template, " = ", value, " for ", pattern, where),
        filled("split", maybe, " ", pattern, " -> x.{p:q|k}.", template, " = ", value, where),
        filled("split ", pattern, " over e -> ", template, ".{e} = ", value),
        filled("merge ", pattern, ", ", pattern, " -> ", template, " = ", value),
        filled("merge ", pattern, " over i -> ", template, " = ", value),
    )


simple = st.one_of(
    *(over(captures) for captures in ("", "i", "m", "mx", "*")),
    st.sampled_from(
        ["renumber l.{i:int}", "order natural", "expect count(**) > 3", "expect no key matches zz.**", "let i = 3",
         "let n = size(a.w, 0)", "add t = zeros([2, 3])", "rename part w -> v", "rename part l.0 -> m",
         "rename part a -> ''", "rename part? w -> x.y", "rename prefix 'l.' -> ''", "rename suffix '.w' -> '.v'",
         "rename text '.' -> '_'", "rename prefix '' -> 'm.'", "macro f(p) { rename {$p}.w -> {$p}.v }; use f('a')"]
    ),
)  # fmt: skip
statement = st.one_of(
    simple,
    filled("within ", st.sampled_from(["l.{j}", "a", "zz"]), " { ", simple, " }"),
    filled("if ", st.sampled_from(CONDITIONS), " { ", simple, " } else { ", simple, " }"),
)
programs = st.lists(statement, min_size=1, max_size=4).map("\n".join)


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    dtype = st.sampled_from([torch.float32, torch.float32, torch.bfloat16, torch.int64])
    shape = st.sampled_from([(2, 2), (2, 2), (4,), (), (1, 3)])
    result: dict[str, Any] = {
        key: torch.arange(100)[: torch.Size(s).numel()].reshape(s).to(draw(dtype))
        for key in draw(st.lists(st.sampled_from(KEYS), min_size=3, unique=True))
        for s in [draw(shape)]
    }
    if draw(st.booleans()):
        result["tied"] = next(iter(result.values()))
    if draw(st.booleans()):
        result["a._extra_state"] = {"some": 1}
    return result


def test_random_programs_give_a_diagnostic_or_what_was_planned() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=examples(1200), deadline=None, derandomize=True)
    @given(programs, states())
    def holds(program: str, given_: dict[str, Any]) -> None:
        before = dict(given_)
        try:
            rules = statex.compile(program)
            plan = rules.plan(given_)
        except StatexError as error:
            seen["refused"] += 1
            seen.update(d.code.id for d in error.diagnostics)
            return
        seen["done"] += 1
        result = rules.apply(given_)
        assert all(given_[key] is value for key, value in before.items())
        assert list(result) == list(plan.outputs)
        for key, output in plan.outputs.items():
            assert (output.type is not None) is isinstance(result[key], torch.Tensor)
            if output.type is not None:
                assert tuple(result[key].shape) == output.type.shape
                assert BY_NAME[str(result[key].dtype).removeprefix("torch.")] == output.type.dtype

    holds()
    # Both must happen, and the ways to be refused must be many, or the programs try nothing.
    assert seen["done"] > least(100), seen
    assert len(seen) > 8, seen
