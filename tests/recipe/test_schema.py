"""The JSON Schema beside the reader: an independent validator accepts what we read and refuses what is misspelt."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from statex import StatexError
from statex.core.source import Source
from statex.core.yaml_text import Limits, parse_yaml, plain
from statex.recipe import declaration
from statex.recipe.check import check
from statex.recipe.read import parse_recipe
from statex.recipe.schema import schema_text

DATA = sorted((Path(__file__).parent / "data").glob("*.yaml"))
SCHEMA = json.loads(schema_text())
VALIDATOR = Draft202012Validator(SCHEMA)
PARTS: list[tuple[str, dict[str, Any]]] = [("Recipe", SCHEMA), *SCHEMA["$defs"].items()]
LIMITS = Limits(1 << 20, 20_000)


def accepts(text: str) -> bool:
    return bool(VALIDATOR.is_valid(plain(parse_yaml(text, LIMITS))))


def reads(text: str) -> bool:
    try:
        parse_recipe(Source("recipe.yaml", text))
    except StatexError:
        return False
    return True


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"]
    assert schema_text().endswith("}\n")


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_every_mapping_is_closed_and_every_field_explained(name: str, part: dict[str, Any]) -> None:
    assert part["additionalProperties"] is False
    assert part["description"].endswith(".")
    assert part["title"]
    for field in part["properties"].values():
        assert field["description"].endswith("."), field


def test_words_numbers_and_relations_are_in_it() -> None:
    output, policy = SCHEMA["$defs"]["OutputFile"]["properties"], SCHEMA["$defs"]["Policy"]["properties"]
    assert sorted(output["format"]["enum"]) == ["dcp", "npz", "safetensors", "torch"]
    assert sorted(policy["replace"]["enum"]) == ["always", "never", "own"]
    (number,) = [one for one in output["shard_size"]["anyOf"] if one["type"] == "integer"]
    assert number["minimum"] == 1
    assert SCHEMA["properties"]["statex"]["enum"] == [1]
    assert SCHEMA["$defs"]["Target"]["oneOf"] == [{"required": ["model"]}, {"required": ["like"]}]
    assert SCHEMA["required"] == ["statex", "inputs", "outputs"]


def test_examples_in_the_schema_fit_it() -> None:
    for _, part in PARTS:
        for field in part["properties"].values():
            whole = {**field, "$defs": SCHEMA["$defs"]}
            for example in field.get("examples", ()):
                Draft202012Validator(whole).validate(example)


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.name)
def test_examples_fit(path: Path) -> None:
    text = path.read_text()
    assert reads(text)
    VALIDATOR.validate(plain(parse_yaml(text, LIMITS)))


NAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,8}\Z").filter(lambda name: name not in {"target", "main"})
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=10)
PATHS = TEXT
ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
VALUES = ATOMS | st.lists(ATOMS | st.lists(ATOMS, max_size=2), max_size=3)
DIGESTS = st.text("0123456789abcdefABCDEF", min_size=64, max_size=64)
SIZES = st.integers(1, 2**63 - 1) | st.sampled_from(["2GB", "500 MB", "1.5KiB", "7", "3tb"])
FORMATS = st.sampled_from(["torch", "safetensors", "dcp", "npz"])


def mapping(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


ROOTS = st.text(max_size=5) | st.lists(st.text(max_size=3) | st.integers(0, 9), min_size=1, max_size=3)
FILES = PATHS | mapping(
    {"path": PATHS}, root=ROOTS, format=FORMATS,
    sha256=DIGESTS | st.dictionaries(PATHS, DIGESTS, min_size=1, max_size=2),
)  # fmt: skip
ARGUMENTS = st.dictionaries(NAMES, VALUES | st.just({"param": "known"}), max_size=2)
RULES = (
    st.text(max_size=10) | mapping({"file": PATHS}, **{"with": ARGUMENTS}) | mapping({"inline": st.text(max_size=10)})
)
TARGETS = mapping({"model": st.just("models:net")}, args=ARGUMENTS) | mapping({"like": PATHS})
OUTPUT = mapping(
    {"path": PATHS}, format=FORMATS, shard_size=SIZES, copy_files=st.booleans(), stem=TEXT, update_config=st.booleans(),
    keep=TEXT | st.lists(TEXT, min_size=1, max_size=2), target=TARGETS,
)  # fmt: skip
OUTPUT_NAMES = NAMES.filter(lambda name: name not in declaration.OUTPUT_FIELDS)
POLICIES = mapping(
    {}, max_memory=SIZES, verify_written=st.booleans(), check_input=st.booleans(), keep_foreign=st.booleans(),
    warnings=st.sampled_from(["error", "warn", {"SX902": "ignore", "SX901": "error"}]),
    unchanged=st.sampled_from(["run", "skip"]), replace=st.sampled_from(["never", "own", "always"]),
    digests=st.sampled_from(["none", "sha256"]),
)  # fmt: skip
RECIPES = mapping(
    {
        "statex": st.just(1),
        "inputs": st.builds(
            lambda main, others: {"main": main, **others},
            FILES,
            st.dictionaries(NAMES, FILES | st.lists(FILES, min_size=1, max_size=3), max_size=3),
        ),
        "params": st.builds(
            lambda known, others: {**others, "known": known},
            VALUES,
            st.dictionaries(NAMES, VALUES | mapping({"file": PATHS}, **{"from": TEXT}), max_size=3),
        ),
        "outputs": PATHS | OUTPUT | st.dictionaries(OUTPUT_NAMES, PATHS | OUTPUT, min_size=1, max_size=3),
    },
    rules=st.lists(RULES, max_size=4),
    target=TARGETS,
    policy=POLICIES,
    report=PATHS,
)


def written(recipe: Any) -> str:
    """Return a recipe as YAML: as JSON, which is YAML too once what does not print is escaped."""
    text = json.dumps(recipe, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found.group()):04x}", text)


@given(RECIPES)
def test_what_is_right_is_right_for_both(recipe: dict[str, Any]) -> None:
    text = written(recipe)
    assert plain(parse_yaml(text, LIMITS)) == recipe
    VALIDATOR.validate(recipe)
    assert reads(text)


PLACES = st.lists(st.integers(0, 30), min_size=0, max_size=5)
WRONG = st.sampled_from(
    [None, True, 0, -1, 1.5, "", "x", [], {}, [1], {"x": 1}, ["a", ["b"]], {"path": 1}, {"param": "known"}]
)


def spoilt(recipe: Any, steps: list[int], wrong: Any, rename: bool) -> Any:
    """Return a recipe with a value at a place exchanged, or a key of a mapping misspelt."""
    recipe = deepcopy(recipe)
    holder: Any = {"all": recipe}
    key: Any = "all"
    for step in steps:
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        holder, key = inner, (list(inner)[step % len(inner)] if isinstance(inner, dict) else step % len(inner))
    if rename and isinstance(holder, dict) and key != "all":
        holder[f"{key}_"] = holder.pop(key)
    else:
        holder[key] = wrong
    return recipe if key != "all" else wrong


BASES = [plain(parse_yaml(path.read_text(), LIMITS)) for path in DATA]


@given(st.sampled_from(BASES), PLACES, WRONG, st.booleans())
def test_what_we_read_the_schema_accepts(base: Any, steps: list[int], wrong: Any, rename: bool) -> None:
    text = written(spoilt(base, steps, wrong, rename))
    if reads(text):
        assert accepts(text)


@given(st.sampled_from(BASES), PLACES, WRONG, st.booleans())
def test_the_declaration_and_its_check_agree(base: Any, steps: list[int], wrong: Any, rename: bool) -> None:
    recipe = spoilt(base, steps, wrong, rename)
    source = Source("recipe.yaml", written(recipe))
    problems = check(source, parse_yaml(source.text, LIMITS))
    if isinstance(recipe, dict) and isinstance(recipe.get("outputs"), dict):
        single = declaration.is_one_output(recipe["outputs"])
        recipe = {**recipe, "outputs": {"main": recipe["outputs"]} if single else recipe["outputs"]}
    try:
        msgspec.convert(recipe, declaration.Recipe)
    except msgspec.ValidationError:
        assert problems
    else:
        assert {found.code.id for found in problems} <= {"SX704", "SX705", "SX707"}


FIELDS = [
    ("inputs", {"main": {"path": "a", "pth": "b"}}),
    ("inputs", {"main": ["a"]}),
    ("inputs", {"main": 5}),
    ("inputs", {"other": "a"}),
    ("inputs", {"main": "a", "target": "b"}),
    ("inputs", {"main": "a", "a b": "b"}),
    ("inputs", {"main": {"path": "a", "sha256": "abc"}}),
    ("inputs", {"main": {"path": "a", "format": "pickle"}}),
    ("params", {"a": {"from": "b"}}),
    ("params", {"a": {"x": 1}}),
    ("rules", "drop a"),
    ("rules", [{"drop a": "b"}]),
    ("rules", [{"file": "a", "inline": "b"}]),
    ("rules", [{"inline": "b", "with": {}}]),
    ("rules", [{"file": "a", "with": {"x": {"parm": "b"}}}]),
    ("target", {}),
    ("target", {"model": "m:f", "like": "x"}),
    ("target", {"like": "x", "args": {}}),
    ("target", {"model": "m"}),
    ("outputs", {}),
    ("outputs", {"path": "a", "other": "b"}),
    ("outputs", {"a": {"path": "a", "shard_size": 0}}),
    ("outputs", {"a": {"path": "a", "shard_size": "big"}}),
    ("outputs", {"a": {"path": "a", "keep": []}}),
    ("policy", {"warnings": "off"}),
    ("policy", {"warnings": {"SX301": "ignore"}}),
    ("policy", {"verify_written": "yes"}),
    ("policy", {"unchanged": "never"}),
    ("report", None),
    ("reports", "x"),
    ("statex", 2),
    ("statex", "1"),
]


@pytest.mark.parametrize(("field", "value"), FIELDS)
def test_what_both_refuse(field: str, value: Any) -> None:
    recipe = {"statex": 1, "inputs": {"main": "in.pth"}, "outputs": "out.pth"}
    assert reads(written(recipe))
    text = written({**recipe, field: value})
    assert not reads(text)
    assert not accepts(text)


@given(st.sampled_from(BASES), st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_a_misspelt_field_is_refused_by_both(base: Any, steps: list[int]) -> None:
    recipe = deepcopy(base)
    holder: Any = recipe
    for step in steps:
        names = [
            name for name, inner in holder.items() if isinstance(inner, dict) and name in ("policy", "target", "main")
        ]
        holder = holder[names[step % len(names)]] if names else holder
    name = list(holder)[steps[0] % len(holder)]
    if holder is recipe.get("inputs"):
        return
    holder[f"{name}_misspelt"] = holder.pop(name)
    text = written(recipe)
    assert not reads(text)
    assert not accepts(text)


def test_processes_that_use_the_declaration_end_well() -> None:
    # The seed of hashing decides the order in which things are taken down at the end.
    program = "from statex.recipe.schema import schema_text; schema_text()"
    for seed in range(12):
        done = subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": str(seed)}, cwd=Path(__file__).parents[2]
        )
        assert done.returncode == 0
