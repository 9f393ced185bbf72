"""What help says, done to the letter: the programs that come out when each proposal of a help text is followed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from statex.core.source import Span
from statex.diagnostics import Diagnostic
from statex.grammar.messages import VERBS
from tests.messages.corpus import NAME

CODE = "`([^`]+)`"
TEMPLATE = re.compile(r"…|\b[A-Z]{3,}\b")
"""What has a place to be filled in by whoever reads it."""


class Program:
    """A wrong program, and where a diagnostic marks it."""

    def __init__(self, text: str, found: Diagnostic) -> None:
        self.text = text
        span = found.span.shown if found.span is not None else None
        self.span: Span | None = span if span is not None and span.source.name == NAME else None
        self.start, self.end = (self.span.start, self.span.end) if self.span is not None else (len(text), len(text))

    def replaced(self, new: str, start: int | None = None, end: int | None = None) -> str:
        """Return the program with other text in the place marked, or in another one."""
        start = self.start if start is None else start
        end = self.end if end is None else end
        return self.text[:start] + new + self.text[end:]

    def line(self, at: int | None = None) -> tuple[int, int]:
        """Return where the line of a place starts and ends."""
        at = self.start if at is None else at
        end = self.text.find("\n", at)
        return self.text.rfind("\n", 0, at) + 1, len(self.text) if end < 0 else end

    def statement(self) -> tuple[int, int]:
        """Return where the statement around the place marked starts and ends."""
        begins = [m.start(1) for m in re.finditer(rf"(?m)(?:^|[;{{])[ \t]*((?:{'|'.join(VERBS)})\b)", self.text)]
        start = max((at for at in begins if at <= self.start), default=0)
        following = min((at for at in begins if at > self.start), default=len(self.text))
        text = self.text[start:following].rstrip()
        text = text[:-1].rstrip() if following == len(self.text) and text.count("}") > text.count("{") else text
        text = re.sub(r"[ \t]*#[^\n]*\Z", "", text)
        return start, start + len(text)


Way = Callable[[Program, re.Match[str]], Iterator[str]]


def _instead(program: Program, said: re.Match[str]) -> Iterator[str]:
    new = said["new"]
    end = program.end
    if re.search(r"\S+ -> \S", new) and not new.startswith("{ ") and "->" not in program.text[program.start : end]:
        # A whole row: what is marked, its arrow and its templates.
        row = re.compile(r"\s*->\??\s*(?:\"[^\"]*\"|\S+?)(?:,\s*\S+?)*(?=\s|$|\n)").match(program.text, end)
        assert row is not None
        end = row.end()
    yield program.replaced(new, end=end)


def _maybe(program: Program, said: re.Match[str]) -> Iterator[str]:
    start, _ = program.statement()
    if said["new"] == "->?":
        at = program.text.index("->", program.start)
        yield program.replaced("->?", at, at + 2)
    else:
        verb = said["new"].removesuffix("?")
        at = program.text.index(verb, start)
        yield program.replaced(said["new"], at, at + len(verb))


def _operators(program: Program, said: re.Match[str]) -> Iterator[str]:
    lines = program.text.split("\n")
    first = program.text.count("\n", 0, program.start)
    several = said["what"] == "each operator"
    moved = list(lines)
    number = first
    while number < len(moved):
        operator = re.match(r"[ \t]*(\+|\*|-|@|%|//?|and\b|or\b|if\b.*(?=else))[ \t]*", moved[number])
        if operator is None or (number > first and not several):
            break
        moved[number] = moved[number][operator.end() :]
        before, _, comment = moved[number - 1].partition("#")
        moved[number - 1] = f"{before.rstrip()} {operator[1]}" + (f"  #{comment}" if comment else "")
        number += 1
    yield "\n".join(moved)
    begin = re.search(r"=[ \t]*(?!=)|\bwhere[ \t]+", lines[first - 1])
    assert begin is not None
    lines[first - 1] = lines[first - 1][: begin.end()] + "(" + lines[first - 1][begin.end() :]
    last = max(n for n, line in enumerate(lines) if n == first or re.match(r"[ \t]*[-+*@%/]", line))
    code, _, comment = lines[last].partition("#")
    lines[last] = code.rstrip() + ")" + (f"  #{comment}" if comment else "")
    yield "\n".join(lines)


def _compute(program: Program, said: re.Match[str]) -> Iterator[str]:
    start, _ = program.statement()
    at = program.text.index(" = ", start)
    yield program.replaced(f" {said['new']}", at, at)


def _gathered(program: Program, said: re.Match[str]) -> Iterator[str]:
    at = program.text.rindex("->", 0, program.start)
    yield program.replaced(f"{said['new']} ", at, at)


def _at_top(program: Program, said: re.Match[str]) -> Iterator[str]:
    yield f"{said['new']}\n{program.text}"


def _before(program: Program, said: re.Match[str]) -> Iterator[str]:
    start, _ = program.statement()
    yield program.replaced(f"{said['new']}\n", start, start)


def _after(program: Program, said: re.Match[str]) -> Iterator[str]:
    yield f"{program.text}\n{said['new']}"


def _as_statement(program: Program, said: re.Match[str]) -> Iterator[str]:
    new = said["new"]
    start, end = program.statement()
    if new.startswith("input "):
        yield f"{new}\n{program.text}"
    elif program.span is None:
        yield f"{program.text}\n{new}"
    elif program.text[start:end].split()[0] == new.split()[0]:
        yield program.replaced(new, start, end)
    else:
        yield program.replaced(f"{new}\n", start, start)


def _filtered(program: Program, said: re.Match[str]) -> Iterator[str]:
    _, end = program.statement()
    yield program.replaced(f" {said['new']}", end, end)


def _quoted(program: Program, said: re.Match[str]) -> Iterator[str]:
    at = program.text.index(said["new"][1:-1])
    yield program.replaced(said["new"], at, at + len(said["new"]) - 2)


def _closed(program: Program, said: re.Match[str]) -> Iterator[str]:
    # A bracket is closed at the end of its statement, a quote at that of its line.
    end = program.statement()[1] if said["new"][0] in ")]}" else program.line(program.end)[1]
    yield program.replaced(said["new"], end, end)


def _inserted(program: Program, said: re.Match[str]) -> Iterator[str]:
    yield program.replaced(f"{said['new']} ", program.start, program.start)


def _without_commas(program: Program, said: re.Match[str]) -> Iterator[str]:
    yield program.text[: program.start] + re.sub(r"(?m),(?=[ \t]*(#.*)?$)", "", program.text[program.start :])


def _with_semicolons(program: Program, said: re.Match[str]) -> Iterator[str]:
    yield program.text[: program.start] + program.text[program.start :].replace(",", ";")


def _arrows(program: Program, said: re.Match[str]) -> Iterator[str]:
    start = program.text.rindex("{", 0, program.start)
    rows = re.sub(r"(?m),[ \t]*$", "", program.text[start:].replace(":", " ->"))
    yield program.text[:start] + rows


def _apart(program: Program, said: re.Match[str]) -> Iterator[str]:
    yield program.replaced(f"{said['new']}\n{said['second']}", *program.statement())


def _nothing(program: Program, said: re.Match[str]) -> Iterator[str]:
    yield from ()


WAYS: list[tuple[str, Way]] = [
    (r"did you mean `(?P<new>[^`]+)`\?( if it may be absent: `[^`]+`)?$", _instead),
    (r"(did you mean `[^`]+`\? )?if it may be absent: `(?P<new>[^`]+)`$", _maybe),
    (r"write (?P<what>`[^`]+`|each operator) at the end of the line before, or put the exp", _operators),
    (r"write `(?P<new>in f\d\d)` before `=`", _compute),
    (r"write `(?P<new>->)` instead of `:` in every row, and no commas", _arrows),
    (r"write `(?P<new>over \w+)` before `->` to gather", _gathered),
    (r"a pattern matches whole keys, and .*: `(?P<new>[^`]+)`$", _instead),
    (r"write `(?P<new>->|=)` instead of `[^`]+`$", _instead),
    (r"write `(?P<new>in f64)` instead of `(?P<old>in f32)`$", lambda program, said: iter(
        [program.text.replace(said["old"], said["new"])])),
    (r"write `(?P<new>->)` before the new key$", _inserted),
    (r"write `;` between rows of one line$", _with_semicolons),
    (r"rows of one line are separated by `(?P<new>;)`$", _inserted),
    (r"remove the commas: a row ends with its line$", _without_commas),
    (r"write a plain space or a new line(?P<new>)", lambda program, said: iter([program.replaced(" ")])),
    (r"write two statements: `(?P<new>[^`]+)` and `(?P<second>[^`]+)`$", _apart),
    (r"write `(?P<new>[^`]+)`(?:[:,]? .*)?$", _instead),
    (r"write (?P<new>'[^']*')$", _instead),
    (r"include the dot: write `(?P<new>[^`]+)`$", _instead),
    (r"(?:.*; or )?cast first: `(?P<new>[^`]+)`$", _instead),
    (r"name the dims: `(?P<new>[^`]+)`$", _instead),
    (r"to match whole keys: `(?P<new>[^`]+)`$", _instead),
    (r"if the characters are meant: `(?P<new>[^`]+)`$", _instead),
    (r"declare it as an int where it is matched: `(?P<new>\{(?P<name>\w+):int\})`$", lambda program, said: iter(
        [program.text.replace(f"{{{said['name']}}}", said["new"], 1)])),
    (r"quote it: (?P<new>'.*'|\".*\")$", _quoted),
    (r"declare it: (?P<new>.*)$", _at_top),
    (r"if this is meant: (?P<new>.*)$", _after),
    (r"close the gap after this: (?P<new>.*)$", _after),
    (r"if .* meant to go, drop .* first: `(?P<new>[^`]+)`$", _before),
    (r"if it is not needed, drop it first: `(?P<new>[^`]+)`$", _before),
    (r"(?:add|leave this key as it is:) `(?P<new>where [^`]+)`$", _filtered),
    (r"close it with (?P<new>['\"/])$", _closed),
    (r"`(?P<new>[)\]}]+)` closes it", _closed),
    (rf"(?P<new>(?:{'|'.join(VERBS)})\b[^…]*)$", _as_statement),
]  # fmt: skip
"""What help says, and how that is done."""

ADVICE = [
    r"values around the state stay unless a rule drops them",
    r"`set \S+ = …` gives it a value",
    r"in a `let`, an `if`, an `expect CONDITION`",
    # What is written differs from what is meant in more than its text.
    r"a statement starts with a verb: `rename …`",
    r"the verbs are ",
    r"write `= EXPRESSION`",
    r"write `= it . \(…\)`",
    r"write `sections\(\[1, …\]\)`",
    r"write ' or \"",
    r"write a second statement: `expect …`",
    r"each dim is indexed by its position",
    r"one of several texts is written",
    r"there are no loops",
    r"`statex (show|ops)`",
    r"`x if CONDITION else y` chooses",
    r"several items are separated by `,`",
    r"rules draw no random numbers",
    r"write it as a formula: ",
    r"an index takes a part",
    r"a tensor without a dot in its key is written",
    r"a new statement starts on a new line",
    r"a capture is a name in braces: `\{i\}`",
    r"types are `int`, ",
    r"captures are `\{i\}`, ",
    r"in braces, `\+ - ",
    r"choices are texts between",
    r"`\*` stands for characters of one segment",
    r"match with `\{i:int\}`, compute on the right",
    r"the nth `\*` on the right",
    r"a rename of whole keys or parts has captures",
    r"`rename prefix '' -> …` puts text",
    r"`rename first \{ … \}` lets",
    r"declare the number: ",
    r"declare only the number ",
    r"choose another name, such as ",
    r"bind it: ",
    r"narrow a capture ",
    # What depends on data, on other files, or on what is wanted.
    r"--in ",
    r"-D ",
    r"copy \S+ -> …",
    r"`add KEY = ",
    r"`cat`, `stack` or `mean`",
    r"cast both to a wider dtype",
    r"cast what is not \w+: `cast\(…, \w+\)`",
    r"to keep it ",
    r"`… \| cast\(",
    r"give the sizes: ",
    r"give all but one of them: ",
    r"ask for what the header knows: ",
    r"name the tensor: ",
    r"`full_like\(it, ",
    r"`set \S+ = …` gives it a new value",
    r"give a default: ",
    r"`add \S+ = …` makes a new one",
    r"`root '' -> 'model'` puts it into a dict",
    r"a capture is text unless it is declared an int: ",
    r"a list is written as in JSON",
    r"dtypes have torch's names",
    r"filter the complete groups with `where`",
    r"`renumber` closes gaps",
    r"name it: `--target",
    r"make it of a parameter whose group",
    r"name the state alone, and write its keys without ",
    r"\w+\(.*\)$",
]
"""Help that is not a text to paste: it names a form, or a choice."""


used: set[str] = set()
"""The forms above that have come up."""


def proposals(text: str, found: Diagnostic, help: str) -> list[str]:
    """Return the programs that a help text leads to; none for advice.

    Raises:
        AssertionError: for a text that is neither.
    """
    program = Program(text, found)
    advice = [one for one in ADVICE if re.match(one, help)]
    used.update(advice)
    if advice:
        return []
    made: list[str] = []
    known = False
    for pattern, way in WAYS:
        said = re.match(pattern, help)
        if said is None:
            continue
        known = True
        used.add(pattern)
        if TEMPLATE.search(said["new"] if "new" in said.re.groupindex and said["new"] else ""):
            continue
        made += way(program, said)
        if way is not _instead or "absent" not in help:
            break
    assert known or "`" not in help, f"is this to be followed? {help}"
    return made
