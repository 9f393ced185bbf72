"""SX9xx: what is allowed and yet is often a mistake."""

from statex.diagnostics.codes.registry import declare

TIE_ENDS = declare(
    "SX901",
    "a tie ends",
    exit=0,
    meaning="Two keys shared one tensor in the input and hold different tensors in the result. A model that ties them "
    "keeps only one of the two.",
    example="set lm_head.weight = it * 2   # tied to embed.weight",
    fix="Change both in one statement: `set lm_head.weight, embed.weight = it * 2` keeps the tie.",
)
CAST_INTEGERS = declare(
    "SX902",
    "a cast touches integer tensors",
    exit=0,
    meaning="A cast to a floating-point dtype meets integer or bool tensors, such as counters, position ids or masks, "
    "which a model expects as they were.",
    example="set ** = cast(bf16)   # also num_batches_tracked",
    fix="Restrict it: `set ** = cast(bf16) where is_floating_point(it)`.",
)
INPUT_UNREAD = declare(
    "SX903",
    "tensors of a further input that nothing reads",
    exit=0,
    meaning="A further input holds tensors that no statement uses and no pattern names. A tensor that was overlooked "
    "would be silently lost.",
    example="input lora   # and only some of its tensors are used",
    fix="Read them, or say that they are left out on purpose: `drop lora::PATTERN`.",
)
SHARED_IN_FULL = declare(
    "SX904",
    "shared tensors are written in full",
    exit=0,
    meaning="Keys that share one tensor, or tensors that overlap in memory, are written to a format without sharing: "
    "each gets bytes of its own, and loading them gives separate tensors. Slices of one storage that do not overlap "
    "lose nothing, and are not reported.",
    example="statex apply rules.sx tied.pth out.safetensors",
    fix="If keys share one tensor and the model ties them itself, drop all but one; or write a .pth.",
)
NOTES_LOST = declare(
    "SX905",
    "metadata that the output has no place for",
    exit=0,
    meaning="A safetensors file keeps texts beside its tensors (`__metadata__`), as GGUF does. The output's format has "
    "no place for them, or for those that rules add; or the version of a layout takes the place of the text called "
    "`statex`. Long arrays in the metadata of GGUF, such as vocabularies, have no place in any output.",
    example="statex apply rules.sx in.safetensors out.pth",
    fix="Write a .safetensors if they are needed.",
)
DTYPE_CHANGED = declare(
    "SX906",
    "a key gets another dtype",
    exit=0,
    meaning="A `set` gives a key a value of a different dtype, without naming a dtype.",
    example="set a.weight = zeros([2, 2])   # a.weight is bf16, and constructors make f32",
    fix="Say which dtype is meant: `zeros([2, 2], dtype=dtype)`, or `… | cast(dtype)`.",
)
REGEX_INSIDE = declare(
    "SX915",
    "a regular expression that matches no whole key",
    exit=0,
    meaning="A pattern matches whole keys, even if it is a regular expression. This one matches none, but would be "
    "found inside some; and in this place (in `exists` or `count`, after `drop?` or `rename?`, in a row with `->?`) it "
    "is not an error to match nothing.",
    example="drop? /weig/   # a.weight",
    fix="Make it match the whole key: `/.*weig.*/`. In conditions, `key matches /weig/` searches.",
)
NOT_FOLLOWED = declare(
    "SX916",
    "an optimizer or average that no longer fits the state",
    exit=0,
    meaning="An optimizer or a moving average is next to the state in the file, stays in the output, and knows the "
    "parameters by their positions or their names. The program changes what these refer to: which parameters there "
    "are, their order, names, shapes or values; or the target has them in another order. When loaded with the result, "
    "the moments of one parameter would be taken for those of another, or not be found. Optimizers follow by "
    "themselves where they can; here one cannot, and the message says why. Averages follow where rules say so: "
    "`follow 'ema'`.",
    example="set a.weight = it * 2   # of {'model': …, 'optimizer': …}",
    fix="Leave it out (`drop value('optimizer')`), and make a new optimizer for the result.",
)
RECOVERED = declare(
    "SX907",
    "an interrupted run was finished or undone",
    exit=0,
    meaning="An earlier run with several outputs was killed, or lost power, before all of them had their names. If all "
    "were written and nobody has changed them since, they have their names now; otherwise the files that they replaced "
    "are back, and the files that the run had written are removed.",
    example="statex show out.pth   # after a run that was killed",
    fix="If it was undone, run it again.",
)
NOT_COPIED = declare(
    "SX908",
    "links that are not copied",
    exit=0,
    meaning="`--copy-files` (or `copy_files`) copies files from the input's folder, and some of these are links out of "
    "it, which whoever made the folder could have pointed at any private file, or links to nothing. They are left out. "
    "In a snapshot of the Hugging Face cache, links to the blobs of its own model are followed. Hidden files, folders, "
    "and files named like weights (`training_args.bin`, `optimizer.pt`) are never copied; the summary names them.",
    example="statex apply rules.sx model/ out/ --copy-files   # model/config.json is a link to elsewhere",
    fix="If you trust a link, copy its file yourself: `cp -rL model/config.json out/`.",
)
FOREIGN_KEPT = declare(
    "SX912",
    "foreign objects that are kept",
    exit=0,
    meaning="The output holds objects that statex does not load, written as they were read. Anyone who loads them with "
    "`torch.load(weights_only=False)` runs their authors' code, as with the input. `statex plan` warns of those that "
    "`statex apply` would stop at (SX640).",
    example="statex apply rules.sx a.pth b.pth --keep-foreign   # a.pth holds {'config': MyConfig()}",
    fix="Leave them out if they are not needed: `drop value('config')`.",
)
MODULE_READ = declare(
    "SX913",
    "a state that was read out of a whole module",
    exit=0,
    meaning="The state was read out of a pickled module without its classes, and something about it may differ from "
    "what its `state_dict()` gives: classes may have a `state_dict` of their own or extra state, hooks are not run, "
    "and children that cannot be read are left out. Classes of torch.nn are known.",
    example="statex apply -e \"root 'model' -> ''\" yolo.pt yolo.safetensors",
    fix="Compare it with the model: `--target module:callable`.",
)
UNUSED_NAME = declare(
    "SX925",
    "a name that nothing uses",
    exit=0,
    meaning="A parameter, a `let`, a macro, an argument of a macro or an input is defined and never used: its use may "
    "be missing or misspelt. Macros of included files are not reported, nor are macros and inputs of a file that only "
    "defines names: they are there for other files.",
    example="let factor = 2\nset a.weight = it * 3",
    fix="Remove it. A name that begins with `_` is never reported.",
)
UNUSED_CAPTURE = declare(
    "SX926",
    "a capture that nothing uses",
    exit=0,
    meaning="A statement makes new keys, and a capture of its pattern is neither in the template nor in the condition "
    "or the value. What it matched is gone from the new keys, and two keys that differ only there become one. "
    "Statements that make no new keys are not checked: in `drop layers.{i}.bias` the name says what to expect there.",
    example="rename a.{part} -> b.weight",
    fix="Use it in the template. If any text will do, write it without a name: `{_}`, `{_:int}`, `{_:**}`. A name that "
    "begins with `_` is never reported.",
)
CONFIG_KEPT = declare(
    "SX917",
    "a config.json that states another dtype",
    exit=0,
    meaning="A `config.json` that is copied along states a dtype (`torch_dtype`, `dtype`), and dtypes of tensors have "
    "changed. It is updated if all floats had the dtype that it states and now all have the same other one. If dtypes "
    "are mixed, parts of it state their own, it cannot be read as JSON, or the model is quantized, it is left "
    "as it is.",
    example="statex apply -e 'set **.norm.weight = cast(f32)' model/ out/ --copy-files   # a model in bf16",
    fix="Change the copy by hand if the model is to be created in another dtype; `--no-update-config` (in a recipe "
    "`update_config: false`) copies it unchanged without a warning.",
)
LAYOUT_UNKNOWN = declare(
    "SX920",
    "a state that fits no layout of the chain",
    exit=0,
    meaning="A module with a chain of migrations is given a state that carries no version, has keys that the module "
    "does not have, and fits none of the layouts of the chain. It is loaded as it is; torch reports what does not fit, "
    "except with `strict=False`.",
    example="statex.attach(model, chain); model.load_state_dict(a_part_of_an_old_state, strict=False)",
    fix="If it is part of an old state, say which layout that has: `statex.attach(module, chain, assume=1)`.",
)
STAMP_KEPT = declare(
    "SX921",
    "a version that may no longer hold",
    exit=0,
    meaning="The state carries the version of its layout, noted by a module with a chain of migrations, and rules that "
    "are not of this chain change it. Its version stays as it is.",
    example="statex apply rules.sx stamped.pth out.pth",
    fix="Make the rules a step of the chain. If layout and version do not agree, loading the state is an error "
    "(SX807).",
)
STAMP_LOST = declare(
    "SX923",
    "a version that the output has no place for",
    exit=0,
    meaning="The state carries the version of its layout in a form that safetensors files and folders of "
    "torch.distributed.checkpoint have no place for: it does not consist of plain texts, numbers, lists and dicts, or "
    "it is too large. The output carries none.",
    example="statex apply rules.sx stamped.pth out.safetensors   # the version is not one of `statex.attach`",
    fix="Load the state into the module it belongs to and save it again, or write a .pth.",
)
STAMP_UNREAD = declare(
    "SX924",
    "an entry that should be a version but is not",
    exit=0,
    meaning="The entry `statex` in the `__metadata__` of a safetensors file looks like the version of a layout but "
    "cannot be read as one: it is damaged, too large, or nested too deeply. It stays as it is, as a text, and the "
    "state counts as having no version.",
    example="statex apply rules.sx in.safetensors out.safetensors   # `statex` in `__metadata__` is cut off",
    fix="Remove the entry, or save the state again from the module it belongs to.",
)
