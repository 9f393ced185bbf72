"""A run from its request to its outputs, each step in a module of its own.

    request      what is asked for: inputs, rules, targets, outputs, policy
    conversion   carries it out, in this order:
    placing        where outputs go, and what may not be in their way
    unchanged      whether the last run's `report` (`identity`, `digests`) shows that there is nothing to do
    session        checkpoints are `opened`, `targets` are built, the program is planned
    shipping       for each output its keys (`keeping`) and contents (`delivery`); what all of them cost
    records        what the report says of files, while outputs are written in `folders` that may have to be made

`warnings` says what becomes of warnings, `format_warnings` finds those of formats, `following` those of what is
`beside` the state and knows its parameters; `compared` is what `diff` does, and `lazy` opens a checkpoint without a
plan.
"""
