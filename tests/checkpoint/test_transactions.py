"""Several outputs that appear together: ended or failing at any call of the system, and settled afterwards."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from statex import StatexError
from statex.checkpoint.atomic.recovery import recover
from statex.checkpoint.atomic.transaction import Transaction
from tests.checkpoint.steps import Case, Killed, System, dies_at, fails_at, in_child, kill_at, listed

CASES = [
    "a.pth report.json",
    "!a.pth !report.json",
    "!set/ report.json",
    "a/x.pth !a/set/ !b/set/",
    "set/ !a.pth b.pth",
]
SYSTEMS = {
    "linux": System,
    "no exchange": lambda **named: System(exchanges=False, **named),
    "neither": lambda **named: System(exchanges=False, links=False, **named),
}
"""Systems: some exchange names, some have hard links only, some not even those."""
MANY = 1000


@pytest.fixture
def case(tmp_path: Path) -> Callable[[str], Case]:
    numbers = itertools.count()

    def make(written: str) -> Case:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return Case(folder, written)

    return make


def ended_at_each_step(
    make: Callable[[], Case], system: Callable[..., System], work: Callable[[Case], object]
) -> Iterator[tuple[int, Case]]:
    """Yield a case after its work was ended before each call of the system, until it comes to its end."""
    for step in range(MANY):
        one = make()
        away = not system().exchanges

        def before(number: int, step: int = step, one: Case = one, away: bool = away) -> None:
            if number == step:
                one.check_whole(may_be_away=away)
            dies_at(step)(number)

        try:
            with system(before=before).installed():
                work(one)
        except Killed:
            yield step, one
        else:
            return
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("written", CASES)
def test_a_run_that_ends_anywhere_is_finished_or_undone(case: Callable[[str], Case], written: str, name: str) -> None:
    outcomes = []
    for step, one in ended_at_each_step(lambda: case(written), SYSTEMS[name], Case.run):
        has_journal = any("statex-journal" in path and (one.folder / path).stat().st_size for path in one.listing())
        # The next command may meet any of the outputs first, and need no other.
        first = one.paths[step % len(one.paths)]
        with SYSTEMS[name]().installed():
            said = recover([first])
            said += recover(one.paths)
            assert bool(said) == has_journal, step
            outcomes.append(one.check_settled())
            assert {one.finished for one in said} <= {outcomes[-1] == "new"}
            assert recover(one.paths) == ()
    # Once it goes forward there is no way back.
    assert outcomes == sorted(outcomes, reverse=True)
    assert set(outcomes) == {"old", "new"}


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("written", ["!a.pth !set/ report.json", "!a.pth b/report.json"])
def test_recovery_that_ends_anywhere_goes_on_the_next_time(
    case: Callable[[str], Case], written: str, name: str
) -> None:
    seen = set()
    for step, ended in ended_at_each_step(lambda: case(written), SYSTEMS[name], Case.run):
        if (state := tuple(ended.ages() + [path.split(".")[-1] for path in ended.listing()])) in seen:
            continue
        seen.add(state)
        wanted = None

        def again(step: int = step) -> Case:
            one = case(written)
            with pytest.raises(Killed), SYSTEMS[name](before=dies_at(step)).installed():
                one.run()
            return one

        for _, one in ended_at_each_step(again, SYSTEMS[name], lambda one: recover(one.paths)):
            with SYSTEMS[name]().installed():
                recover(one.paths)
            outcome = one.check_settled()
            assert wanted in (None, outcome)
            wanted = outcome
    assert len(seen) > 10


def test_a_process_that_is_killed_anywhere(case: Callable[[str], Case]) -> None:
    """As above, with processes and SIGKILL in place of an exception."""
    outcomes = []
    for step in range(MANY):
        one = case("!a.pth set/")

        def work(one: Case = one, step: int = step) -> None:
            with System(before=kill_at(step)).installed():
                one.run()

        if (ended := in_child(work)) == 0:
            break
        assert os.WTERMSIG(ended) == signal.SIGKILL
        one.check_whole()
        assert in_child(lambda one=one: recover(one.paths)) == 0  # type: ignore[misc]
        outcomes.append(one.check_settled())
    assert set(outcomes) == {"old", "new"}


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("written", CASES)
def test_a_call_that_fails_anywhere(case: Callable[[str], Case], written: str, name: str) -> None:
    for step in range(MANY):
        one = case(written)
        system = SYSTEMS[name](before=fails_at(step))
        try:
            with system.installed():
                one.run()
            said = None
        except StatexError as error:
            said = error
        if system.count <= step:
            return
        one.check_whole(may_be_away=False)
        with SYSTEMS[name]().installed():
            recover(one.paths)
        one.check_settled()
        assert said is None or "Input/output error" in str(said)
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("done", list(itertools.product([False, True], repeat=3)))
def test_renames_that_reached_the_disk_in_any_order(case: Callable[[str], Case], done: tuple[bool, ...]) -> None:
    """After a power cut each file system has what it has written, whatever the order was."""
    one = case("a/x.pth !b/set/ !c/y.pth")
    outputs = Transaction()
    one.stage(outputs)
    moves = listed(outputs)
    for move, is_done in zip(moves, done, strict=True):
        if is_done:
            move.finish()
    (said,) = recover(one.paths)
    assert said.finished
    assert sorted(said.outputs) == sorted(map(str, one.paths))
    assert one.check_settled() == "new"
