"""Wrong programs with the checkpoint they meet, and the full text of what is said of them.

A `.txt` beside this file has cases, each after a line `# NAME`:

    state: a.weight f32[2, 2], 'odd key' bf16[]
    input ft: a.weight f32[2, 2]
    | set a.weight = it.half()
    error[SX101]: operations are not methods, and `it.half` is a key
    ...

`state` is the checkpoint (that of the lines before the first case, where a case has none); `tied` are keys that share a
tensor, `value` has what is no tensor, `around` what stands around the state, which is `model` then, and `optimizer`
names the parameters of one that stands there, group by group (one of Adam's kind, or a class of `torch.optim` that has
taken a step); `noted` is what an earlier run noted of them, `names` are given for them; `like` is the checkpoint that
the result has to fit, `given` are values of parameters. Several `input` lines of one name are a family.
`python -m tests.messages.corpus` writes the texts anew: read what has changed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import statex
from statex.core.dtypes import BY_NAME
from statex.diagnostics import Diagnostic
from statex.diagnostics.render import render_full

HERE = Path(__file__).parent
NAME = "r.sx"
"""What rules are called in messages."""
State = dict[str, Any]
DIRECTIVES = "state|optimizer|noted|names|tied|value|around|like|given|input"


@dataclass
class Case:
    """A wrong program, the checkpoints it meets, and the text of its diagnostics."""

    name: str
    state: State = field(default_factory=dict)
    inputs: dict[str, list[State]] = field(default_factory=dict)
    like: State | None = None
    given: dict[str, Any] = field(default_factory=dict)
    around: dict[str, Any] = field(default_factory=dict)
    names: Any = None
    rules: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.rules)

    @property
    def members(self) -> dict[str, Any]:
        """The further inputs, as `plan` takes them."""
        return {name: found if len(found) > 1 else found[0] for name, found in self.inputs.items()}

    def plan(self, rules: str) -> statex.Plan:
        """Plan rules over the checkpoints of the case."""
        program = statex.compile(rules, name=NAME)
        state = {"model": self.state, **self.around} if self.around else self.state
        return program.plan(state, inputs=self.members, like=self.like, params=self.given, param_names=self.names)

    def diagnostics(self, rules: str | None = None) -> tuple[Diagnostic, ...]:
        """Return what is found: errors, or else warnings."""
        try:
            return tuple(self.plan(self.text if rules is None else rules).warnings)
        except statex.StatexError as error:
            return error.diagnostics

    def rendered(self) -> str:
        return "\n\n".join(render_full(one) for one in self.diagnostics())


def cases() -> Iterator[Case]:
    """Yield all cases of all files."""
    for path in sorted(HERE.glob("*.txt")):
        for case in of_file(path):
            case.name = f"{path.stem}: {case.name}"
            yield case


def of_file(path: Path) -> list[Case]:
    """Return the cases of a file."""
    common = Case("")
    found: list[Case] = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.startswith("# "):
            found.append(Case(line[2:], dict(common.state), dict(common.inputs), around=dict(common.around)))
            continue
        case = found[-1] if found else common
        directive = re.match(rf"({DIRECTIVES}) ?(\w*): ?(.*)", line)
        if line.startswith("|") and not case.said:
            case.rules.append(line[2:])
        elif directive is not None and not case.rules:
            _read(case, *directive.groups())
        elif case.rules:
            case.said.append(line)
    for case in found:
        while case.said and not case.said[-1]:
            case.said.pop()
    return found


def _read(case: Case, kind: str, name: str, text: str) -> None:
    if kind == "state":
        case.state = tensors(text)
    elif kind == "tied":
        first, *others = text.split(", ")
        case.state.update((key, case.state[first]) for key in others)
    elif kind == "value":
        case.state.update(ast.literal_eval(f"{{{text}}}"))
    elif kind == "around":
        case.around.update(ast.literal_eval(f"{{{text}}}"))
    elif kind == "optimizer":
        groups = [names.split(", ") for names in re.findall(r"\[(.*?)\]", text)]
        case.around["optimizer"] = stepped(name, groups, case.state) if name else optimizer(groups, case.state)
    elif kind == "noted":
        case.around["optimizer"]["statex"] = ast.literal_eval(text)
    elif kind == "names":
        case.names = ast.literal_eval(text)
    elif kind == "like":
        case.like = tensors(text)
    elif kind == "given":
        case.given.update(ast.literal_eval(f"{{{text}}}"))
    else:
        case.inputs[name] = [*case.inputs.get(name, []), tensors(text)]


def stepped(name: str, groups: list[list[str]], state: State) -> State:
    """Return the state of an optimizer of torch for parameters of a state, after a step."""
    found = [{"params": [torch.nn.Parameter(state[key].clone()) for key in keys]} for keys in groups]
    made = getattr(torch.optim, name)(found)
    for parameter in (one for group in found for one in group["params"]):
        parameter.grad = torch.ones_like(parameter)
    made.step()
    return dict(made.state_dict())


def optimizer(groups: list[list[str]], state: State) -> State:
    """Return an optimizer of Adam's kind for parameters of a state, in groups."""
    keys = [key for names in groups for key in names]
    entries = {i: {"step": 3, "exp_avg": state[key], "exp_avg_sq": state[key]} for i, key in enumerate(keys)}
    starts = [sum(map(len, groups[:number])) for number in range(len(groups))]
    members = [[*range(start, start + len(names))] for start, names in zip(starts, groups, strict=True)]
    return {"state": entries, "param_groups": [{"lr": 0.1, "params": one} for one in members]}


def tensors(text: str) -> State:
    """Return a state from `a.weight f32[2, 2], 'odd key' bf16[]`."""
    found = re.findall(r"('[^']*'|[^\s,]+) (\w+)\[([\d, ]*)\]", text)
    return {
        key.strip("'"): torch.ones([int(n) for n in sizes.split(",") if n], dtype=getattr(torch, BY_NAME[dtype].name))
        for key, dtype, sizes in found
    }


def _write(path: Path) -> None:
    """Write what is said in the cases of a file anew."""
    lines: list[str] = []
    texts = iter(case.rendered() for case in of_file(path))
    for block in re.split(r"\n(?=# )", path.read_text(encoding="utf-8")):
        if not block.startswith("# "):
            lines.append(block.rstrip("\n") + "\n")
            continue
        head = [line for line in block.split("\n") if re.match(rf"# |\||({DIRECTIVES}) ?\w*:", line)]
        lines.append("\n".join([*head, next(texts)]) + "\n")
    path.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    for each in sorted(HERE.glob("*.txt")):
        _write(each)
