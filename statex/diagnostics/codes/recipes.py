"""SX7xx: recipes."""

from statex.diagnostics.codes.registry import declare

BAD_YAML = declare(
    "SX701",
    "a recipe that is not plain YAML",
    exit=2,
    meaning="The text is not YAML, or it uses features that recipes do not allow: aliases and anchors, merge keys, "
    "tags, several documents, keys that are not text, control characters, values nested more than 50 deep, or more "
    "than 20,000 values. With aliases a short text can stand for an endless one, and tags name types of a program.",
    example="statex: 1\ninputs: {main: &base in.pth}\noutputs: *base",
    fix="Write every value out. Text that begins with one of `*`, `&`, `!`, `%`, `@` or a backtick, or contains `: ` "
    "or ` #`, must be quoted.",
)
UNKNOWN_KEY = declare(
    "SX702",
    "an unknown key in a recipe",
    exit=2,
    meaning="A mapping has a key that recipes do not have there. It is usually misspelt, and would otherwise be "
    "ignored silently.",
    example="statex: 1\ninputs: {main: in.pth}\noutput: out.pth\noutputs: out.pth",
    fix="Use the key the message names, or leave it out. `statex schema` prints a JSON Schema, with which editors "
    "complete keys.",
)
DUPLICATE_KEY = declare(
    "SX703",
    "a key that is given twice in a recipe",
    exit=2,
    meaning="A mapping has two equal keys. YAML readers silently take the last one; it is not clear which one was "
    "meant.",
    example="statex: 1\ninputs: {main: in.pth, main: other.pth}\noutputs: out.pth",
    fix="Remove one of them, or rename the second.",
)
WRONG_VALUE = declare(
    "SX704",
    "a value that does not belong there in a recipe",
    exit=2,
    meaning="A value is of another type than the key takes, is not one of the words it takes, or does not go together "
    "with other values there. YAML is read by its core schema of version 1.2: `yes`, `on`, `12:30` and dates are "
    "texts, as are numbers with leading zeros.",
    example="statex: 1\ninputs: {main: in.pth}\noutputs: {path: out.pth, shard_size: big}",
    fix="Write what the message expects. A rule that contains `: ` must be quoted.",
)
MISSING_KEY = declare(
    "SX705",
    "a recipe that lacks a key",
    exit=2,
    meaning="A mapping lacks a key that has no default. A recipe needs `statex: 1`, `inputs` with `main`, and "
    "`outputs`.",
    example="statex: 1\ninputs: {main: in.pth}",
    fix="Add the key.",
)
RECIPE_UNREADABLE = declare(
    "SX706",
    "a recipe that cannot be read",
    exit=3,
    meaning="The recipe does not exist, cannot be read, is not a regular file, is not UTF-8 text, or has more than "
    "1 MiB.",
    example="statex run missing.yaml",
    fix="Correct the path. Paths inside a recipe are relative to the folder it stands in.",
)
UNKNOWN_PARAM = declare(
    "SX707",
    "a parameter that the recipe does not have",
    exit=2,
    meaning="`{param: NAME}` stands for the value of a parameter of the recipe, and `params` has none of this name.",
    example="statex: 1\ninputs: {main: in.pth}\nparams: {classes: 5}\n"
    "rules: [{file: head.sx, with: {n: {param: clases}}}]\noutputs: out.pth",
    fix="Use the name that `params` has, or add it there.",
)
OUTSIDE = declare(
    "SX710",
    "a recipe that reaches outside of the folder it is confined to",
    exit=2,
    meaning="With `--within DIR` everything that a recipe reads and writes has to lie in DIR, links followed.",
    example="statex run recipe.yaml --within .   # inputs: {main: /etc/model.pth}",
    fix="Move what the message names into the folder, or name a wider one.",
)
OVERRIDE = declare(
    "SX711",
    "a name on the command line that the recipe does not have",
    exit=2,
    meaning="`--in NAME=PATH` and `--out NAME=PATH` give a recipe's inputs and outputs other paths, but it has none of "
    "this name, or it takes one path and several were given.",
    example="statex run recipe.yaml --out ful=elsewhere/",
    fix="Use a name of the recipe; the message lists them.",
)
PARAM_FILE = declare(
    "SX712",
    "a parameter that its file does not give",
    exit=2,
    meaning="A parameter of a recipe comes from a file (`{file: config.json, from: text_config.heads}`), but the file "
    "has nothing at this path, or a mapping.",
    example="params: {heads: {file: config.json, from: text_confg.heads}}",
    fix="Correct `from`, or give the value by `-D heads=…`.",
)
SKIP_NEEDS_REPORT = declare(
    "SX713",
    "a run that may be skipped, without a report to compare with",
    exit=2,
    meaning="`unchanged: skip` (or `--if-changed`) compares with the report of the last run and the digests in it.",
    example="policy: {unchanged: skip}   # and no report",
    fix="Add `report: report.json`, and leave `digests` out or set it to sha256.",
)
