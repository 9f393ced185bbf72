"""SX2xx: names, parameters, inputs, includes and macros."""

from statex.diagnostics.codes.registry import declare

NAME_CLASH = declare(
    "SX201",
    "a name means two things",
    meaning="A parameter, `let`, macro argument or capture has a name that is already taken: by an earlier one, or by "
    "an operation, dtype or literal of the language. It would not be clear which of them a bare word means.",
    example="param transpose: int",
    fix="Choose another name: `param n_transpose: int`.",
)
UNKNOWN_NAME = declare(
    "SX202",
    "an unknown name",
    meaning="A bare word is neither a parameter, a `let`, a capture of this statement, an operation, a dtype nor a "
    "literal.",
    example="set a.weight = it * scale",
    fix="Declare it (`param scale: float = 1.0`), or write `::scale` if you mean a tensor whose key has no dot.",
)
UNKNOWN_OPERATION = declare(
    "SX203",
    "an unknown operation",
    meaning="The name that is called is not an operation of the language. The set is closed: no Python can be called.",
    example="set a.weight = transposed(it)",
    fix="`statex ops` lists all of them; here `transpose` was meant.",
)
MISSING_PARAM = declare(
    "SX204",
    "a parameter without a value",
    exit=2,
    meaning="The program declares a parameter without a default, and no value was given.",
    example="param heads: int",
    fix="Give it with `-D heads=32`, in a file named by `--params`, or give the declaration a default: "
    "`param heads: int = 32`.",
)
UNKNOWN_PARAM = declare(
    "SX205",
    "a value for a parameter that is not declared",
    exit=2,
    meaning="A value was given by `-D`, by a keyword argument or by `with`, but the program declares no such "
    "parameter. It is usually misspelt, and would otherwise be silently ignored.",
    example="statex apply rules.sx in.pth out.pth -D haeds=32",
    fix="Use the name the program declares, or declare it with `param`.",
)
PARAM_VALUE = declare(
    "SX206",
    "a parameter's value is of the wrong type",
    exit=2,
    meaning="The value given for a parameter (or its default) is not of the type it was declared with.",
    example="param heads: int = 'many'",
    fix="Give a value of that type, or change the declaration. Types are int, float, bool, str, dtype and list.",
)
WRONG_KIND = declare(
    "SX207",
    "a value of the wrong kind",
    meaning="An expression gives a value of one kind where another is needed: text where an int is needed, a tensor "
    "where a condition is needed, a number where a tensor is needed.",
    example="if 3 { drop a.weight }",
    fix="Write an expression of the kind named in the message. To get an int from digits in a key, declare the capture "
    "as one: `{i:int}`; to get a tensor from a number, write `full_like(it, 0)`.",
)
UNKNOWN_TYPE = declare(
    "SX208",
    "an unknown parameter type",
    meaning="A parameter is declared with a type the language does not have.",
    example="param heads: integer",
    fix="Use int, float, bool, str, dtype or list: `param heads: int`.",
)
UNKNOWN_INPUT = declare(
    "SX209",
    "an input that is not declared",
    meaning="A pattern or an expression reads `NAME::key`, and no `input NAME` was declared before.",
    example="set a.weight = it + ft::a.weight",
    fix="Declare the input: `input ft`, and give its file with `--in ft=other.pth`.",
)
INPUT_NOT_GIVEN = declare(
    "SX210",
    "an input without a file",
    exit=2,
    meaning="The program declares a further input, but no checkpoint was given for it (or several were, and it takes "
    "one).",
    example="input lora",
    fix="Give the checkpoint: `--in lora=adapter.safetensors`. A family, `input rank[]`, takes several: "
    "`--in rank=a.pth --in rank=b.pth`.",
)
INPUT_NOT_DECLARED = declare(
    "SX211",
    "a file for an input that is not declared",
    exit=2,
    meaning="A checkpoint was given by `--in NAME=PATH` (or `inputs=`), but the program has no `input NAME`.",
    example="statex apply rules.sx in.pth out.pth --in ft=other.pth",
    fix="Declare it with `input ft`, or leave the option out.",
)
UNKNOWN_MACRO = declare(
    "SX212",
    "an unknown macro",
    meaning="`use` names a macro that is not defined before this place. A macro sees only earlier ones, so never "
    "itself: every program ends.",
    example="use block('x')",
    fix="Define it above: `macro block(a) { … }`.",
)
MACRO_ARGUMENTS = declare(
    "SX213",
    "arguments that do not fit the macro",
    meaning="A macro is used with too few or too many arguments, or with one it does not have.",
    example="macro m(a) { drop {$a}.bias }\nuse m('x', 'y')",
    fix="Give exactly the arguments the macro names.",
)
INCLUDE_CYCLE = declare(
    "SX214",
    "files that include each other",
    meaning="A rule file includes itself, directly or through others, so that reading would never end.",
    example="include 'self.sx'   # in self.sx",
    fix="Move what both need into a third file and include that.",
)
INCLUDE_UNREADABLE = declare(
    "SX215",
    "an include that cannot be read",
    exit=3,
    meaning="The file named by `include` does not exist, cannot be read, is not text, or has an absolute path. "
    "Includes are relative to the file that contains them.",
    example="include 'missing.sx'",
    fix="Correct the path. For programs given as text, includes are relative to the working directory.",
)
MISPLACED = declare(
    "SX216",
    "a statement that is not allowed here",
    meaning="Some statements apply to the whole program and are not allowed inside a block: `input` and `root` in no "
    "block at all; `param`, and `set`, `add` and `drop` of values around the state, not in `within` or a macro; "
    "`order` not in `within`. An included file cannot name the root.",
    example="within a { order natural }",
    fix="Move it out of the block, to the top of the file.",
)
NUMBER_RANGE = declare(
    "SX217",
    "arithmetic without a result",
    meaning="An expression divides by zero, or its result does not fit into 64 bits.",
    example="let n = 1 // 0",
    fix="Guard the expression with `if`, or correct it.",
)
NO_CURRENT = declare(
    "SX218",
    "there is no current tensor here",
    meaning="`it`, or an operation without its leading tensor, is used where there is no current tensor: in a `let`, a "
    "condition, or an `add` without `for`.",
    example="add a.bias = zeros_like",
    fix="Name the tensor: `zeros_like(b.bias)`, or write `add … = … for PATTERN`.",
)
UNUSED_STAGE = declare(
    "SX219",
    "a stage of a pipe that ignores what is piped into it",
    meaning="The right side of `|` does not take the value on its left: it already has all its tensors, or it is a "
    "constructor. The left side would be computed for nothing.",
    example="set a.weight = transpose | zeros([2, 2])",
    fix="Remove the left side, or remove the tensor from the call on the right.",
)
TENSOR_IN_CONDITION = declare(
    "SX220",
    "a condition or size that would read tensor values",
    meaning="`where`, `if`, `expect`, `let` and sizes are decided from the header alone, before any data is read; the "
    "values inside a tensor are not known then.",
    example="if a.weight > 0 { drop b.weight }",
    fix="Use what the header knows: shape, ndim, numel, dtype, keys and counts.",
)
VALUE_MISSING = declare(
    "SX221",
    "a value that the checkpoint does not have",
    meaning="`value('path')` reads a plain number, text, list or dict of a nested checkpoint, or a statement sets or "
    "drops it, but there is none at this path; an earlier statement may have dropped it. The same goes for "
    "`metadata('name')` and the texts beside the tensors.",
    example="let heads = value('args.num_heads')",
    fix="`statex show` prints the values a checkpoint has. A second argument is used if there is no such value: "
    "`value('args.num_heads', 8)`. `add value('path') = …` creates one; `drop?` drops a value that may be absent.",
)
RULES_UNREADABLE = declare(
    "SX222",
    "a rule file that cannot be read",
    exit=3,
    meaning="The rule file does not exist, cannot be read, or is not UTF-8 text.",
    example="statex plan model.safetensors model.safetensors   # a checkpoint where rules belong",
    fix="Name the rule file first and the checkpoint after it; single statements can be given with `-e '…'`.",
)
PARAMS_UNREADABLE = declare(
    "SX223",
    "a parameter file that cannot be read",
    exit=3,
    meaning="The file named by `--params` does not exist, is not JSON (or YAML), or is not a mapping of names to "
    "values.",
    example="statex plan rules.sx in.pth --params tokenizer.model",
    fix='Give a file such as `{"heads": 32}`; the `config.json` of a model works as it is.',
)
MISPLACED_ROOT = declare(
    "SX224",
    "two statements that name the root",
    meaning="`root` says where in the file the state is; it may appear once, outside any block.",
    example="root 'model'\nroot 'ema'",
    fix="Keep one `root`, at the top of the file.",
)
WITHOUT_END = declare(
    "SX225",
    "a program that does not end in sight",
    meaning="There are no loops and no recursion, but a chain of macros that each use the previous one twice doubles "
    "the number of statements at every step; so do files that include others. A program carries out at most 1,000,000 "
    "statements, and nests blocks, macros and included files at most 100 deep.",
    example="statex plan rules.sx in.pth   # macro b() { use a(); use a() }, and so on, thirty times",
    fix="Use them less often: patterns with captures do for all layers what a macro does for one.",
)
