"""Line breaking: documents of texts and possible breaks, laid out within a width.

As in Wadler's and Oppen's printers: a group is set on one line where it fits, else all its own lines break. Beside
that there are clauses, which fill lines as statements do, and comments, after which a line always ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from statex.core.record import record

CONTINUED = 4
"""Columns by which a line that goes on is indented."""


@record
class LineBreak:
    """A place where a line may break; `flat` stands there where it does not."""

    flat: str = " "


@record
class Hard:
    """A place where the line always breaks."""


@record
class CommentDoc:
    """A comment at the end of the line that it stands in."""

    text: str


@record
class IfBroken:
    """A text that stands only where the lines of its group break."""

    text: str


@record
class Concat:
    """Documents one after the other; `forced` where a line among them always breaks."""

    parts: tuple[Doc, ...]
    forced: bool


@record
class Indent:
    """A document whose further lines are indented."""

    doc: Doc
    forced: bool


@record
class GroupDoc:
    """A document on one line, or with all its lines broken."""

    doc: Doc
    forced: bool


@record
class ChoiceDoc:
    """A document, or the same with only its last bracket broken, where it does not fit on the line."""

    doc: Doc
    hug: Doc
    forced: bool


@record
class LineClause:
    """A part of a statement that may begin a line; `own` are comments on lines before it.

    `hug` is the same with only its last bracket broken, so that it begins on the line before. One `with_next` stands
    on one line with the clause after it, if they fit.
    """

    doc: Doc
    own: tuple[str, ...] = ()
    hug: Doc | None = None
    with_next: bool = False


@record
class Clauses:
    """A head and the clauses after it, each on the line before it where it fits."""

    head: Doc
    clauses: tuple[LineClause, ...]
    forced: bool


Doc = str | LineBreak | Hard | CommentDoc | IfBroken | Concat | Indent | GroupDoc | ChoiceDoc | Clauses
"""What is laid out."""

LINE, SOFT, HARD = LineBreak(), LineBreak(""), Hard()


def concat(*parts: Doc) -> Doc:
    """Return documents one after the other."""
    return Concat(parts, any(map(is_forced, parts)))


def indent(*parts: Doc) -> Doc:
    """Return documents whose further lines are indented."""
    doc = concat(*parts)
    return Indent(doc, is_forced(doc))


def group(*parts: Doc) -> Doc:
    """Return documents that stand on one line where they fit."""
    doc = concat(*parts)
    return GroupDoc(doc, is_forced(doc))


def choice(doc: Doc, hug: Doc) -> Doc:
    """Return a document that rather breaks its last bracket than all of its lines."""
    return ChoiceDoc(doc, hug, is_forced(doc))


def clauses(head: Doc, parts: tuple[LineClause, ...]) -> Doc:
    """Return a head with clauses."""
    return Clauses(head, parts, is_forced(head) or any(part.own or is_forced(part.doc) for part in parts))


def is_forced(doc: Doc) -> bool:
    """Say whether a line in a document always breaks."""
    if isinstance(doc, Concat | Indent | GroupDoc | ChoiceDoc | Clauses):
        return doc.forced
    return isinstance(doc, Hard | CommentDoc)


@record
class Printed:
    """A line, and the comment at its end; `continues` where that goes on with the one of the line before."""

    text: str
    comment: str | None = None
    continues: bool = False


@record
class _Rest:
    """The clauses of a statement from one on; `line` is the number of the one where the part before began."""

    clauses: tuple[LineClause, ...]
    at: int
    line: int


_Item = tuple[int, bool, Doc | _Rest]
"""What is to be printed: how far it is indented, whether its lines break, and the document."""


@dataclass(slots=True)
class _Page:
    """The lines that are printed, and the one at work."""

    width: int
    text: str
    comment: str | None = None
    lines: list[Printed] = field(default_factory=list)

    @property
    def room(self) -> int:
        return self.width - len(self.text)

    def end_line(self, indented: int) -> None:
        self.lines.append(Printed(self.text.rstrip(), self.comment))
        self.text, self.comment = " " * indented, None


def lay_out(doc: Doc, width: int, margin: int = 0) -> list[Printed]:
    """Return the lines of a document, all of them indented by a margin."""
    page = _Page(width, " " * margin)
    pending: list[_Item] = [(margin, True, doc)]
    while pending:
        _print(page, pending, *pending.pop())
    page.end_line(0)
    return page.lines


def flat(doc: Doc) -> str | None:
    """Return a document on one line; `None` where a line in it always breaks."""
    if is_forced(doc):
        return None
    pending: list[Doc] = [doc]
    text: list[str] = []
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            text.append(one)
        elif isinstance(one, LineBreak):
            text.append(one.flat)
        else:
            pending.extend(reversed(_parts(one)))
    return "".join(text)


def _parts(doc: Doc) -> tuple[Doc, ...]:
    """Return what a document on one line is made of."""
    if isinstance(doc, Concat):
        return doc.parts
    if isinstance(doc, Indent | GroupDoc | ChoiceDoc):
        return (doc.doc,)
    if isinstance(doc, Clauses):
        return (doc.head, *(part for clause in doc.clauses for part in (" ", clause.doc)))
    return ()


def _print(page: _Page, pending: list[_Item], indented: int, broken: bool, doc: Doc | _Rest) -> None:
    if isinstance(doc, str):
        page.text += doc
    elif isinstance(doc, LineBreak | Hard):
        if broken or isinstance(doc, Hard):
            page.end_line(indented)
        else:
            page.text += doc.flat
    elif isinstance(doc, CommentDoc):
        page.comment = doc.text if page.comment is None else f"{page.comment} {doc.text}"
    elif isinstance(doc, IfBroken):
        page.text += doc.text if broken else ""
    elif isinstance(doc, Indent):
        pending.append((indented + CONTINUED, broken, doc.doc))
    elif isinstance(doc, GroupDoc):
        breaks = broken and not _fits(doc, page.room, pending)
        pending.append((indented, breaks, doc.doc))
    elif isinstance(doc, ChoiceDoc):
        hugs = broken and not _fits(doc.doc, page.room, pending) and _begins(doc.hug, page.room)
        pending.append((indented, broken, doc.hug if hugs else doc.doc))
    elif isinstance(doc, _Rest):
        _clause(page, pending, indented, doc)
    elif isinstance(doc, Clauses) and broken:
        pending.append((indented, True, _Rest(doc.clauses, 0, len(page.lines))))
        pending.append((indented, True, doc.head))
    else:
        pending.extend((indented, broken, part) for part in reversed(_parts(doc)))


def _clause(page: _Page, pending: list[_Item], indented: int, rest: _Rest) -> None:
    """Print the next clause: on the line at work if it fits there or begins a bracket there, else on one of its own."""
    if rest.at == len(rest.clauses):
        return
    clause = rest.clauses[rest.at]
    inner = indented + CONTINUED
    fresh = page.comment is not None or len(page.lines) > rest.line or bool(clause.own)
    here, below = -1 if fresh else page.room - 1, page.width - inner
    doc, beside = clause.doc, _fits(clause.doc, here)
    if beside and clause.with_next and rest.at + 1 < len(rest.clauses):
        both = concat(clause.doc, " ", rest.clauses[rest.at + 1].doc)
        beside = _fits(both, here) or not _fits(both, below)
    if clause.hug is not None and not beside and not _fits(clause.doc, below):
        beside = _begins(clause.hug, here)
        doc = clause.hug if beside or _begins(clause.hug, below) else doc
    if beside:
        page.text += " "
    else:
        page.end_line(inner)
        for text in clause.own:
            page.text += text
            page.end_line(inner)
    pending.append((indented, True, _Rest(rest.clauses, rest.at + 1, len(page.lines))))
    pending.append((indented if beside else inner, True, doc))


def _fits(doc: Doc, room: int, after: list[_Item] | None = None) -> bool:
    """Say whether a document fits on the line, with what comes after it up to where that may break."""
    if is_forced(doc):
        return False
    pending: list[tuple[bool, Doc | _Rest]] = [(False, doc)]
    following = len(after) if after is not None else 0
    while room >= 0:
        if not pending:
            if not following or after is None:
                return True
            following -= 1
            pending.append(after[following][1:])
        broken, one = pending.pop()
        if isinstance(one, str):
            room -= len(one)
        elif isinstance(one, Hard | _Rest) or (isinstance(one, LineBreak) and broken):
            return True
        elif isinstance(one, LineBreak):
            room -= len(one.flat)
        elif isinstance(one, IfBroken):
            room -= len(one.text) if broken else 0
        elif isinstance(one, GroupDoc):
            pending.append((one.forced, one.doc))
        elif not isinstance(one, CommentDoc):
            pending.extend((broken, part) for part in reversed(_parts(one)))
    return False


def _begins(doc: Doc, room: int) -> bool:
    """Say whether what a document has before its first break fits on the line."""
    pending: list[Doc] = [doc]
    while pending and room >= 0:
        one = pending.pop()
        if isinstance(one, LineBreak | Hard):
            return True
        if isinstance(one, str):
            room -= len(one)
        elif isinstance(one, GroupDoc) and not one.forced:
            text = flat(one.doc)
            room -= len(text or "")
        else:
            pending.extend(reversed(_parts(one)))
    return room >= 0
