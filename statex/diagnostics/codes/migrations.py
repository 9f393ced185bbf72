"""SX8xx: chains of migrations, and modules that load their own past."""

from statex.diagnostics.codes.registry import declare

CHAIN_UNREADABLE = declare(
    "SX801",
    "a folder of migrations that cannot be read",
    exit=3,
    meaning="The folder of a chain does not exist, cannot be read, or holds no migrations.",
    example="statex.migrations('migratoins/')",
    mend="Correct the path. A chain begins with a file such as `0001_rename_head.sx`.",
)
STEP_NAME = declare(
    "SX802",
    "a file of a chain with a wrong name",
    exit=2,
    meaning="A rule file in the folder of a chain has a name from which its place in the chain cannot be told. Such a "
    "file would be skipped silently.",
    example="statex.migrations('migrations/')   # migrations/fuse_qkv.sx",
    mend="Call it by four digits, an underscore and a name: `0002_fuse_qkv.sx`; what undoes it is "
    "`0002_fuse_qkv.down.sx`. Files that steps include stand in a folder below.",
)
CHAIN_GAP = declare(
    "SX803",
    "a chain with a gap",
    exit=2,
    meaning="The numbers of a chain are not 1, 2, 3, …: a file is missing or has a wrong number.",
    example="statex.migrations('migrations/')   # 0001_a.sx, 0003_c.sx",
    mend="Restore the missing file, or renumber a step that no state has been through yet.",
)
CHAIN_FORK = declare(
    "SX804",
    "two files of a chain with one number",
    exit=2,
    meaning="Two files claim the same place in the chain, as happens when two branches each add a step.",
    example="statex.migrations('migrations/')   # 0002_fuse_qkv.sx, 0002_drop_bias.sx",
    mend="Give the step that was merged later the next number, and see that it fits what the other step makes.",
)
STEP_NEEDS_MORE = declare(
    "SX805",
    "a migration that needs more than the state",
    exit=2,
    meaning="A step of a chain is carried out while a module loads a state: there are no further checkpoints then, and "
    "no file around the state.",
    example="statex.attach(model, 'input ft')",
    mend="Leave `input` and `root` to rule files that `statex apply` carries out.",
)
AMBIGUOUS_LAYOUT = declare(
    "SX806",
    "a state that fits several layouts",
    meaning="A state carries no version, and its keys, shapes and dtypes fit more than one layout of the chain. It may "
    "be that a step keeps the header as it was, as the transpose of a square matrix does: whether it has been carried "
    "out already cannot be seen.",
    example="statex.attach(model, 'set weight = transpose')   # and weight is square",
    mend="Say which layout states without a version have: `statex.attach(module, chain, assume=1)`. States that an "
    "attached module has saved carry their version.",
)
STAMP_CONTRADICTED = declare(
    "SX807",
    "a version that the state contradicts",
    meaning="A state says (or `assume` says of it) which layout it has, and its keys, shapes or dtypes are not those: "
    "the steps that follow cannot be carried out on it, or it fits another layout. It has been changed since its "
    "version was noted, or another layout was assumed than it has.",
    example="statex.attach(model, chain, assume=0)   # and the state has layout 2",
    mend="Correct `assume`, or remove the version from the state: `state._metadata[''].pop('statex')`.",
)
ANOTHER_HISTORY = declare(
    "SX808",
    "a state with another history",
    meaning="The steps that made this state are not those of the chain: one of them has been edited since, or the "
    "state belongs to another chain. Comments and formatting do not count.",
    example="statex.attach(model, chain)   # 0001_a.sx was edited after a state had been through it",
    mend="Restore the step as it was, and write what shall be different into a new step.",
)
UNKNOWN_STAMP = declare(
    "SX809",
    "a version that is not known here",
    meaning="The state is of a later layout than the chain has steps, or its version is noted in a form that this "
    "version of statex does not know.",
    example="statex.attach(model, chain)   # the state has layout 5, and the chain ends with step 3",
    mend="Load it with the version of the package that saved it, or a later one.",
)
ATTACHED_TWICE = declare(
    "SX810",
    "a module that has another chain already",
    exit=2,
    meaning="A module has one past: a second chain, or the same with other parameters, would be carried out on what "
    "the first has made.",
    example="statex.attach(model, chain); statex.attach(model, other)",
    mend="`statex.detach(module)` first, or attach the chain of a part to the module of that part.",
)
NOT_ATTACHED = declare(
    "SX811",
    "a module without a chain",
    exit=2,
    meaning="`statex.migrate_state` uses the chains that are attached to a module and to the modules in it, and there "
    "are none.",
    example="statex.migrate_state(model, state)   # nothing was attached",
    mend="`statex.attach(module, chain)` first.",
)
SHARDS_DISAGREE = declare(
    "SX820",
    "shards that carry different versions",
    exit=3,
    meaning="Each shard of a set carries the version of the layout that the state has, and two of them say something "
    "else (or one says nothing): they come from different checkpoints, or one of them was replaced or written anew by "
    "other means. What the state is cannot be told.",
    example="statex show model/   # one shard was saved before a migration, the other after it",
    mend="Fetch or write the whole set again. A shard by itself can be read as a file.",
)
NO_LAYOUT = declare(
    "SX812",
    "a layout that the chain does not have",
    exit=2,
    meaning="A chain of n steps has the layouts 0 (before the first step) to n (after the last).",
    example="statex.attach(model, chain, assume=7)   # a chain of 3 steps",
    mend="Use a number that the message names.",
)
