"""SX3xx: keys, matches, collisions, groups and expectations."""

from statex.diagnostics.codes.registry import declare

NO_MATCH = declare(
    "SX301",
    "pattern matches no key",
    meaning="A pattern matches no key of the state at this point, so its statement (or one row or item of it) would do "
    "nothing. Usually a key is misspelt, or an earlier statement has renamed it.",
    example="drop model.no_such.weight",
    fix="Correct the pattern. If the keys may legitimately be absent, say so: `drop? …`, `rename? …`, or `->?` for one "
    "row of a table.",
)
COLLISION = declare(
    "SX302",
    "two keys become one",
    meaning="Two tensors would get the same key, and one of them would be lost.",
    example="rename { a.weight -> c.weight\n         b.weight -> c.weight }",
    fix="Give them different keys, or `drop` the one that is not wanted first.",
)
EXISTS = declare(
    "SX303",
    "the key exists already",
    meaning="A statement writes a new key under a name that is in use. Nothing is overwritten, because the existing "
    "tensor would be lost silently.",
    example="add a.weight = zeros([2, 2])   # a.weight exists",
    fix="`set` gives an existing key a new value; `drop` it first to put another tensor there.",
)
NO_KEY = declare(
    "SX304",
    "there is no such key",
    meaning="An expression reads a tensor, or a `set … for` writes one, under a key that the state does not have at "
    "that point in the program.",
    example="set a.weight = it + missing.weight",
    fix="Correct the key; remember that earlier statements have already been carried out. `exists(KEY)` asks whether "
    "a key is there.",
)
TWO_ROWS = declare(
    "SX305",
    "two rows match one key",
    meaning="In a table for whole keys (or a table of prefixes or suffixes) at most one row may match a key, so the "
    "order of the rows does not matter.",
    example="rename { a.{x} -> b.{x}\n         a.weight -> c.weight }",
    fix="Make the patterns disjoint, or let the first row that matches win: `rename first { … }`.",
)
DEAD_ROW = declare(
    "SX306",
    "a row that never wins",
    meaning="In `rename first { … }`, an earlier row takes every key that this row matches.",
    example="rename first { a.{x} -> b.{x}\n               a.weight -> c.weight }",
    fix="Move the row up, remove it, or write `->?` if this is acceptable.",
)
AMBIGUOUS = declare(
    "SX307",
    "a key can be read in two ways",
    meaning="The captures of a pattern can take two different values for one key, and it is not clear which was meant.",
    example="rename {a}_{b}.weight -> {b}.{a}.weight   # over x_y_z.weight",
    fix="Narrow a capture (`{i:int}`, `{p:q|k|v}`), or put literal text between the two.",
)
NOT_TENSOR = declare(
    "SX308",
    "not a tensor",
    meaning="A key holds a value that is not a tensor (an `_extra_state`, a number), and the statement computes with "
    "it.",
    example="set bn._extra_state = it * 2",
    fix="Such entries can be renamed, copied, dropped and kept. Exclude the key from the pattern.",
)
GROUP = declare(
    "SX309",
    "an incomplete group",
    meaning="`merge` groups sources whose captures are equal, and some groups lack a source.",
    example="merge {m:**}.q, {m}.k, {m}.v -> {m}.qkv = cat   # one block has no k",
    fix="Correct the patterns, or select the complete groups with `where`.",
)
GAP = declare(
    "SX310",
    "a gap in what `over` gathers",
    meaning="`over e` gathers the tensors for all e, which must run 0, 1, 2, … without a gap, or be all the choices of "
    "`{e:a|b|c}`.",
    example="merge experts.{e:int}.w over e -> experts.w = stack   # 0, 1 and 3",
    fix="`renumber experts.{e:int}` closes gaps; or correct the pattern.",
)
TWICE_IN_GROUP = declare(
    "SX311",
    "two keys for one place in a group",
    meaning="Two keys match the same source of a `merge` with the same captures, so it is not clear which of the two "
    "belongs there.",
    example="merge a.{_}.q, a.{_}.k -> a.qk = cat",
    fix="Name what tells them apart: `{i}` instead of `{_}`.",
)
MERGE_CAPTURES = declare(
    "SX312",
    "sources with different captures",
    meaning="The sources of a `merge` are grouped by their captures, so each must have the same ones.",
    example="merge a.{i}.q, b.k -> a.{i}.qk = cat",
    fix="Name the same captures in every source; a tensor that all groups share is read in the expression by its key.",
)
OVER_CAPTURE = declare(
    "SX313",
    "`over` does not name a capture it can run over",
    meaning="`merge … over e` needs `{e:int}` (or a choice) in each of its sources, `split … over e` needs `{e}` in "
    "its template and not in its pattern.",
    example="merge experts.{i:int}.w over e -> experts.w = stack",
    fix="Use the same name on both sides: `merge experts.{e:int}.w over e -> …`.",
)
PIECES = declare(
    "SX314",
    "pieces and templates do not fit",
    meaning="The expression of a `split` gives more or fewer pieces than there are templates to fill, or no pieces at "
    "all.",
    example="split a.qkv -> a.q, a.k = chunk(3)",
    fix="Name one template for each piece, or use `over e`. `chunk`, `sections` and `unstack` give pieces.",
)
RENUMBER = declare(
    "SX315",
    "renumber needs one int capture",
    meaning="`renumber` closes the gaps in the numbers of one capture `{i:int}` at the start of keys.",
    example="renumber model.layers.{i}",
    fix="Declare the number as an int, once: `renumber model.layers.{i:int}`.",
)
EMPTY_KEY = declare(
    "SX316",
    "an empty key",
    meaning="A rename would leave a key empty, or with an empty segment.",
    example="rename prefix 'a' -> ''   # over the key a",
    fix="Leave at least one character, or `drop` the key.",
)
LONG_KEY = declare(
    "SX322",
    "a key that is too long",
    meaning="A statement would make a key of more than 10,000 characters. Templates that repeat a capture double the "
    "length of keys with every statement; an untrusted rule file could fill the memory with them.",
    example="rename {x} -> {x}{x}   # of a key that others have made long",
    fix="Repeat captures less often.",
)
LOST_SOURCE = declare(
    "SX323",
    "a source reaches no result",
    meaning="`split` and `merge` consume their sources, but no result of the statement uses the data of this one (its "
    "shape and dtype alone do not count), so it would be silently lost. Use `drop` for tensors that should go.",
    example="merge bn.weight as x, bn.bias as y -> bn.both = x",
    fix="Use it in the expression; or leave it out of the statement and, if it should go, `drop` it. A piece must be "
    "made from the source itself: use `add` for keys made from other tensors.",
)
EXPECTATION = declare(
    "SX317",
    "an expectation is not met",
    meaning="An `expect` of the program does not hold for this checkpoint.",
    example="expect count(layers.{i:int}.attn.weight) == 32",
    fix="The checkpoint is not of the kind the rules were written for, or the expectation is wrong and needs "
    "correcting.",
)
UNBOUND = declare(
    "SX318",
    "nothing tells which keys are meant",
    meaning="An `add` names several keys by a choice and has no pattern after `for` that says which of them it means.",
    example="add {p:q|k}.bias = zeros([4])",
    fix="Bind it: `add {p}.bias = zeros([4]) for {p:q|k}.weight`.",
)
WHERE_NONE = declare(
    "SX319",
    "`where` leaves no key",
    meaning="The pattern matches keys, but the condition holds for none of them, so the statement would do nothing.",
    example="drop a.* where ndim == 7",
    fix="Correct the condition, or allow the statement to do nothing: `drop? … where …`.",
)
ONLY_MAIN = declare(
    "SX320",
    "only the checkpoint itself can be changed",
    meaning="A statement would change a further input, or the target. These can only be read: by `ft::KEY` in "
    "expressions, in `for`, `copy`, `drop` (which says that a tensor is left out on purpose), `exists` and `count`.",
    example="rename ft::a.weight -> b.weight",
    fix="`copy ft::a.weight -> b.weight` or `add b.weight = it for ft::a.weight` copies a tensor from it.",
)
FAMILY = declare(
    "SX321",
    "the files of a family differ",
    meaning="The checkpoints of an `input NAME[]` do not all have the tensor that is read.",
    example="set a.weight = cat(rank::a.weight)   # one rank has no a.weight",
    fix="Give checkpoints of the same model, or test with `exists`.",
)
STREAM = declare(
    "SX324",
    "a stream that is not what its header says",
    meaning="`Rules.stream` is given a header in advance, and tensors one by one. A key arrived that is not in the "
    "header, or arrived twice, or with another dtype or shape; or the stream ended before all the tensors that the "
    "results need had arrived.",
    example="statex stream   # rules.stream([('a', tensor)], header_with_b)",
    fix="Give the header of the same state that is streamed.",
)
UNSETTLED = declare(
    "SX326",
    "a key that may belong to several dicts",
    meaning="The state is nested: dicts in it join their keys with dots, and are nested again when it is written. A "
    "statement has given a key a name that can be read as several sequences of dict keys, and it is not clear which "
    "one is meant.",
    example="root ''\nrename prefix 'model.' -> ''   # over {'model': {'model.w': tensor}}",
    fix="`root '' flat` writes all keys as they are, without dicts. Or name the inner dict as the root, or rename one "
    "part of the path in a statement.",
)
LIST_GAP = declare(
    "SX327",
    "a list with a gap",
    meaning="The state holds a list, whose places are numbers in the keys. In the result some of these numbers are "
    "missing, or there is something else between them, so the list cannot be formed.",
    example="root ''\ndrop ema.1   # over {'ema': [tensor, tensor, tensor]}",
    fix="`renumber ema.{i:int}` closes the gap. `root '' flat` writes all keys as they are, without lists.",
)
VALUE_EXISTS = declare(
    "SX330",
    "a value that exists already",
    meaning="`add value('path')` creates a value where there is none, and `add metadata('name')` a new text. Here "
    "there is one already, and nothing is overwritten.",
    example="add value('epoch') = 0   # over {'model': state, 'epoch': 3}",
    fix="`set value('epoch') = 0` gives it a new value.",
)
NOT_STORABLE = declare(
    "SX331",
    "a value that cannot be stored there",
    meaning="A value around the state is a number, a text, a bool, none, a list or a dict of these; the metadata of a "
    "file holds only texts. The expression gives something else, such as a tensor.",
    example="set value('epoch') = a.weight   # over {'model': state, 'epoch': 3}",
    fix="Use values that the header knows, such as `numel(a.weight)`. A number in the metadata is written as its text: "
    "`set metadata('epoch') = '3'`.",
)
NOT_AROUND = declare(
    "SX332",
    "a place that rules cannot change",
    meaning="`value('path')` in `set`, `add` and `drop` is a place around the state. Here the path leads to the state "
    "or into it, or to a place that cannot hold a value: inside a number or an object, or beyond the end of a list. In "
    "the metadata, statex itself writes `format` and `statex`.",
    example="set value('model.a.weight') = 0   # over {'model': state, 'epoch': 3}",
    fix="Tensors of the state are changed by their keys: `set a.weight = …`, `drop a.weight`. A state that is the "
    "whole file has nothing around it; `root '' -> 'model'` puts it into a dict.",
)
LOSSY = declare(
    "SX333",
    "rules that lose a tensor",
    meaning="The inverse of rules is asked for, and they lose something: they drop a tensor or a part of it, round it, "
    "or compute what it cannot be computed back from. Each loss is named with its place.",
    example="statex invert rules.sx in.pth   # set embedding.weight = it[:50]",
    fix="`--keep lost.safetensors` writes what is lost to a file from which it comes back, `--partial` (in Python "
    "`partial=True`) gives the rules that bring back all other tensors. Casts that round nothing and powers of two "
    "that scale exactly are undone with `--prove`, which looks at the data. `statex plan --lossless` says the same "
    "without an error.",
)
