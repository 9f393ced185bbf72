"""SX1xx: the text of rule files and the form of patterns."""

from statex.diagnostics.codes.registry import declare

UNEXPECTED = declare(
    "SX101",
    "something that does not belong here",
    meaning="The text cannot continue like this at the marked place: there is a word, symbol or key where the "
    "statement needs something else.",
    example="drop a.weight b.weight",
    fix="The message says what is expected there. Separate several patterns with commas: `drop a.weight, b.weight`.",
)
UNKNOWN_VERB = declare(
    "SX102",
    "a statement with an unknown verb",
    meaning="Every statement starts with a verb of the language, and this word is not one.",
    example="delete a.weight",
    fix="The verbs are rename, renumber, set, add, copy, drop, keep, split, merge, param, let, input, include, macro, "
    "use, within, if, root, order, expect and allow. Here: `drop a.weight`.",
)
UNCLOSED = declare(
    "SX103",
    "a bracket that is not closed",
    meaning="A bracket is opened, and the statement or the file ends before it is closed.",
    example="set a.weight = cast(bf16",
    fix="Close it: `set a.weight = cast(bf16)`.",
)
UNOPENED = declare(
    "SX104",
    "a closing bracket that does not fit",
    meaning="A bracket is closed that was not opened, or another kind of bracket is open.",
    example="set a.weight = it[0)",
    fix="Close the bracket that is open: `it[0]`.",
)
UNCLOSED_TEXT = declare(
    "SX105",
    "quoted text that is not closed",
    meaning="A quote is opened but not closed on the same line.",
    example="rename prefix 'module. -> ''",
    fix="Close it: `rename prefix 'module.' -> ''`. Write a quote inside it as `\\'`.",
)
ODD_CHARACTER = declare(
    "SX106",
    "a character that needs quotes",
    meaning="Bare keys are made of letters, digits, `_` and dots. Other characters need quotes.",
    example="drop my-layer.weight",
    fix="Quote the key: `drop 'my-layer.weight'`, or `\"my-layer.{x}\"` for a pattern with captures.",
)
TOO_DEEP = declare(
    "SX107",
    "nested too deeply",
    meaning="Brackets, or operators in an expression, are nested beyond what any sensible rule needs.",
    example="set a = " + "(" * 120 + "it" + ")" * 120,
    fix="Break the expression up: a `let` for sizes, several `set` statements for tensors.",
)
BAD_ESCAPE = declare(
    "SX108",
    "an unknown escape",
    meaning="In quoted text a backslash may come only before a quote, a backslash, `n` or `t`; in double quotes also "
    "before `{`, `}` and `*`, which then stand for themselves.",
    example="drop 'a\\q'",
    fix="Write `\\\\` for a backslash. Write regular expressions between slashes: `/a\\d+/`.",
)
BAD_CAPTURE = declare(
    "SX109",
    "a capture that cannot be read",
    meaning="Braces contain a name, perhaps with a type (`{i:int}`, `{m:**}`), choices (`{p:q|k|v}`), or an integer "
    "expression.",
    example="rename a.{i:float} -> b.{i}",
    fix="Use `{i}`, `{i:int}`, `{m:**}` or `{p:a|b}`. For a literal brace write `\\{` in double quotes.",
)
STARS_ALONE = declare(
    "SX110",
    "`**` inside a segment",
    meaning="`**` and `{m:**}` stand for whole segments, so they must be alone between dots.",
    example="drop a**.weight",
    fix="Use `*` for characters of one segment (`a*.weight`), or put dots around: `a.**.weight`.",
)
MISSING_ARROW = declare(
    "SX111",
    "a missing `->` or `=`",
    meaning="The statement needs `->` before the new key, or `=` before the expression.",
    example="rename a.weight b.weight",
    fix="Write `rename a.weight -> b.weight`; `set a.weight = …`.",
)
ENDS_EARLY = declare(
    "SX112",
    "a statement that ends too early",
    meaning="The line ends, but the statement needs more.",
    example="set a.weight",
    fix="Finish it: `set a.weight = zeros_like`. A line continues after `,` `=` `|` `->`, inside brackets, and if the "
    "next line starts with one of these.",
)
CONTROL = declare(
    "SX113",
    "a control character",
    exit=3,
    meaning="The text contains a character that is not text, such as a zero byte; usually the file is not a rule file.",
    example="drop a\x01.weight",
    fix="Remove it, or name the right file.",
)
TEXT_COMPARED = declare(
    "SX114",
    "`=` and `==` mixed up",
    meaning="`=` assigns a value, `==` compares.",
    example="drop ** where ndim = 1",
    fix="Write `where ndim == 1`, and `set a.weight = …`.",
)
TOO_LARGE = declare(
    "SX115",
    "a rule text that is too large",
    meaning="A rule text may have at most 2 MiB; parsing takes some hundred times as much memory. A larger file is not "
    "read (SX222, SX215).",
    example='statex plan -e "$(cat generated.sx)" in.pth   # 5 MB of rules',
    fix="Write patterns with captures instead of a row for each key, or split the rules into several files.",
)
