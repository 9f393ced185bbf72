"""The content of a recipe, declared once: validation, messages and the JSON Schema all come from here.

Types say what a value may be. `expected` is the same in words, for messages; `relations` is what types do not say of a
mapping. A field that may be left out is `UNSET` then, as `null` is a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from statex.core.sizes import LARGEST, PATTERN, is_size
from statex.core.yaml_text import Node
from statex.recipe import hints
from statex.recipe.hints import Fix
from statex.recipe.relations import (
    LINT,
    Relation,
    apart,
    has,
    known_lints,
    needs,
    one_of,
    quoted_rule,
    reserved,
    single,
)


def said(
    expected: str,
    *relations: Relation,
    pattern: str = "",
    passes: Callable[[str], bool] | None = None,
    fix: Callable[[Node], Fix] | None = None,
) -> Meta:
    """Return what belongs here in words, what a text must match as a whole and pass, and what else must hold.

    `fix` returns what helps one who wrote another value.
    """
    schema: dict[str, Any] = {"pattern": pattern} if pattern else {}
    if schemas := [relation.schema for relation in relations if relation.schema]:
        schema["allOf"] = schemas
    # Not `Meta(pattern=…)`: with a compiled one, msgspec (issue 717) lets some processes end in a segmentation fault.
    extra = {"expected": expected, "relations": relations, "pattern": pattern, "passes": passes, "fix": fix}
    return Meta(extra=extra, extra_json_schema=schema or None)


def doc(description: str, *examples: Any) -> Meta:
    """Return what an editor shows for a field."""
    return Meta(description=description, examples=list(examples) or None)


Path = Annotated[str, Meta(min_length=1), said("a path", pattern="^[^\\u0000]+$")]
Text = Annotated[str, Meta(min_length=1)]
Name = Annotated[str, said("a name made of letters, digits and `_`", pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
Digits = Annotated[str, said("64 hexadecimal digits", pattern="^[0-9a-fA-F]{64}$", fix=hints.digits)]
Format = Annotated[Literal["torch", "safetensors", "dcp", "npz"], said("torch, safetensors, dcp or npz")]
InputFormat = Annotated[
    Literal["torch", "safetensors", "dcp", "npz", "gguf"], said("torch, safetensors, dcp, npz or gguf")
]
SIZE = "a size such as 2GiB, 500MB or a number of bytes"
Size = Annotated[
    Annotated[int, Meta(ge=1, le=LARGEST)] | Annotated[str, said(SIZE, pattern=PATTERN, passes=is_size)], said(SIZE)
]
Flag = Annotated[bool, said("true or false")]
Atom = bool | int | float | str | None
VALUE = "a number, text, true, false, null or a list of these"
Atoms = list[Annotated[Atom, said("a number, text, true, false or null")]]
Value = bool | int | float | str | list[Annotated[Atom | Atoms, said(VALUE)]] | None


class Declared(Struct, forbid_unknown_fields=True):
    """A mapping of a recipe; keys that are not declared are errors."""

    relations: ClassVar[tuple[Relation, ...]] = ()


class ParamRef(Declared):
    """The value of a parameter of the recipe."""

    param: Annotated[Name, doc("The name of a parameter of the recipe.", "classes")]


Argument = Annotated[Value | ParamRef, said(f"{VALUE}, or `{{param: NAME}}`")]


class InputFile(Declared):
    """A checkpoint to read."""

    path: Annotated[Path, doc("The file or folder, relative to the recipe.", "base/", "runs/1.pth")]
    root: (
        Annotated[
            str | Annotated[list[str | int], Meta(min_length=1)],
            said("the path of the state: dotted text, or a list of dict keys and list places"),
            doc(
                "The path of the state in a nested checkpoint, dotted or as a list of dict keys and list places; '' is "
                "the whole file.",
                "",
                "state_dict",
                ["a.b", 0, "c"],
            ),
        ]
        | UnsetType
    ) = UNSET
    format: (
        Annotated[InputFormat, doc("The format that the content must have; left out, it is told by the content.")]
        | UnsetType
    ) = UNSET
    sha256: (
        Annotated[
            Digits | Annotated[dict[Path, Digits], Meta(min_length=1)],
            said("64 hexadecimal digits or, for a folder, a mapping of file names to them"),
            doc("The digest that the file must have; of a folder, those of its files by their names."),
        ]
        | UnsetType
    ) = UNSET


Input = Annotated[
    Path | InputFile | Annotated[list[Annotated[Path | InputFile, said("a path or a mapping")]], Meta(min_length=1)],
    said("a path, a mapping, or a list of these, which is a family"),
    doc("A checkpoint, or a list of them: a family, which rules read together.", "base/", ["runs/1.pth", "runs/2.pth"]),
]


class ParamFile(Declared, rename={"from_": "from"}):
    """A value from a JSON or YAML file, such as a model's config.json."""

    file: Annotated[Path, doc("A JSON or YAML file of at most 64 MiB, relative to the recipe.", "base/config.json")]
    from_: (
        Annotated[
            Text,
            said("the dotted path of a key"),
            doc(
                "The dotted path of the value in the file; left out, the key with the name of the parameter.",
                "text_config.num_attention_heads",
            ),
        ]
        | UnsetType
    ) = UNSET


class RuleEntry(Declared, rename={"with_": "with"}):
    """A rule file with its parameters, or rules written in place."""

    relations = (quoted_rule(("file", "with", "inline")), one_of("file", "inline"), needs("with", "file"))

    file: (
        Annotated[Path, doc("A rule file, relative to the recipe, or one of the library.", "rules/soup.sx")] | UnsetType
    ) = UNSET
    with_: (
        Annotated[
            dict[Name, Argument],
            said("a mapping of names to values"),
            doc("The parameters of the rule file.", {"w": 0.6, "classes": {"param": "classes"}}),
        ]
        | UnsetType
    ) = UNSET
    inline: (
        Annotated[str, said("rules as text"), doc("Rules, best as a block of text after `|`.", "drop **.inv_freq\n")]
        | UnsetType
    ) = UNSET


class Target(Declared):
    """What a state must fit: a model built by code, or another checkpoint."""

    relations = (one_of("model", "like"), needs("args", "model"))

    model: (
        Annotated[
            str,
            said("`module:callable`", pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*$"),
            doc(
                "A callable that returns the model. Its code runs, and only if --allow-import is given.",
                "models:net",
            ),
        ]
        | UnsetType
    ) = UNSET
    args: (
        Annotated[
            dict[Name, Argument],
            said("a mapping of names to values"),
            doc("The arguments of the callable.", {"classes": {"param": "classes"}}),
        ]
        | UnsetType
    ) = UNSET
    like: (
        Annotated[
            Path, doc("A checkpoint whose keys, shapes and dtypes are those of the result.", "golden.safetensors")
        ]
        | UnsetType
    ) = UNSET


TARGET = "a mapping with `model` or `like`"


class OutputFile(Declared):
    """A checkpoint to write."""

    relations = (apart("optimizer", "keep", "target"),)

    path: Annotated[
        Path, doc("The file or folder, relative to the recipe; its ending says the format.", "out/model.safetensors")
    ]
    format: Annotated[Format, doc("The format, if the ending of the path does not say it.")] | UnsetType = UNSET
    shard_size: (
        Annotated[Size, doc("Write a folder of files of at most this size.", "2GB", 500_000_000)] | UnsetType
    ) = UNSET
    copy_files: (
        Annotated[Flag, doc("Also copy the files beside the weights of the main input: config, tokenizer.")] | UnsetType
    ) = UNSET
    update_config: (
        Annotated[
            Flag, doc("Let a config.json that is copied state the dtype that tensors have now; true unless given.")
        ]
        | UnsetType
    ) = UNSET
    stem: (
        Annotated[Text, doc("What the files of a folder are named after, if not as those of the input.", "model.fp16")]
        | UnsetType
    ) = UNSET
    keep: (
        Annotated[
            Text | Annotated[list[Annotated[Text, said("a pattern")]], Meta(min_length=1)],
            said("a pattern or a list of patterns"),
            doc("The keys that this output holds; left out, all.", "head.**", ["head.**", "norm.*"]),
        ]
        | UnsetType
    ) = UNSET
    target: (
        Annotated[Target, said("a mapping with `model` or `like`", fix=hints.target), doc("What this output must fit.")]
        | UnsetType
    ) = UNSET
    optimizer: (
        Annotated[
            Path,
            doc(
                "The file of an optimizer of the main input, relative to the recipe: this output holds what becomes of "
                "it, and nothing else.",
                "base/optimizer.pt",
            ),
        ]
        | UnsetType
    ) = UNSET


OUTPUT_FIELDS = tuple(name for name in OutputFile.__struct_fields__)
Level = Literal["error", "warn"]


class Policy(Declared):
    """How a run treats warnings, memory, checks and files that exist."""

    warnings: (
        Annotated[
            Level
            | Annotated[
                dict[
                    Annotated[str, said("the code of a warning, such as SX902", pattern=LINT)],
                    Annotated[Literal["error", "warn", "ignore"], said("error, warn or ignore")],
                ],
                said("", known_lints()),
            ],
            said("error, warn, or a mapping of codes to error, warn or ignore"),
            doc("What warnings do: all of them, or each code.", "error", {"SX902": "ignore"}),
        ]
        | UnsetType
    ) = UNSET
    max_memory: (
        Annotated[Size, doc("Refuse to start if more memory may be needed.", "4GiB")] | UnsetType
    ) = UNSET  # fmt: skip
    verify_written: Annotated[Flag, doc("Read every output again and compare it.")] | UnsetType = UNSET
    check_input: (
        Annotated[Flag, doc("Compare all bytes of the inputs with the checksums that their files record.")] | UnsetType
    ) = UNSET
    keep_foreign: (
        Annotated[Flag, doc("Write objects that statex does not load as they were read, as dangerous as they were.")]
        | UnsetType
    ) = UNSET
    unchanged: (
        Annotated[
            Literal["run", "skip"],
            said("run or skip"),
            doc("What to do if nothing has changed since the last report."),
        ]
        | UnsetType
    ) = UNSET
    replace: (
        Annotated[
            Literal["never", "own", "always"],
            said("never, own or always"),
            doc("Which outputs may be overwritten: none, those that the last report shows statex wrote, or all."),
        ]
        | UnsetType
    ) = UNSET
    digests: (
        Annotated[
            Literal["none", "sha256"],
            said("none or sha256"),
            doc("Whether the report holds digests of inputs and outputs; they take a full read of each input."),
        ]
        | UnsetType
    ) = UNSET


class Recipe(Declared, kw_only=True):
    """A recipe of statex: inputs, rules, outputs and what a run must keep to."""

    statex: Annotated[
        Literal[1],
        said("1, the version of recipes that this statex reads"),
        doc("The version of the recipe's form."),
    ]
    inputs: Annotated[
        dict[Name, Input],
        said(
            "a mapping of names to checkpoints",
            has("main", "the checkpoint that the rules change"),
            single("main", "the rules change one checkpoint"),
            reserved(["target"], "which rules use for the target"),
            fix=hints.inputs,
        ),
        doc("The checkpoints to read, by name: `main`, which the rules change, and further ones.", {"main": "base/"}),
    ]
    params: (
        Annotated[
            dict[Name, Annotated[Value | ParamFile, said(f"{VALUE}, or `{{file: PATH, from: KEY}}`")]],
            said("a mapping of names to values"),
            doc(
                "The values of parameters: of rules, and of `{param: NAME}` in this recipe.",
                {"classes": 5, "heads": {"file": "base/config.json", "from": "num_attention_heads"}},
            ),
        ]
        | UnsetType
    ) = UNSET
    rules: (
        Annotated[
            list[
                Annotated[
                    Annotated[str, said("", passes=hints.is_rule, fix=hints.rule)] | RuleEntry,
                    said("a rule as text, `{file: PATH}` or `{inline: TEXT}`"),
                ]
            ],
            said("a list of rules", fix=hints.rules),
            doc("The rules, in this order: statements, rule files and blocks of text.", ["drop **.inv_freq"]),
        ]
        | UnsetType
    ) = UNSET
    target: (
        Annotated[
            Target,
            said("a mapping with `model` or `like`", fix=hints.target),
            doc("What the state after all rules must fit."),
        ]
        | UnsetType
    ) = UNSET
    outputs: Annotated[
        Path
        | Annotated[
            dict[Name, Annotated[Path | OutputFile, said("a path or a mapping")]],
            Meta(min_length=1),
            said("", reserved(OUTPUT_FIELDS, "which is a key of an output")),
        ],
        said("a path, a mapping with `path`, or a mapping of names to these"),
        doc("The checkpoints to write: one, or several by name.", "out/model.pth", {"full": "out/model/"}),
    ]
    policy: (
        Annotated[Policy, said("a mapping"), doc("How the run treats warnings, memory, checks and existing files.")]
        | UnsetType
    ) = UNSET
    param_names: (
        Annotated[
            Path,
            doc(
                "A file with the names of an optimizer's parameters: a list for each of its groups, as JSON or YAML.",
                "names.json",
            ),
        ]
        | UnsetType
    ) = UNSET
    report: Annotated[Path, doc("Where the account of the run is written, as JSON.", "out/report.json")] | UnsetType = (
        UNSET
    )


def is_one_output(names: Any) -> bool:
    """Say whether the keys of `outputs` are those of a single output, and not names of several."""
    return any(name in OUTPUT_FIELDS for name in names)
