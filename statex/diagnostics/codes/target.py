"""SX5xx: the target model and verification against it."""

from statex.diagnostics.codes.registry import declare

MISMATCH = declare(
    "SX501",
    "the result does not fit the target",
    meaning="Keys, shapes or dtypes of the result differ from what the target's `load_state_dict(strict=True)` needs. "
    "torch would refuse some of it, and cast dtypes silently.",
    example="statex apply rename-all.sx in.pth out.pth --target models:Net   # Net has the old names",
    fix="The table says what is wrong with each key and, if there is a similar one, the line that fixes it. A line "
    "marked as a guess makes the result fit, but may put the wrong numbers there: check it. If keys are meant to be "
    "missing or left over, declare them: `allow missing PATTERN`, `allow unexpected PATTERN`.",
)
NOT_IMPORTED = declare(
    "SX502",
    "a target that cannot be imported",
    exit=2,
    meaning="`--target module:callable` or `--target file.py:callable` names a module that cannot be imported, or "
    "something the module does not have.",
    example="statex apply rules.sx in.pth out.pth --target models:Nett",
    fix="Write `package.module:Class`, for which the working directory is searched first, or `path/file.py:Class`. A "
    "file with relative imports is part of a package, and is named as a module.",
)
NOT_BUILT = declare(
    "SX503",
    "a target that cannot be built",
    exit=2,
    meaning="The callable of `--target` raised an error, or did not return a `torch.nn.Module`. It is called without "
    "data, on the meta device.",
    example="statex verify out.pth --target models:Net   # Net needs an argument",
    fix="Pass its arguments with `--target-arg name=value`, or name a function that builds the model. If the "
    "constructor needs real data, compare with a checkpoint instead: `--like reference.pth`.",
)
REFUSED = declare(
    "SX504",
    "load_state_dict refuses the result",
    meaning="Keys, shapes and dtypes agree, but `load_state_dict` of the target still raised an error, usually from a "
    "hook of its own.",
    example="statex verify out.pth --target models:NetWithHook",
    fix="The message of torch is shown; the target's own loading code decides.",
)
TARGET_KEYS = declare(
    "SX505",
    "two ways to name the target",
    exit=2,
    meaning="A result is verified against one target: a model (`--target`) or another checkpoint (`--like`).",
    example="statex apply rules.sx in.pth out.pth --target models:Net --like other.pth",
    fix="Leave one of the two out.",
)
NO_TARGET = declare(
    "SX506",
    "a question about the target, and none is given",
    exit=2,
    meaning="The program asks about the target (`exists(target::KEY)`, `shape(target::KEY)`, `order like target`), but "
    "no target was named.",
    example="if exists(target::lm_head.weight) { drop lm_head.weight }",
    fix="Name it: `--target package.module:Model` or `--like other.safetensors`.",
)
VALUES = declare(
    "SX508",
    "values that differ from the other checkpoint's",
    meaning="`verify --like FILE --values` found tensors whose values differ, in one bit or, with `--rtol` and "
    "`--atol`, by more than these allow. Keys, shapes and dtypes agree.",
    example="statex verify out.pth --like reference.pth --values",
    fix="The table shows the largest differences; `statex diff out.pth reference.pth` shows all. If results of "
    "arithmetic may differ by rounding, allow for it: `--rtol 1e-5 --atol 1e-8`.",
)
NOT_ALLOWED = declare(
    "SX507",
    "a target whose code may not be run",
    exit=2,
    meaning="A recipe names a model as its target. Importing it runs its code, and whoever runs the recipe must allow "
    "that, because a recipe may come from someone else.",
    example="statex run recipe.yaml   # with target: {model: 'models:Net'}",
    fix="Add `--allow-import` if you trust the code, or compare with a checkpoint: `target: {like: FILE}`.",
)
