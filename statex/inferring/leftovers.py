"""What is tried on what is left, as nothing of the old checkpoint alone is it: further inputs, and computing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from statex.core.header import Header
from statex.inferring.adapters import CONFIG, AdapterConfig
from statex.inferring.borrowed import borrowed
from statex.inferring.evidence import Evidence, Inputs
from statex.inferring.explaining import explained, free_of
from statex.inferring.formula_rules import formula_rules, parameters_of
from statex.inferring.formulas import Formula
from statex.inferring.further import Copy, copies, copy_rules, declared
from statex.inferring.sides import CheckpointSide, TensorSide, kinds_of
from statex.relating.program import NotedRule
from statex.relating.relations import MadeTensor, Relations


class HeaderSide(TensorSide):
    """Tensors of which nothing but their types is known."""

    def __init__(self, header: Header) -> None:
        super().__init__()
        self.header, self.kinds = header, kinds_of(header)


@dataclass(frozen=True)
class LeftExplained:
    """What was found of what was left.

    `before` are the statements that come first: `side` is what they leave, and `relations` are between that and the
    new checkpoint. `after` come last.
    """

    relations: Relations
    side: TensorSide
    formulas: Sequence[Formula]
    copied: Sequence[Copy]
    before: Sequence[NotedRule]
    after: Sequence[NotedRule]

    def declared(self, known: Collection[str]) -> list[NotedRule]:
        """Return the declarations of parameters and inputs that these statements read and that are not known."""
        read = [operand.input for one in self.formulas for operand in one.operands]
        names = dict.fromkeys([*read, *(one[0] for one in self.copied)])
        inputs = [name for name in names if name is not None and name not in known]
        return [*parameters_of(self.formulas, CONFIG), *declared(inputs)]


def what_is_left(
    relations: Relations,
    old: TensorSide,
    new: CheckpointSide,
    inputs: Inputs,
    configs: Mapping[str, AdapterConfig],
) -> LeftExplained:
    """Return what further inputs and computing explain of the new keys that nothing has explained so far."""
    copied = copies(list(relations.unexplained), new, inputs)
    taken = {key for _, _, key in copied}
    left = {key: near for key, near in relations.unexplained.items() if key not in taken}
    relations = replace(relations, unexplained=left)
    made = [one for one in relations.made.values() if isinstance(one, MadeTensor) and one.is_whole]
    origins = {one.target: one.keys[0] for one in made}
    evidence = Evidence(old, new, inputs, left, free_of(relations, old.kinds), origins, configs)
    found = explained(evidence, relations)
    formulas = list(found.formulas.values())
    relations = found.relations(relations)
    arranged = borrowed(relations, new, inputs)
    header = arranged.header(found.header(old.header), inputs)
    first = [*copy_rules(arranged.copies, inputs), *formula_rules(formulas, list(old.header.entries), inputs)]
    return LeftExplained(
        arranged.onto(relations),
        HeaderSide(header) if header is not old.header else old,
        formulas,
        [*copied, *arranged.copies],
        first,
        list(copy_rules(copied, inputs)),
    )
