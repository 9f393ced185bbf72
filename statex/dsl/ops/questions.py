"""Functions that ask the header: documented here, answered while planning."""

from __future__ import annotations

from statex.core.record import record


@record
class Question:
    """A question: how it is written, what it answers, and a statement that asks it."""

    name: str
    signature: str
    doc: str
    example: str


QUERIES: tuple[Question, ...] = (
    Question(
        "size", "size(x, dim=none)", "The length of a dim, or the whole shape.",
        "let vocab = size(embed.weight, 0)",
    ),
    Question(
        "shape", "shape(x)", "The shape as a list of ints; `shape` alone is that of `it`.",
        "drop ** where shape == [1]",
    ),
    Question(
        "ndim", "ndim(x)", "The number of dimensions; `ndim` alone is that of `it`.",
        "set ** = transpose where ndim == 2",
    ),
    Question("numel", "numel(x)", "The number of elements; `numel` alone is that of `it`.", "drop ** where numel == 0"),
    Question(
        "dtype", "dtype(x)", "The dtype; `dtype` alone is that of `it`.",
        "set ** = cast(bf16) where dtype == f32",
    ),
    Question(
        "is_floating_point", "is_floating_point(x)", "True for tensors of real floating-point dtypes.",
        "set ** = cast(bf16) where is_floating_point(it)",
    ),
    Question("is_complex", "is_complex(x)", "True for tensors of complex dtypes.", "drop ** where is_complex(it)"),
    Question(
        "exists", "exists(PATTERN)", "True if a pattern matches some key.",
        "if exists(lm_head.weight) { drop lm_head.weight }",
    ),
    Question(
        "count", "count(PATTERN)", "The number of keys that a pattern matches.",
        "let layers = count(layers.{i:int}.norm.weight)",
    ),
    Question(
        "value", "value('path', default)",
        "A plain value of a nested checkpoint, by its dotted path, or by the list of keys that lead to it.",
        "let heads = value('args.num_heads')",
    ),
    Question(
        "metadata", "metadata('name', default)", "A text of the file's metadata, by its name.",
        "let base = metadata('ss_base_model_version', default='unknown')",
    ),
    Question(
        "lookup", "lookup(d, 'key', default=…)", "The value of a dict for a key.",
        "let theta = lookup(rope_parameters, 'rope_theta', default=10000.0)",
    ),
    Question(
        "lookup_regex", "lookup_regex(d, text, default=…)",
        "The value of a dict for the first of its keys that, as a regular expression, matches whole last segments of a "
        "text, as peft reads `rank_pattern`.",
        "set {m}.weight = it * lookup_regex(alpha_pattern, m, default=alpha) for {m:**}.weight",
    ),
    Question(
        "isqrt", "isqrt(n)", "The whole part of the square root of an int.",
        "let side = isqrt(size(pos_embed, 1))",
    ),
)  # fmt: skip
