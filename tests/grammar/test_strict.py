"""The grammar has no conflicts, and reads what the language promises to read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lark import Lark, Token, lexer
from lark.exceptions import LexError

from statex.diagnostics import StatexError
from statex.grammar import parse_text, tree
from statex.grammar.tables import ALWAYS_ACCEPT
from statex.grammar.terminals import grammar_text
from tests.grammar.trees import plain, plain_text

CARD = """
set linear.weight = ones_like
rename prefix '' -> 'ds'            # linear.weight becomes dslinear.weight, as state_dict(prefix='ds') names it
"""

EXPRESSIONS = """
    set **.c_attn.weight = transpose
    set **.{p:q|k}_proj.weight = rearrange('(h d two) c -> (h two d) c', h=heads, two=2) | cast(bf16)
    set pos_embed = cat(it[:, :1], it[:, 1:] | rearrange('1 (h w) c -> 1 c h w', h=14) | interpolate([16, 16], mode=bicubic) | rearrange('1 c h w -> 1 (h w) c'), dim=1)
"""  # noqa: E501

LLAMA = """
    # Meta's Llama to Hugging Face
    param heads: int
    param kv_heads: int = heads
    rename {
      tok_embeddings.weight                    -> model.embed_tokens.weight
      norm.weight                              -> model.norm.weight
      output.weight                            -> lm_head.weight
      layers.{i}.attention.w{p:q|k|v|o}.weight -> model.layers.{i}.self_attn.{p}_proj.weight
      layers.{i}.feed_forward.w1.weight        -> model.layers.{i}.mlp.gate_proj.weight
      layers.{i}.feed_forward.w2.weight        -> model.layers.{i}.mlp.down_proj.weight
      layers.{i}.feed_forward.w3.weight        -> model.layers.{i}.mlp.up_proj.weight
      layers.{i}.attention_norm.weight         -> model.layers.{i}.input_layernorm.weight
      layers.{i}.ffn_norm.weight               -> model.layers.{i}.post_attention_layernorm.weight
    }
    set **.q_proj.weight = rearrange('(h d two) c -> (h two d) c', h=heads, two=2)
    set **.k_proj.weight = rearrange('(h d two) c -> (h two d) c', h=kv_heads, two=2)
    drop? rope.freqs
"""

MEGATRON = """
    # Megatron's fused, grouped QKV to three matrices; weight and bias in one statement
    split decoder.layers.{i}.self_attention.linear_qkv.{t:weight|bias} -> model.layers.{i}.self_attn.{p:q|k|v}_proj.{t}
        = rearrange('(g x d) ... -> x g d ...', g=kv_heads, d=head_dim)
        | sections([heads // kv_heads, 1, 1], dim=0)
        | rearrange('x g d ... -> (g x d) ...')
"""

EXPERTS = """
    # mixture of experts: many matrices into one stacked, gate and up fused
    merge {m:**}.experts.{e:int}.w1.weight as w1, {m}.experts.{e:int}.w3.weight as w3 over e
        -> {m}.experts.gate_up_proj = cat(stack(w1), stack(w3), dim=1)
    merge {m:**}.experts.{e:int}.w2.weight over e -> {m}.experts.down_proj = stack(dim=0)
"""

ADAPTERS = """
    # merge a LoRA adapter; average two checkpoints; prune and renumber layers; fold weight norm
    input lora
    set {m}.weight = it + alpha / rank * (lora::base_model.model.{m}.lora_B.weight @ lora::base_model.model.{m}.lora_A.weight)
        for lora::base_model.model.{m:**}.lora_A.weight
    set ** = (it + ft::{key}) / 2 where is_floating_point(it)
    drop model.layers.{i:int}.** where i in [3, 7, 11]
    renumber model.layers.{i:int}
    rename part { self_attn.{p:query=q|key=k|value=v} -> attention.{p}_proj
                  mlp.0                              -> fc1 }
    merge {m:**}.weight_g as g, {m}.weight_v as v -> {m}.weight = weight_norm(v, g, dim=0)
"""  # noqa: E501

BLOCKS = {
    "the card": (CARD, "Set Rename"),
    "expressions": (EXPRESSIONS, "Set Set Set"),
    "Llama": (LLAMA, "Param Param Rename Set Set Drop"),
    "Megatron": (MEGATRON, "Split"),
    "experts": (EXPERTS, "Merge Merge"),
    "adapters": (ADAPTERS, "Input Set Set Drop Renumber Rename Merge"),
}

FORMS = {
    "rename layers.*.w -> l.*.w": "Rename",
    "rename layers.{i:int}.w -> l.{i + 1}.w where i > 3": "Rename",
    "rename part attn.wq -> self_attn.q_proj": "Rename",
    "rename part mid -> ''": "Rename",
    "rename prefix 'a' -> 'b'": "Rename",
    "rename suffix 'a' -> 'b'": "Rename",
    'rename text /a+/ -> "{1}"': "Rename",
    "rename first { a.* -> b.*\n a.** ->? c.** }": "Rename",
    "rename suffix { '.g' -> '.weight' }": "Rename",
    "renumber model.layers.{i:int}": "Renumber",
    "set a.weight, b.weight = f": "Set",
    "add a.bias = zeros([3]) for b.weight": "Add",
    "copy a.weight -> b.weight": "Copy",
    "drop a.b, 'a b', \"{x} y\", /z+/, ft::c.d, ft::'a b', ft::\"{x} y\"": "Drop",
    "keep a.**": "Drop",
    "split a.w over e -> b.{e}.w = unstack": "Split",
    "let head_dim = size(a.weight, 0) // heads": "Let",
    "param flag: bool = true": "Param",
    "input ranks[]": "Input",
    "input lora root 'state_dict'": "Input",
    "include 'other.sx' with a = 1, b = 'x'": "Include",
    "include 'other.sx'": "Include",
    'macro m(a, b) { drop "{$a}.b" }\nuse m("x.{i}", 3)': "Macro Use",
    "macro m() { }\nuse m()": "Macro Use",
    "within model.layers.{i} { drop w }": "Within",
    "if heads > 3 { drop a } else if heads == 2 { drop b } else { drop c }": "If",
    "root 'state_dict' -> 'model'": "Root",
    "root ''": "Root",
    "root '' flat": "Root",
    "root ['a.b', 0, 'c',] -> ['d', -1] flat": "Root",
    "input lora[] root ['a.b', 0]": "Input",
    "order natural": "Order",
    "order like target": "Order",
    "expect count(a.**) == 3 and not exists(b.**)": "Expect",
    "expect count a.** == 3": "Expect",
    "expect shape a.w == [3, 4]": "ExpectEach",
    "expect dtype **.w == bf16": "ExpectEach",
    "expect no key matches a.**": "ExpectKeys",
    "expect key matches a.**": "ExpectKeys",
    "allow missing a.**, b.c": "Allow",
    "allow unexpected a.**": "Allow",
    "drop a.* where key matches /a+/ and dtype != f32 or ndim not in [1, 2]": "Drop",
    "set a.w = it[..., 1:-1, ::2, [0, 3]] ** -2 @ ::bias * ::'odd key'": "Set",
    "set pos = interpolate(shape(target::pos_embed), value('args.heads'))": "Set",
}
"""The statements of the language, and what they are."""


def kinds(text: str) -> list[str]:
    return [type(statement).__name__ for statement in parse_text(text).statements]


class Kept:
    """What lark asks of what looks at tokens after the lexer."""

    always_accept = ALWAYS_ACCEPT

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        return stream


def strict(start: str) -> Lark:
    return Lark(grammar_text(), parser="lalr", start=start, postlex=Kept(), strict=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", ["start", pytest.param("field", marks=pytest.mark.nightly)])
def test_builds_in_strict_mode(start: str) -> None:
    assert strict(start).options.strict


def test_the_strict_mode_compares_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library that compares terminals, lark refuses to be strict: the test above compares them."""
    monkeypatch.setattr(lexer, "has_interegular", False)
    with pytest.raises(LexError, match="interegular"):
        strict("field")


@pytest.mark.parametrize(("text", "expected"), BLOCKS.values(), ids=BLOCKS)
def test_texts_of_the_design(text: str, expected: str) -> None:
    assert kinds(text) == expected.split()


def test_all_texts_of_the_design_as_one_program() -> None:
    together = "\n".join(text for text, _ in BLOCKS.values())
    assert plain_text(together)[1] == (
        "statements",
        tuple(statement for text, _ in BLOCKS.values() for statement in plain(parse_text(text).statements)),
    )


@pytest.mark.parametrize(("text", "expected"), FORMS.items(), ids=FORMS)
def test_each_form(text: str, expected: str) -> None:
    assert kinds(text) == expected.split()


def test_five_thousand_statements() -> None:
    forms = list(FORMS)
    text = "\n".join(forms[number % len(forms)] for number in range(5000 - 5000 // len(forms)))
    statements = parse_text(text).statements
    assert len(statements) >= 5000
    assert statements[-1].span.text == text.rpartition("\n")[2]


# --- comments and empty lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n", "  \t\n", ";", ";;\n;", "# a", "# a\n", "\n# a\n\n", "\r\n", "\ufeff"])
def test_an_empty_program(text: str) -> None:
    assert parse_text(text).statements == ()


@pytest.mark.parametrize(
    "text",
    [
        "drop a\ndrop b",
        "drop a; drop b",
        "drop a;drop b;",
        ";;drop a;\n;drop b\n;",
        "drop a\r\ndrop b\r\n",
        "drop a # drop c; drop d\ndrop b#",
        "# first\ndrop a\n\n\n# between\n   # and\n\ndrop b\n# last",
        "\ufeffdrop a\ndrop b",
        "\tdrop\ta\n\tdrop\tb\t",
    ],
)
def test_two_statements(text: str) -> None:
    assert plain_text(text) == plain_text("drop a\ndrop b")


def test_long_runs_of_comments_are_looked_at_once() -> None:
    """A lexer that looks at the rest of the run from each of its lines would not come to an end here."""
    text = "drop a\n" + "# a comment\n\n" * 20_000 + "drop b\n" + "  # and another\n" * 20_000 + "  where x"
    assert plain_text(text) == plain_text("drop a; drop b where x")


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_hash_in_quotes_is_text(quote: str) -> None:
    (statement,) = parse_text(f"drop {quote}a # b{quote} # c").statements
    assert isinstance(statement, tree.Drop)
    assert statement.patterns[0].text == "a # b"


# --- lines that go on -------------------------------------------------------------------------------------------

OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "@", "==", "!=", "<", "<=", ">", ">=", "and", "or"]
GOES_ON = [
    ("drop a, b", "drop a,\n b"),
    ("set a.w = it", "set a.w =\n\n  it"),
    ("set a.w = it", "set a.w\n = it"),
    ("rename a -> b", "rename a ->\n b"),
    ("rename a -> b", "rename a\n\n   # a comment\n -> b"),
    ("rename a ->? b", "rename a\n ->? b"),
    ("set a.w = it | abs", "set a.w = it |\n abs"),
    ("set a.w = it | abs", "set a.w = it\n | abs"),
    ("set a.w = f(it, 1)", "set a.w = f(\n\n it # the current one\n , 1\n)"),
    ("set a.w = it[0, 1]", "set a.w = it[\n0\n,\n1\n]"),
    ("set a.w = (it)", "set a.w = (\nit\n)"),
    ("drop a where i in [1]", "drop a\n where i in [1]"),
    ("drop a where i in [1]", "drop a where i in\n [1]"),
    ("drop a where i not in [1]", "drop a where i not in\n [1]"),
    ("set a.w = it for b", "set a.w = it\n\tfor b"),
    ("merge a over e -> b = stack", "merge a\n over e\n -> b\n = stack"),
    ("if a { drop b } else { drop c }", "if a { drop b }\nelse { drop c }"),
    ("if a { drop b } else { drop c }", "if a { drop b }\n\n# otherwise\nelse { drop c }"),
    ("drop a where (i == 1)", "drop a\n where(i == 1)"),
    ("if a { drop b } else if d { drop c }", "if a { drop b }\nelse if d { drop c }"),
    ("drop a where key matches b", "drop a where key matches\n b"),
    *((f"let n = a {op} b", f"let n = a {op}\n  b") for op in OPERATORS),
    ("let n = not a", "let n = not\n a"),
    ("let n = -a", "let n = -\n a"),
    ("let n = a == b", "let n = a\n == b"),
    ("param n: int = 3", "param n:\n int\n = 3"),
]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize(("whole", "broken"), GOES_ON, ids=[broken for _, broken in GOES_ON])
def test_lines_that_go_on(whole: str, broken: str, end: str) -> None:
    assert plain_text(broken.replace("\n", end)) == plain_text(whole)


@pytest.mark.parametrize(
    "text",
    [
        "set a.w = it\n + b.w",
        "set a.w = it\n (b)",
        "set a.w = it\n [0]",
        "drop a\n , b",
        "let n = a\n and b",
        "let n = a\n matches b",
        "rename a\n b",
        "if a\n { drop b }",
        "if a { drop b } else\n { drop c }",
    ],
)
def test_lines_that_end(text: str) -> None:
    with pytest.raises(StatexError):
        parse_text(text)


def test_a_line_may_end_in_stars() -> None:
    assert kinds("drop a.**\ndrop *\nset ** = it\ndrop **") == ["Drop", "Drop", "Set", "Drop"]


# --- words ------------------------------------------------------------------------------------------------------

WORDS = [
    "add", "allow", "copy", "drop", "expect", "if", "include", "input", "keep", "let", "macro", "merge",
    "order", "param", "rename", "renumber", "root", "set", "split", "use", "within", "else", "where", "for",
    "over", "as", "with", "like", "natural", "missing", "unexpected", "first", "part", "prefix", "suffix",
    "text", "no", "key", "matches", "count", "exists", "shape", "dtype", "not", "and", "or", "in",
]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_words_of_the_language_are_keys_too(word: str) -> None:
    (statement,) = parse_text(f"drop {word}.weight").statements
    assert isinstance(statement, tree.Drop)
    assert statement.patterns[0].text == f"{word}.weight"
    table = f"rename {{\n  {word}.a -> x.a\n  {word}   -> x.b\n  {word} ->? x.c\n  x.d ->? {word}\n}}"
    (statement,) = parse_text(table).statements
    assert isinstance(statement, tree.Rename)
    assert [row.source.text for row in statement.rows] == [f"{word}.a", word, word, "x.d"]
    assert statement.rows[3].target.text == word


@pytest.mark.parametrize("word", ["part", "prefix", "suffix", "text", "first"])
def test_modes_of_rename_are_keys_where_an_arrow_follows(word: str) -> None:
    for text in (f"rename {word} -> x", f"rename {word}   -> x", f"rename? {word} -> x", f"rename {{ {word} -> x }}"):
        (statement,) = parse_text(text).statements
        assert isinstance(statement, tree.Rename)
        assert statement.mode is tree.RenameMode.KEY
        assert statement.rows[0].source.text == word


@pytest.mark.parametrize("word", ["set", "drop", "part", "first", "for", "over", "where", "like", "target"])
def test_verbs_are_names_inside_statements(word: str) -> None:
    assert kinds(f"param {word}: int\nlet x = {word} + 1\nset a.w = f({word}=1)") == ["Param", "Let", "Set"]


# --- quoted keys ------------------------------------------------------------------------------------------------

QUOTED = [
    ("'a b'", "a b", tree.PatternKind.LITERAL),
    ("'a{i}*.**'", "a{i}*.**", tree.PatternKind.LITERAL),
    ("''", "", tree.PatternKind.LITERAL),
    (r"'it\'s'", "it's", tree.PatternKind.LITERAL),
    (r"'a\\b\n\t\"'", 'a\\b\n\t"', tree.PatternKind.LITERAL),
    ("'→ ∂/x-y; {'", "→ ∂/x-y; {", tree.PatternKind.LITERAL),
    ('"a b"', "a b", tree.PatternKind.QUOTED),
    ('"a-{i}/*"', "a-{i}/*", tree.PatternKind.QUOTED),
    (r"/a\/b\d+(?<=3)/", r"a/b\d+(?<=3)", tree.PatternKind.REGEX),
]


@pytest.mark.parametrize(("written", "text", "kind"), QUOTED, ids=[q[0] for q in QUOTED])
def test_quoted_keys(written: str, text: str, kind: tree.PatternKind) -> None:
    (statement,) = parse_text(f"drop {written}").statements
    assert isinstance(statement, tree.Drop)
    (pattern,) = statement.patterns
    assert (pattern.text, pattern.kind, pattern.input) == (text, kind, None)
    assert pattern.span.text == written


def test_single_quotes_are_literal_and_double_quotes_a_pattern() -> None:
    (statement,) = parse_text("""rename 'a.{i}' -> "b{{}} {i}.*" """).statements
    assert isinstance(statement, tree.Rename)
    (row,) = statement.rows
    assert plain(row.source.pieces) == plain((tree.Text(row.span, "a.{i}"),))
    assert [type(piece).__name__ for piece in row.target.pieces] == ["Text", "Capture", "Text", "Star"]
    assert plain(row.target.pieces[0]) == ("Text", ("text", "b{} "))


def test_keys_of_inputs_in_quotes() -> None:
    (statement,) = parse_text("""drop ft::'a b', ft::"{x} b", ft::a.b""").statements
    assert isinstance(statement, tree.Drop)
    assert [(p.input, p.text) for p in statement.patterns] == [("ft", "a b"), ("ft", "{x} b"), ("ft", "a.b")]


# --- blocks -----------------------------------------------------------------------------------------------------


def test_nested_blocks() -> None:
    text = """
macro tidy(prefix) {
  within "{$prefix}.{i:int}" {
    if n > 2 {
      rename { a -> b; c -> d }
      if n > 3 { drop x } else if n > 4 { drop y; drop z }
      else {
        drop w
      }
    }
  }
}
use tidy('model')
"""
    macro, use = parse_text(text).statements
    assert isinstance(macro, tree.Macro)
    assert isinstance(use, tree.Use)
    (within,) = macro.body
    assert isinstance(within, tree.Within)
    (outer,) = within.body
    assert isinstance(outer, tree.If)
    rename, inner = outer.then
    assert isinstance(rename, tree.Rename)
    assert isinstance(inner, tree.If)
    (otherwise,) = inner.otherwise
    assert isinstance(otherwise, tree.If)
    assert len(rename.rows) == 2
    assert [len(inner.then), len(otherwise.then), len(otherwise.otherwise)] == [1, 2, 1]


def test_a_brace_before_a_letter_is_a_capture_and_before_a_space_a_block() -> None:
    (capture,) = parse_text("rename {a}.w -> b").statements
    (table,) = parse_text("rename { a -> b }").statements
    assert isinstance(capture, tree.Rename)
    assert isinstance(table, tree.Rename)
    assert (capture.is_table, table.is_table) == (False, True)
    for braces in ("{i}", "{_}", "{$p}", "{_x1}"):
        (within,) = parse_text(f"within a{braces}.b {{\n drop c }}").statements
        assert isinstance(within, tree.Within)
        assert within.pattern.text == f"a{braces}.b"


@pytest.mark.parametrize("depth", [1, 10, 90])
def test_blocks_within_blocks(depth: int) -> None:
    program = parse_text("within a {\n" * depth + "drop b\n" + "}\n" * depth)
    node: tree.Statement = program.statements[0]
    for _ in range(depth):
        assert isinstance(node, tree.Within)
        (node,) = node.body
    assert isinstance(node, tree.Drop)
