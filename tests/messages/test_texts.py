"""What is said of wrong programs, to the letter."""

from __future__ import annotations

import pytest

from tests.messages.corpus import Case, cases


@pytest.mark.parametrize("case", [*cases()], ids=lambda case: case.name)
def test_the_full_text(case: Case) -> None:
    assert case.said, "python -m tests.messages.corpus writes it"
    assert case.rendered() == "\n".join(case.said)
