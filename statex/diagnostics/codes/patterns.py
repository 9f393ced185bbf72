"""SX15x to SX19x: what a pattern or a template means, beyond its syntax."""

from statex.diagnostics.codes.registry import declare

CAPTURE_TYPE = declare(
    "SX150",
    "a capture of two types",
    meaning="A capture keeps the type of its first mention in a statement, but here it is declared again with another "
    "one.",
    example="rename {i:int}.{i:**} -> {i}",
    fix="Declare it once: `{i:int}` first, `{i}` after, or use two names.",
)
SEGMENTS_ALONE = declare(
    "SX151",
    "whole segments inside a segment",
    meaning="`**` and captures of whole segments must be alone between dots.",
    example="rename {m:**}.{m}_x -> {m}",
    fix="Put dots around it, or capture a single segment: `{i}`.",
)
FIELD_IN_PATTERN = declare(
    "SX152",
    "arithmetic in a pattern",
    meaning="`{i + 1}` and `{i:02}` compute text; on the left of `->` there is nothing to compute from yet.",
    example="rename layers.{i + 1} -> layers.{i}",
    fix="Match the number with `{i:int}` and compute on the right: `layers.{i:int} -> layers.{i - 1}`.",
)
BAD_REGEX = declare(
    "SX153",
    "an invalid regular expression",
    meaning="The text between the slashes is not a valid regular expression.",
    example="drop /a(/",
    fix="Correct it; the syntax is that of Python's `re`.",
)
SLOW_REGEX = declare(
    "SX154",
    "a pattern that takes too long",
    meaning="The pattern did not finish in time on a key: it backtracks endlessly. Regular expressions with nested "
    "repetition do so, and so do patterns of many captures, some of them used more than once.",
    example="drop /(a|a)+b/   # over a long key of a",
    fix="Avoid nested repetition, or write a pattern: `**.{i:int}.weight`.",
)
UNBOUND = declare(
    "SX155",
    "a name that nothing binds",
    meaning="A template uses a capture that its pattern does not have, and that is not a parameter either.",
    example="rename a.{i}.weight -> b.{j}.weight",
    fix="Use the names of the pattern, or add the capture there.",
)
TOO_MANY_STARS = declare(
    "SX156",
    "more `*` on the right than on the left",
    meaning="The nth `*` of a template stands for the nth `*` of its pattern, but the pattern has fewer of them.",
    example="rename a.* -> b.*.*",
    fix="Write the same number, or name the captures: `a.{x} -> b.{x}.{x}`.",
)
NOT_AN_INT = declare(
    "SX157",
    "arithmetic on text",
    meaning="A template computes with a capture or parameter that is text.",
    example="rename a.{i} -> a.{i + 1}",
    fix="Declare the capture as an int: `a.{i:int} -> a.{i + 1}`.",
)
BAD_NUMBER = declare(
    "SX158",
    "a number that cannot be part of a key",
    meaning="Arithmetic in a template divides by zero, or results in a negative number.",
    example="rename a.{i:int} -> a.{i - 1}   # over a.0",
    fix="Correct the expression, or filter with `where i > 0`.",
)
NOT_TEXT = declare(
    "SX159",
    "a pattern where plain text is needed",
    meaning="`rename prefix`, `suffix` and `text` replace plain text: there is nothing to capture.",
    example="rename prefix 'a' -> \"{x}\"",
    fix="Write plain text, or a rename of whole keys: `rename a.{x} -> b.{x}`.",
)
PART_FORM = declare(
    "SX160",
    "a part without a fixed length",
    meaning="`rename part` replaces whole segments wherever they stand; `**` or a regular expression has no length.",
    example="rename part a.**.b -> c",
    fix="Rename whole keys instead: `rename {m:**}.a.{n:**}.b -> …`.",
)
REGEX_WITHIN = declare(
    "SX161",
    "a regular expression inside `within`",
    meaning="Inside `within` patterns see keys without the prefix, and a regular expression cannot be matched that "
    "way.",
    example="within a { drop /b.*/ }",
    fix="Write a pattern, or move the statement out of the block.",
)
EMPTY_TEXT = declare(
    "SX162",
    "empty text to search for",
    meaning="`rename text` replaces every occurrence of a text; the empty text occurs everywhere.",
    example="rename text '' -> 'x'",
    fix="`rename prefix '' -> 'x'` and `rename suffix '' -> 'x'` put text before and after.",
)
LITERAL_CAPTURE = declare(
    "SX163",
    "a capture in literal text",
    meaning="Between single quotes every character stands for itself, on the right of `->` too. This text contains "
    "something that would be filled in elsewhere: a capture of the statement's own pattern, a parameter, or the "
    "current key.",
    example="rename a.{i} -> 'b-{i}'",
    fix='Write it in double quotes: `"b-{i}"`. If the characters themselves are meant, escape them there: '
    '`"b-\\\\{i}"`.',
)
