"""SX9xx: what is allowed and yet is often a mistake."""

from statex.diagnostics.codes.registry import declare

TIE_ENDS = declare(
    "SX901",
    "a tie ends",
    exit=0,
    meaning="Two keys shared one tensor in the input and hold different tensors in the result. A model that ties them "
    "keeps only one of the two.",
    example="set lm_head.weight = it * 2   # tied to embed.weight",
    mend="Change both in one statement: `set lm_head.weight, embed.weight = it * 2` keeps the tie.",
)
CAST_INTEGERS = declare(
    "SX902",
    "a cast touches integer tensors",
    exit=0,
    meaning="A cast to a floating-point dtype meets integer or bool tensors, such as counters, position ids or masks, "
    "which a model expects as they were.",
    example="set ** = cast(bf16)   # also num_batches_tracked",
    mend="Restrict it: `set ** = cast(bf16) where is_floating_point(it)`.",
)
INPUT_UNREAD = declare(
    "SX903",
    "tensors of a further input that nothing reads",
    exit=0,
    meaning="A further input holds tensors that no statement makes anything of, and that no pattern of one names. What "
    "was overlooked would be lost in silence.",
    example="input lora   # and only some of its tensors are used",
    mend="Read them, or say that they are left out on purpose: `drop lora::PATTERN`.",
)
SHARED_IN_FULL = declare(
    "SX904",
    "shared tensors are written in full",
    exit=0,
    meaning="Keys that are one memory in the input go to a format without sharing: each gets bytes of its own, and "
    "whoever loads them has tensors of their own.",
    example="statex apply rules.sx tied.pth out.safetensors",
    mend="Drop all but one where the model ties them itself, or write a .pth.",
)
NOTES_LOST = declare(
    "SX905",
    "notes that the output has no place for",
    exit=0,
    meaning="A safetensors file keeps texts beside its tensors (`__metadata__`), and the output's format has no place "
    "for them.",
    example="statex apply rules.sx in.safetensors out.pth",
    mend="Write a .safetensors if they are needed.",
)
DTYPE_CHANGED = declare(
    "SX906",
    "a key gets another dtype",
    exit=0,
    meaning="A `set` gives a key a value of another dtype than it had, and says nothing of a dtype.",
    example="set a.weight = zeros([2, 2])   # a.weight is bf16, and constructors make f32",
    mend="Say which dtype is meant: `zeros([2, 2], dtype=dtype)`, or `… | cast(dtype)`.",
)
RECOVERED = declare(
    "SX907",
    "an interrupted run was finished or undone",
    exit=0,
    meaning="An earlier run with several outputs was killed, or lost its power, before all of them had their names. "
    "Where all were written and nobody has changed them since, they have got their names now; else what they were to "
    "replace is back, and what the run had written is removed.",
    example="statex show out.pth   # after a run that was killed",
    mend="Where it was undone, run it again.",
)
NOT_COPIED = declare(
    "SX908",
    "files that are not copied along",
    exit=0,
    meaning="`--copy-files` (or `copy_files`) copies the files beside the weights, and some of these are links to "
    "outside of the folder, which a stranger may have made of anything. The output goes without them.",
    example="statex apply rules.sx model/ out/ --copy-files   # model/config.json is a link to elsewhere",
    mend="Copy the folder with its links followed (`cp -rL model/ real/`), and convert that.",
)
FOREIGN_KEPT = declare(
    "SX912",
    "foreign objects that are kept",
    exit=0,
    meaning="The output holds objects that statex does not load, written as they were read. Who loads them with "
    "`torch.load(weights_only=False)` runs their authors' code, as with the input. `statex plan` says it of those that "
    "`statex apply` would stop at (SX640).",
    example="statex apply rules.sx a.pth b.pth --keep-foreign   # a.pth holds {'config': MyConfig()}",
    mend="Leave them out if they are not needed: `drop value('config')`.",
)
MODULE_READ = declare(
    "SX913",
    "a state that was read out of a whole module",
    exit=0,
    meaning="The state was read out of a pickled module without its classes, and something about it may differ from "
    "what its `state_dict()` gives: classes may have a `state_dict` of their own or extra state, hooks are not run, "
    "and children that cannot be read are left out. Classes of torch.nn are known.",
    example="statex apply -e \"root 'model' -> ''\" yolo.pt yolo.safetensors",
    mend="Compare with the model: `--target module:callable`.",
)
LAYOUT_UNKNOWN = declare(
    "SX920",
    "a state that fits no layout of the chain",
    exit=0,
    meaning="A module with a chain of migrations is given a state that carries no version, has keys that the module "
    "does not have, and fits none of the layouts of the chain. It is loaded as it is; torch reports what does not fit, "
    "except with `strict=False`.",
    example="statex.attach(model, chain); model.load_state_dict(a_part_of_an_old_state, strict=False)",
    mend="If it is part of an old state, say of which layout: `statex.attach(module, chain, assume=1)`.",
)
STAMP_KEPT = declare(
    "SX921",
    "a version that may no longer hold",
    exit=0,
    meaning="The state carries the version of its layout, noted by a module with a chain of migrations, and rules that "
    "are not of this chain change it. Its version stays as it is.",
    example="statex apply rules.sx stamped.pth out.pth",
    mend="Make the rules a step of the chain. If layout and version do not agree, loading the state is an error "
    "(SX807).",
)
