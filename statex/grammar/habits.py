"""Syntax errors by habit: what Python, torch or other languages would read, and how it is written here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import syntax as codes
from statex.diagnostics.torch_words import method_call
from statex.grammar.slip import Slip, closing_of

_OPERATOR = r"(?:[+%@]|-(?!>)|\*{1,2}(?![\w.*{])|//?|[=!<>]=|[<>]|(?:and|or|in|matches|not[ \t]+in)\b)"
_LEADING = re.compile(_OPERATOR)
_LOOKED_AT = 2_000
"""Characters of further lines."""
_LED_LINE = re.compile(rf"\n[ \t]*{_OPERATOR}")
_LOOKALIKE = {"−": "-", "–": "-", "—": "-", "×": "*", "·": "*", "÷": "/", "≤": "<=", "≥": ">=", "≠": "!=", "…": "..."}
_NUMBER = re.compile(
    r"\.\d+(?:[eE][+-]?\d+)?|\d+\.(?:[eE][+-]?\d+)?(?![\w.{])|0[xX][\da-fA-F]{1,15}\b|[1-9]\d{0,15}(?:_\d{1,9}){1,4}\b"
)
_COMMENT = re.compile(r"//|--(?!>)|/\*")
_BARE_STATEMENT = re.compile(r"((?:'[^'\n]*'|\"[^\"\n]*\"|[\w.{}:*]+))[ \t]*(=(?!=)|->)")
_AUGMENTED = re.compile(r"([-+*/@%:]|//|\*\*)=(?!=)[ \t]*([^\n#;]*?)[ \t]*(?=[\n#;]|\Z)")
_DIGITS_KEY = re.compile(r"::(\d[\w.]*)")
_DOTTED = re.compile(r"[\w.{}:]*")
_CALLED = re.compile(r"\.([A-Za-z_]\w*)(?=\()")
_SLICE_OF_DIM = re.compile(r"\[[ \t]*([^][,=]*:[^][,=]*?)[ \t]*,[ \t]*dim[ \t]*=[ \t]*(-?\d)[ \t]*\]")
_ASKED = re.compile(r"\b(count|exists)[ \t]+((?:\w+::)?[\w.*{}:|$]+|'[^'\n]*'|\"[^\"\n]*\")")
_OF_KEYS = re.compile(r"(?:\A|[;{])[ \t]*(drop|keep|set|rename|copy|renumber|split|merge)\??[ \t]+([^=;{}]*)\Z")
_AROUND = re.compile(r"\b(?:value|metadata)[ \t]*\([^()\n]*\)")
_OF_EACH = re.compile(r"expect[ \t]+(shape|dtype)[ \t]")


def _lookalike(slip: Slip) -> Diagnostic | None:
    """Recognise signs that typography has for those of rules: `1 − x`, `2 × x`."""
    meant = _LOOKALIKE.get(slip.found[:1])
    if meant is None or not slip.expected & {"SIGN", "TIMES", "CMP", "ELLIPSIS"}:
        return None
    sign = slip.found[0]
    what = f"`{sign}` (U+{ord(sign):04X}) is not an operator"
    return diagnostic(codes.UNEXPECTED, what, slip.to(slip.at, slip.at + 1), help=f"write `{meant}`")


def _leading_operator(slip: Slip) -> Diagnostic | None:
    """Recognise an expression that goes on in a line of its own: the line before has ended its statement."""
    operator = slip.match(_LEADING)
    before = slip.text[: slip.at].rstrip()
    after_block = before.rpartition("\n")[2].strip() in ("", "}")
    if operator is None or "RENAME" not in slip.expected or slip.line_before.strip() or after_block:
        return None
    line = slip.at - len(slip.line_before) - 1
    several = len(_LED_LINE.findall(slip.text[line : line + _LOOKED_AT].partition("\n\n")[0])) > 1
    one = "each operator" if several else f"`{operator.group()}`"
    return diagnostic(
        codes.UNEXPECTED,
        f"a line cannot begin with `{operator.group()}`",
        slip.to(*operator.span()),
        also=[(slip.to(len(before) - 1, len(before)), "the statement ends here")],
        help=f"write {one} at the end of the line before, or put the expression in parentheses",
    )


def _leading_if(slip: Slip) -> Diagnostic | None:
    """Recognise `if COND else Y` in a line of its own, where `if` begins a statement."""
    begin = re.match(r"[ \t]*(if\b.*?)[ \t]*\Z", slip.line_before)
    if slip.found != "else" or "LBRACE" not in slip.expected or begin is None:
        return None
    start = slip.at - len(slip.line_before)
    return diagnostic(
        codes.UNEXPECTED,
        "`if` at the start of a line begins a statement",
        slip.to(start + begin.start(1), start + begin.end(1)),
        help=f"write `{begin.group(1)}` at the end of the line before, or put the expression in parentheses",
    )


def _comment(slip: Slip) -> Diagnostic | None:
    """Recognise comments of other languages: `// text`, `-- text`."""
    sign = slip.match(_COMMENT)
    if sign is None or not slip.expected & {"_NL", "RENAME"}:
        return None
    what = f"`{sign.group()}` does not begin a comment"
    return diagnostic(codes.UNEXPECTED, what, slip.to(*sign.span()), help="write `#`")


def _assigned(slip: Slip) -> Diagnostic | None:
    """Recognise a statement without its verb: `a.weight = it * 2`, `a.weight -> b.weight`."""
    bare = slip.match(_BARE_STATEMENT)
    if bare is None or "RENAME" not in slip.expected:
        return None
    verb = "set" if bare.group(2) == "=" else "rename"
    what = "a statement starts with a verb"
    return diagnostic(codes.UNKNOWN_VERB, what, slip.to(*bare.span(1)), help=f"write `{verb} {bare.group(1)}`")


def _augmented(slip: Slip) -> Diagnostic | None:
    """Recognise `set a.weight *= 2` and `set a.weight := it`."""
    sign = slip.match(_AUGMENTED)
    if sign is None or "EQUAL" not in slip.expected or "CMP" in slip.expected:
        return None
    operator, rest = sign.groups()
    written = "=" if operator == ":" else f"= it {operator}"
    if operator != ":" and not re.fullmatch(r"[\w.]+", rest):
        written = f"= it {operator} (…)"
    what = f"expected `=`, found `{operator}=`"
    return diagnostic(codes.MISSING_ARROW, what, slip.to(sign.start(), sign.end(1) + 1), help=f"write `{written}`")


def _number(slip: Slip) -> Diagnostic | None:
    """Recognise `.5` and `1.`, in which Python leaves out a digit."""
    number = slip.match(_NUMBER)
    if number is None or "NUMBER" not in slip.expected:
        return None
    text = number.group()
    if "." not in text:
        what, written = f"`{text}` is not a number here", str(int(text, 0))
    else:
        what = f"`{text}` needs a digit on both sides of the point"
        written = f"0{text}" if text[0] == "." else text.replace(".", ".0")
    return diagnostic(codes.UNEXPECTED, what, slip.to(*number.span()), help=f"write `{written}`")


def _method(slip: Slip) -> Diagnostic | None:
    """Recognise calls of methods and of torch's functions: `it.reshape(4, -1)`, `torch.zeros_like(it)`."""
    if "CMP" not in slip.expected:
        return None
    called = slip.match(_CALLED)
    if called is not None and slip.text[slip.at - 1 : slip.at] in (")", "]"):
        return _method_of_value(slip, called)
    start = slip.start_of(_DOTTED)
    value, dot, method = slip.text[start : slip.at].rpartition(".")
    if not (slip.found == "(" and value and dot and re.fullmatch(r"\w+", method)):
        return None
    is_torch = value == "torch" or value.startswith("torch.")
    end, written = _calls(slip.text, slip.at, "" if is_torch else value, method)
    what = f"operations are not methods, and `{value}.{method}` is a key"
    if is_torch:
        what = f"operations are written without `{value}`"
    return diagnostic(codes.UNEXPECTED, what, slip.to(start, end), help=f"write `{written}`")


def _method_of_value(slip: Slip, called: re.Match[str]) -> Diagnostic:
    """Return the diagnostic for a method of what ends before the place with a bracket: `(it + 1).half()`."""
    start = slip.at - 1
    while start > 0 and slip.text[start] in ")]":
        start = replace(slip, at=start).opening()
        start -= slip.text[start - 1 : start] in (")", "]") and start > 0
    start = replace(slip, at=start).start_of(_DOTTED) if start > 0 else 0
    value = slip.text[start : slip.at]
    if value[0] == "(" and closing_of(value, 0) == len(value) - 1:
        value = value[1:-1]
    end, written = _calls(slip.text, called.end(), value, called.group(1))
    return diagnostic(codes.UNEXPECTED, "operations are not methods", slip.to(start, end), help=f"write `{written}`")


def _calls(text: str, at: int, value: str, method: str) -> tuple[int, str]:
    """Return where a chain of calls ends whose first bracket is at an offset, and what it is in rules."""
    while True:
        closed = closing_of(text, at)
        given = text[at + 1 : closed] if closed > 0 else ""
        value = method_call(value, method, given) if value else f"{method}({given})"
        following = _CALLED.match(text, closed + 1) if closed > 0 else None
        if following is None:
            return (closed + 1 if closed > 0 else at), value
        method, at = following.group(1), following.end()


def _named_index(slip: Slip) -> Diagnostic | None:
    """Recognise a named dim in an index: `it[:10, dim=0]`."""
    opened = slip.opening()
    if slip.found != "=" or opened < 1 or slip.text[opened] != "[" or slip.text[opened - 1] in " \t\n(,=":
        return None
    found = _SLICE_OF_DIM.match(slip.text, opened)
    closed = closing_of(slip.text, opened)
    dims = int(found.group(2)) if found is not None else 0
    before = ":, " * dims if dims >= 0 else "..., "
    written = f"[{before}{found.group(1)}{', :' * (-1 - dims)}]" if found is not None else ""
    return diagnostic(
        codes.UNEXPECTED,
        "an index has no named arguments",
        slip.to(opened, closed + 1 if closed > 0 else slip.at + 1),
        help=f"write `{written}`" if written else "each dim is indexed by its position: `[:, :10]` cuts the second one",
    )


def _asked_bare(slip: Slip) -> Diagnostic | None:
    """Recognise the short form of `expect count PATTERN == n` where a whole condition is written."""
    line = slip.text[slip.at - len(slip.line_before) :].partition("\n")[0]
    begin = slip.at - len(slip.line_before)
    joined = slip.found in ("and", "or") or slip.expected == {"LPAR"}
    if not joined or re.match(r"[ \t]*(?:\}?[ \t]*else[ \t]+)?(?:expect|if|let|drop|set|keep)\b", line) is None:
        return None
    each = _OF_EACH.search(line)
    if each is not None:
        what = f"`expect {each.group(1)} …` asks one thing of every match, and cannot be joined with more"
        return diagnostic(codes.UNEXPECTED, what, slip.span, help="write a second statement: `expect …`")
    asked = list(_ASKED.finditer(line))
    if not asked:
        return None
    start, end = asked[0].start(), asked[-1].end()
    written = _ASKED.sub(r"\1(\2)", line[start:end])
    return diagnostic(
        codes.UNEXPECTED,
        f"inside of a condition, the pattern of `{asked[0].group(1)}` goes in parentheses",
        slip.to(begin + start, begin + end),
        help=f"write `{written}`",
    )


def _number_as_key(slip: Slip) -> Diagnostic | None:
    """Recognise a key of digits after `::`, as of the state of an optimizer: `::0`."""
    key = slip.match(_DIGITS_KEY)
    if key is None:
        return None
    if "LPAR" not in slip.expected:
        what, instead = "a key to look up is written without `::`", key.group(1)
    else:
        what, instead = "after `::`, a key that begins with a digit goes in quotes", f"::'{key.group(1)}'"
    return diagnostic(codes.UNEXPECTED, what, slip.to(*key.span()), help=f"write `{instead}`")


def _around(slip: Slip) -> Diagnostic | None:
    """Recognise keys and values around the state in one statement, and values in a statement about keys alone."""
    begun = _OF_KEYS.search(slip.line_before)
    if begun is None:
        return None
    verb, items = begun.groups()
    last = _AROUND.search(items + slip.text[slip.at : slip.at + _LOOKED_AT].partition("\n")[0])
    if slip.found == "(" and last is not None and re.search(r"\b(?:value|metadata)[ \t]*\Z", items):
        named, start = last.group(), slip.at - len(items) + last.start()
    elif "VALUE_OF" in slip.expected and last is not None and items.rstrip().endswith(","):
        named, start = last.group(), slip.at
    else:
        return None
    end = start + len(named) if slip.found == "(" else slip.at + len(slip.found)
    place = slip.to(start, end)
    if verb in ("drop", "set") and "," in items:
        what = f"one `{verb}` takes keys of the state or values around it, not both"
        return diagnostic(codes.UNEXPECTED, what, place, help=_apart(slip, verb, slip.at - len(items)))
    if verb == "set" and f"{verb}?" in slip.line_before:
        what = f"before `{named}`, `set` takes no `?`: that there is nothing to set is an error"
        return diagnostic(codes.UNEXPECTED, what, place, help=f"write `set {named} = …`, or `add {named} = …`")
    what = f"`{verb}` takes keys of the state, and `{named}` is not one of them"
    return diagnostic(codes.UNEXPECTED, what, place, help=_INSTEAD_AROUND.get(verb, _INSTEAD_AROUND[""]).format(named))


def _apart(slip: Slip, verb: str, start: int) -> str:
    """Return the statements that say apart what one that starts its list at an offset has said together."""
    text = re.split(r"[\n;}#]", slip.text[start : start + _LOOKED_AT])[0]
    items = text.partition("=")[0] if verb == "set" else text
    around = _AROUND.findall(items)
    keys = [item.strip() for item in _AROUND.sub("", items).split(",") if item.strip()]
    is_plain = verb == "drop" and re.search(r"\bwhere\b", items) is None
    if not is_plain:
        return f"write two statements: `{verb} KEY …` and `{verb} {around[0]} …`"
    return f"write two statements: `{verb} {', '.join(keys)}` and `{verb} {', '.join(around)}`"


_INSTEAD_AROUND = {
    "keep": "values around the state stay unless a rule drops them: `drop {}`",
    "": "`set {0} = …` gives it a value, `add {0} = …` makes a new one, and `drop {0}` drops it",
}
"""What can be done with a value around the state, by the verb that was written."""


RULES: tuple[Callable[[Slip], Diagnostic | None], ...] = (
    _comment, _leading_operator, _leading_if, _assigned, _augmented, _lookalike, _number, _method, _named_index,
    _asked_bare, _number_as_key, _around,
)  # fmt: skip
"""Each says what was written by habit, or nothing; the first that does is shown."""
