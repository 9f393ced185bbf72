"""Pages of codes."""

import re

import pytest

from statex.diagnostics.codes import Code, all_codes
from statex.diagnostics.explain import explain

FAKE = Code(
    "SX398",
    "a kind of mistake",
    1,
    "A first sentence that says what is meant, long enough to be broken. A second one that goes on for a good while.",
    "merge a\n  -> b = cat\n",
    "Write something that can be pasted as it is, whole: `set model.layers.{i}.weight = cast(bf16) where i > 3`. Done.",
)


def test_a_page() -> None:
    assert explain(FAKE) == (
        "SX398: a kind of mistake\n\n"
        "A first sentence that says what is meant, long enough to be broken. A second one that goes on\n"
        "for a good while.\n\n"
        "Example:\n\n"
        "    merge a\n"
        "      -> b = cat\n\n"
        "What to do:\n\n"
        "Write something that can be pasted as it is, whole:\n"
        "`set model.layers.{i}.weight = cast(bf16) where i > 3`. Done.\n\n"
        "Exit code: 1"
    )


def test_a_lint_has_no_exit_code_of_its_own() -> None:
    lint = Code("SX998", "a lint", 0, "Meaning.", "example", "Fix.")
    assert explain(lint).endswith("\n\nExit code: 0 (a warning; the work goes on)")


@pytest.mark.parametrize("code", all_codes(), ids=lambda code: code.id)
def test_every_code_has_a_page(code: Code) -> None:
    page = explain(code)
    assert page.startswith(f"{code.id}: {code.title}\n")
    assert re.fullmatch(r"SX[1-9]\d\d", code.id)
    assert code.exit == 0 if code.is_lint else code.exit in (1, 2, 3)
    for text in (code.meaning, code.fix):
        assert text.endswith((".", "!")), text
        assert text.count("`") % 2 == 0
    # What can be pasted stands on one line.
    for pasted in re.findall("`[^`\n]+`", code.fix):
        assert pasted in page
