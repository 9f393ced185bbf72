"""SX8xx: chains of migrations, and modules that load their own past."""

from statex.diagnostics.codes.registry import declare

CHAIN_UNREADABLE = declare(
    "SX801",
    "a folder of migrations that cannot be read",
    exit=3,
    meaning="The folder of a chain does not exist, cannot be read, or holds no migrations.",
    example="statex.migrations('migratoins/')",
    fix="Correct the path; for `statex migrate` give it with `--chain`. A chain begins with a file such as "
    "`0001_rename_head.sx`, which `statex migrate new` creates.",
)
STEP_NAME = declare(
    "SX802",
    "a file of a chain with a wrong name",
    exit=2,
    meaning="A rule file in the folder of a chain has a name that does not give its place in the chain. Such a file "
    "would be skipped silently.",
    example="statex.migrations('migrations/')   # migrations/fuse_qkv.sx",
    fix="Name it with four digits, an underscore and a title: `0002_fuse_qkv.sx`; the file that undoes it is "
    "`0002_fuse_qkv.down.sx`. Put files that steps include into a subfolder.",
)
CHAIN_GAP = declare(
    "SX803",
    "a chain with a gap",
    exit=2,
    meaning="The numbers of a chain are not 1, 2, 3, …: a file is missing or has a wrong number.",
    example="statex.migrations('migrations/')   # 0001_a.sx, 0003_c.sx",
    fix="Restore the missing file, or renumber a step that no state has been through yet.",
)
CHAIN_FORK = declare(
    "SX804",
    "two files of a chain with one number",
    exit=2,
    meaning="Two files claim the same place in the chain, as happens when two branches each add a step.",
    example="statex.migrations('migrations/')   # 0002_fuse_qkv.sx, 0002_drop_bias.sx",
    fix="Give the step that was merged later the next number, and make sure that it works on the result of the other "
    "step.",
)
STEP_NEEDS_MORE = declare(
    "SX805",
    "a migration that needs more than the state",
    exit=2,
    meaning="A step of a chain is carried out while a module loads a state: at that time there are no further "
    "checkpoints, and no file around the state.",
    example="statex.attach(model, 'input ft')",
    fix="Leave `input` and `root` to rule files that `statex apply` carries out.",
)
AMBIGUOUS_LAYOUT = declare(
    "SX806",
    "a state that fits several layouts",
    meaning="A state carries no version, and its keys, shapes and dtypes fit more than one layout of the chain. A step "
    "may leave the header as it was, as the transpose of a square matrix does, so one cannot see whether it has been "
    "carried out already.",
    example="statex.attach(model, 'set weight = transpose')   # and weight is square",
    fix="Say which layout states without a version have: `statex.attach(module, chain, assume=1)`, or `--from 1` for "
    "`statex migrate`. States that an attached module or `statex migrate` has saved carry their version.",
)
STAMP_CONTRADICTED = declare(
    "SX807",
    "a version that the state contradicts",
    meaning="The layout of a state is noted in it (or given by `assume` or `--from`), but its keys, shapes or dtypes "
    "do not agree: the following steps cannot be carried out on it, or it fits another layout. Either it was changed "
    "after its version was noted, or the wrong layout was given, or the target is not of the layout that is wanted.",
    example="statex.attach(model, chain, assume=0)   # and the state has layout 2",
    fix="Correct `assume` or `--from`, or remove the version from the state: `state._metadata[''].pop('statex')`.",
)
ANOTHER_HISTORY = declare(
    "SX808",
    "a state with another history",
    meaning="The steps that made this state are not those of the chain: one of them has been edited since, or the "
    "state belongs to another chain. Comments and formatting do not count.",
    example="statex.attach(model, chain)   # 0001_a.sx was edited after a state had been through it",
    fix="Restore the step as it was, and put the changes into a new step.",
)
UNKNOWN_STAMP = declare(
    "SX809",
    "a version that is not known here",
    meaning="The state has a later layout than the last of the chain, or its version is noted in a form that this "
    "version of statex does not know.",
    example="statex.attach(model, chain)   # the state has layout 5, and the chain ends with step 3",
    fix="Load it with the version of the package that saved it, or a later one.",
)
ATTACHED_TWICE = declare(
    "SX810",
    "a module that has another chain already",
    exit=2,
    meaning="A module has one history: a second chain, or the same one with other parameters, would be carried out on "
    "the results of the first.",
    example="statex.attach(model, chain); statex.attach(model, other)",
    fix="Call `statex.detach(module)` first, or attach the chain for a part to the module of that part.",
)
NOT_ATTACHED = declare(
    "SX811",
    "a module without a chain",
    exit=2,
    meaning="`statex.migrate_state` uses the chains that are attached to a module and to the modules in it, and there "
    "are none.",
    example="statex.migrate_state(model, state)   # nothing was attached",
    fix="Call `statex.attach(module, chain)` first.",
)
SHARDS_DISAGREE = declare(
    "SX820",
    "shards that carry different versions",
    exit=3,
    meaning="Each shard of a set carries the version of the layout that the state has, and here two of them disagree "
    "(or one has none): they come from different checkpoints, or one of them was replaced or rewritten by another "
    "program. It is not clear what the state is.",
    example="statex show model/   # one shard was saved before a migration, the other after it",
    fix="Fetch or write the whole set again. A single shard can be read as a file.",
)
NO_LAYOUT = declare(
    "SX812",
    "a layout that the chain does not have",
    exit=2,
    meaning="A chain of n steps has the layouts 0 (before the first step) to n (after the last).",
    example="statex.attach(model, chain, assume=7)   # a chain of 3 steps",
    fix="Use a number that the message names.",
)
LAYOUT_NOT_TOLD = declare(
    "SX821",
    "a checkpoint whose layout is not known",
    meaning="No version is noted in the checkpoint, and nothing in its header shows which layout of the chain it has: "
    "the steps of the chain do not fit it, and it has none of the keys that they make. It may belong to another model, "
    "or its keys may have a prefix.",
    example="statex migrate other.pth out.pth",
    fix="Say which layout it has: `--from 0`. If the module that the chain is for is at a path of the state, name it: "
    "`--at encoder`. With `--target` or `--like`, the layout can be recognised by the required result.",
)
NO_WAY_DOWN = declare(
    "SX822",
    "a step that nothing undoes",
    exit=2,
    meaning="A checkpoint should go back to an earlier layout, and for one of the steps in between there is no file "
    "that says how to undo it. An inverse is derived only if a target says what the earlier layout is, the steps make "
    "of that what the checkpoint is, and they lose nothing.",
    example="statex migrate new.pth old.pth --to 1   # there is no 0002_fuse_qk.down.sx",
    fix="Name a target, the model or a checkpoint of the earlier layout, or write the file that the message names: "
    "rules that turn the layout after the step into the one before it.",
)
OTHER_VALUE = declare(
    "SX823",
    "a parameter with another value than before",
    meaning="The parameter values of steps are noted with the version of a state. A step that has been carried out "
    "used one value, and now another one is given.",
    example="statex migrate old.pth out.pth -D heads=16   # it has been through its steps with heads=8",
    fix="Leave the value out: the noted one also holds for further steps. If the new value is right, go back to the "
    "checkpoint from before the step, and migrate that.",
)
SEVERAL_PLACES = declare(
    "SX824",
    "a checkpoint with several states of a chain",
    exit=2,
    meaning="Versions of a chain are noted for several modules of a state, but only one can be migrated at a time.",
    example="statex migrate pair.pth out.pth   # versions are noted for `left` and `right`",
    fix="Say which module is meant: `--at left`, and `--at right` in a second run.",
)
NOTHING_THERE = declare(
    "SX825",
    "a path without keys",
    meaning="`--at` names the module that a chain is for by its path in the state, and no key is below that path.",
    example="statex migrate old.pth out.pth --at enocder",
    fix="Correct the path; `statex show --depth 1` lists the modules of a checkpoint.",
)
