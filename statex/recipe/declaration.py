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
    one_result,
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
                "The path of the state in a nested checkpoint: dotted, or a list of dict keys and list places. '' is "
                "the whole file.",
                "",
                "state_dict",
                ["a.b", 0, "c"],
            ),
        ]
        | UnsetType
    ) = UNSET
    format: (
        Annotated[InputFormat, doc("The format the input must have; by default, detected from the content.")]
        | UnsetType
    ) = UNSET
    sha256: (
        Annotated[
            Digits | Annotated[dict[Path, Digits], Meta(min_length=1)],
            said("64 hexadecimal digits or, for a folder, a mapping of file names to them"),
            doc("The digest the file must have; for a folder, the digests of its files by name."),
        ]
        | UnsetType
    ) = UNSET


Input = Annotated[
    Path | InputFile | Annotated[list[Annotated[Path | InputFile, said("a path or a mapping")]], Meta(min_length=1)],
    said("a path, a mapping, or a list of these, which is a family"),
    doc("A checkpoint, or a list that rules read together: a family.", "base/", ["runs/1.pth", "runs/2.pth"]),
]


class ParamFile(Declared, rename={"from_": "from"}):
    """A value from a JSON or YAML file, such as a model's config.json."""

    file: Annotated[Path, doc("A JSON or YAML file of at most 64 MiB, relative to the recipe.", "base/config.json")]
    from_: (
        Annotated[
            Text,
            said("the dotted path of a key"),
            doc(
                "The dotted path of the value in the file; by default, the name of the parameter.",
                "text_config.num_attention_heads",
            ),
        ]
        | UnsetType
    ) = UNSET


class RuleEntry(Declared, rename={"with_": "with"}):
    """A rule file with its parameters, or rules written in place."""

    relations = (quoted_rule(("file", "with", "inline")), one_of("file", "inline"), needs("with", "file"))

    file: (
        Annotated[Path, doc("A rule file, relative to the recipe, or one from the library.", "rules/soup.sx")]
        | UnsetType
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
        Annotated[str, said("rules as text"), doc("Rules as text, best as a block after `|`.", "drop **.inv_freq\n")]
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
                "A callable that returns the model. Running its code requires --allow-import.",
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
        Annotated[Path, doc("A checkpoint with the keys, shapes and dtypes of the result.", "golden.safetensors")]
        | UnsetType
    ) = UNSET


TARGET = "a mapping with `model` or `like`"


class OutputFile(Declared):
    """A checkpoint to write."""

    relations = (apart("optimizer", "keep", "target"),)

    path: Annotated[
        Path, doc("The file or folder, relative to the recipe; its suffix sets the format.", "out/model.safetensors")
    ]
    format: Annotated[Format, doc("The format, if the suffix of the path does not set it.")] | UnsetType = UNSET
    shard_size: Annotated[Size, doc("Write a folder of files no larger than this.", "2GB", 500_000_000)] | UnsetType = (
        UNSET
    )
    copy_files: (
        Annotated[Flag, doc("Also copy non-weight files (config, tokenizer) from the main input.")] | UnsetType
    ) = UNSET
    update_config: (
        Annotated[Flag, doc("Update the dtype in a copied config.json to the tensors'; true by default.")] | UnsetType
    ) = UNSET
    stem: (
        Annotated[Text, doc("The base name of the files in a folder; by default, that of the input.", "model.fp16")]
        | UnsetType
    ) = UNSET
    keep: (
        Annotated[
            Text | Annotated[list[Annotated[Text, said("a pattern")]], Meta(min_length=1)],
            said("a pattern or a list of patterns"),
            doc("The keys this output holds; all by default.", "head.**", ["head.**", "norm.*"]),
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
    """How a run treats warnings, memory, checks and existing files."""

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
            doc("How to treat warnings: all of them, or by code.", "error", {"SX902": "ignore"}),
        ]
        | UnsetType
    ) = UNSET
    max_memory: (
        Annotated[Size, doc("Refuse to start if the run may need more memory than this.", "4GiB")] | UnsetType
    ) = UNSET  # fmt: skip
    verify_written: Annotated[Flag, doc("Read every output back and compare it.")] | UnsetType = UNSET
    check_input: (
        Annotated[Flag, doc("Check all bytes of the inputs against the checksums in their files.")] | UnsetType
    ) = UNSET
    keep_foreign: (
        Annotated[
            Flag, doc("Write back, as they were read, objects that statex does not load; as dangerous as before.")
        ]
        | UnsetType
    ) = UNSET
    reversible: (
        Annotated[Flag, doc("Also write the rules that undo the run, and what they need besides, beside the output.")]
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
            doc("Which outputs to overwrite: none, those the last report shows statex wrote, or all."),
        ]
        | UnsetType
    ) = UNSET
    digests: (
        Annotated[
            Literal["none", "sha256"],
            said("none or sha256"),
            doc("Whether the report includes digests of inputs and outputs; this takes a full read of each input."),
        ]
        | UnsetType
    ) = UNSET


class Recipe(Declared, kw_only=True):
    """A statex recipe: inputs, rules, outputs and the policy of the run."""

    relations = (one_result(lambda names: is_one_output(names)),)

    statex: Annotated[
        Literal[1],
        said("1, the version of recipes that this statex reads"),
        doc("The version of the recipe format."),
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
        doc("The checkpoints to read, by name: `main`, which the rules change, and any others.", {"main": "base/"}),
    ]
    params: (
        Annotated[
            dict[Name, Annotated[Value | ParamFile, said(f"{VALUE}, or `{{file: PATH, from: KEY}}`")]],
            said("a mapping of names to values"),
            doc(
                "The values of parameters, for the rules and for `{param: NAME}` in this recipe.",
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
            doc("The rules, in order: statements, rule files and blocks of text.", ["drop **.inv_freq"]),
        ]
        | UnsetType
    ) = UNSET
    target: (
        Annotated[
            Target,
            said("a mapping with `model` or `like`", fix=hints.target),
            doc("What the state must fit after all rules."),
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
    report: Annotated[Path, doc("Where to write the report of the run, as JSON.", "out/report.json")] | UnsetType = (
        UNSET
    )


def is_one_output(names: Any) -> bool:
    """Say whether the keys of `outputs` are those of a single output, and not names of several."""
    return any(name in OUTPUT_FIELDS for name in names)
