"""SX6xx: checkpoint files and safety."""

from statex.diagnostics.codes.registry import declare

UNREADABLE = declare(
    "SX601",
    "a checkpoint that cannot be read",
    exit=3,
    meaning="The file does not exist, or the system does not let it be read.",
    example="statex show missing.pth",
    fix="Check the path and the permissions.",
)
NOT_A_CHECKPOINT = declare(
    "SX602",
    "not a checkpoint",
    exit=3,
    meaning="The content of the file is not in a format that statex reads, whatever its name says.",
    example="statex show README.md",
    fix="The message says what the file looks like. Replace a git-lfs pointer with `git lfs pull`; unpack an archive "
    "first.",
)
UNSAFE = declare(
    "SX603",
    "a checkpoint that would run code",
    exit=3,
    meaning="Only its author's code could build the contents of the file, and statex runs no code from files: it holds "
    "a program, an object of a class, or tensors inside one. Objects next to a state are not a reason to refuse it: "
    "they are carried along, unless the file creates one and throws it away, or names it by a number.",
    example="torch.save(trainer, 'trainer.pth')   # an object of a class, and not its state",
    fix="If you trust the source, load the file where its code is installed, and save only the state: "
    "`torch.save(model.state_dict(), 'state.pth')`.",
)
DAMAGED = declare(
    "SX604",
    "a damaged checkpoint",
    exit=3,
    meaning="The file is in a known format but breaks its rules: it is truncated, or its parts contradict each other.",
    example="statex show half-downloaded.safetensors",
    fix="Fetch the file again, and compare its size or checksum with the original.",
)
NO_STATE = declare(
    "SX605",
    "no state in the checkpoint",
    exit=3,
    meaning="The checkpoint holds no dict or list of tensors. A single tensor is not a state, because it has no key; "
    "nor is a dict whose keys are neither text nor ints.",
    example="torch.save({'epoch': 3}, 'a.pth')   # or torch.save(tensor, 'a.pth')",
    fix="Name the file that holds the weights. Save a single tensor with a key, `{'weight': tensor}`, and odd keys as "
    "text.",
)
AMBIGUOUS_ROOT = declare(
    "SX606",
    "several states in the checkpoint",
    exit=2,
    meaning="The checkpoint holds more than one dict of tensors, such as `model` and `ema`, and it is not clear which "
    "one is meant.",
    example="torch.save({'model': state, 'ema': other}, 'a.pth')",
    fix="Name it: `--root model`, or `root 'model'` in the rules. `root ''` is the whole file.",
)
NO_ROOT = declare(
    "SX607",
    "a root that is not there",
    exit=2,
    meaning="The path given as the root does not lead to a dict in this checkpoint, or to a list that holds tensors.",
    example="statex show a.pth --root state_dict",
    fix="`statex show` without a root lists the candidates.",
)
ROOT_TAKEN = declare(
    "SX619",
    "a root that is in use",
    meaning="`root … -> …` puts the state where the checkpoint holds something else, which would be silently lost; or "
    "it takes the state out of a list, so that later items would move to other places.",
    example="root 'model' -> 'optimizer'   # the checkpoint has an optimizer",
    fix="Choose another path, or take the bare state alone: `root 'model' -> ''`.",
)
TWO_READINGS = declare(
    "SX626",
    "a path that can be read in two ways",
    exit=2,
    meaning="A path is a sequence of dict keys and places in lists. A dotted text should stand for one path, but here "
    "it fits several, because keys of the checkpoint contain dots themselves.",
    example="statex show a.pth --root a.b   # torch.save({'a': {'b': state}, 'a.b': other}, 'a.pth')",
    fix="Name each key separately: `root ['a', 'b']` or `value(['a', 'b'])` in the rules, `--root \"['a', 'b']\"` on "
    "the command line.",
)
JOINED_TWICE = declare(
    "SX608",
    "two entries that join to one key",
    exit=3,
    meaning="Dicts and lists inside a state join their keys and places with dots, with ints as text. Here two entries "
    "get the same name that way.",
    example="torch.save({'a': {'b': tensor}, 'a.b': tensor}, 'a.pth')   # or {0: tensor, '0': tensor}",
    fix="Name an inner dict as the root, `root 'a'`, or save the file again with a different key for one of the two.",
)
CHANGED = declare(
    "SX609",
    "an input that changed while it was read",
    exit=3,
    meaning="The file was written to or truncated while it was read, so the parts that were read do not belong "
    "together.",
    example="statex apply rules.sx in.pth out.pth   # while in.pth is still being written",
    fix="Run the command again when the file is complete.",
)
EXISTS = declare(
    "SX610",
    "the output exists",
    exit=3,
    meaning="A file of that name exists, and is not replaced unless you say so.",
    example="statex apply rules.sx in.pth out.pth   # twice",
    fix="Add `--force`, or choose another name.",
)
SAME_FILE = declare(
    "SX611",
    "the output is an input",
    exit=3,
    meaning="The output names the same file as an input, by its name or through a link; the only copy would be "
    "replaced.",
    example="statex apply rules.sx model.pth model.pth",
    fix="Choose another name, or add `--force`: the new file is complete before it takes the old one's place.",
)
UNWRITABLE = declare(
    "SX612",
    "an output that cannot be written",
    exit=3,
    meaning="The folder does not exist or is read-only, the name is that of a folder, or the disk is full. Existing "
    "files are untouched.",
    example="statex apply rules.sx in.pth no/such/folder/out.pth",
    fix="The message gives the system's reason.",
)
NO_STEM = declare(
    "SX645",
    "a stem that files cannot be named after",
    exit=2,
    meaning="`--stem` (or `stem`) is what the names of the files in a folder begin with: `NAME.safetensors`, "
    "`NAME-00001-of-00002.safetensors`. It must not be a path or a hidden name, or have an ending or a number of its "
    "own.",
    example="statex apply rules.sx in/ out/ --stem model.safetensors",
    fix="Leave the ending out: `--stem model`, or with a variant `--stem model.fp16`.",
)
UNKNOWN_FORMAT = declare(
    "SX613",
    "an output whose format is not known",
    exit=2,
    meaning="statex does not know the ending of the output's name, and no `--format` was given.",
    example="statex apply rules.sx in.pth out.weights",
    fix="End the name in .pth, .pt, .bin, .ckpt, .safetensors or .npz, or give `--format`.",
)
NO_SPACE = declare(
    "SX615",
    "not enough free space",
    exit=3,
    meaning="The output would not fit on its disk. This is checked before anything is written.",
    example="statex apply rules.sx in.pth /small-disk/out.pth",
    fix="Free some space, or write elsewhere. Even with `--force`, the old output stays until the new one is complete.",
)
NO_MEMORY = declare(
    "SX616",
    "more memory than allowed, or than there is",
    exit=3,
    meaning="According to the plan, the run would use more memory than `--max-memory` allows (or, without it, than the "
    "machine has), and nothing was done; or the system ran out of memory for a tensor, and there is no output.",
    example="statex apply rules.sx in.pth out.pth --max-memory 100MiB",
    fix="Allow more, or compute with smaller tensors: `statex plan` shows how much is used.",
)
WRITTEN_DIFFERS = declare(
    "SX617",
    "an output that reads back differently",
    exit=3,
    meaning="With `--verify-written`, the output is read again before it gets its name; here its bytes had changed.",
    example="statex apply rules.sx in.pth out.pth --verify-written   # on a failing disk",
    fix="Look for disk errors in the system log, and write to another disk.",
)
CANNOT_HOLD = declare(
    "SX614",
    "a format that cannot hold the result",
    exit=3,
    meaning="safetensors holds named tensors and nothing else: no numbers, no nested dicts, no sparse or quantized "
    "tensors. A .npz holds named arrays of numpy's own dtypes; bfloat16 is not one of them. None of the formats that "
    "statex writes holds quantized blocks of GGUF. Entries that an output cannot hold would be lost.",
    example="statex apply rules.sx lightning.ckpt out.safetensors",
    fix="Take the bare state (`root 'state_dict' -> ''`), `drop` the entries named, or write a .pth.",
)
NO_FOLDER = declare(
    "SX618",
    "an option for folders, given for a file",
    exit=2,
    meaning="`--copy-files` copies files other than weights (configuration, tokenizer) into the output folder, and "
    "`--stem` names the files in it, but the output is a single file.",
    example="statex apply rules.sx model/ out.pth --copy-files",
    fix="End the output's name in `/`, or leave the option out.",
)
NO_SUCH_DTYPE = declare(
    "SX621",
    "a dtype that the installed torch does not have",
    exit=3,
    meaning="A tensor of this dtype must be computed or loaded, and only later versions of torch have the dtype "
    "(float8_e8m0fnu, for example, came with 2.7). Some dtypes of safetensors do not exist in torch at all. Tensors "
    "that only move do not need torch.",
    example="statex apply -e 'set ** = cast(f8_e8m0fnu)' in.safetensors out.safetensors   # with torch 2.6",
    fix="Install a newer torch, or choose the keys so that these tensors only move.",
)
BAD_JOURNAL = declare(
    "SX622",
    "a journal that cannot be followed",
    exit=3,
    meaning="A run that writes several outputs keeps a file `.NAME.statex-journal` beside each, so that a later "
    "command can finish or undo the run if it is interrupted. This one is damaged, was moved or copied, belongs to "
    "another user, or the system refuses the renames. Nothing that it names is touched.",
    example="statex show out.pth   # beside it a .out.pth.statex-journal from another machine",
    fix="Look at the outputs, and remove the journal if they are as you want them.",
)
OUTPUT_AWAY = declare(
    "SX623",
    "an output of an interrupted run that is out of reach",
    exit=3,
    meaning="A run with several outputs was interrupted while they got their names, and the folder of one of them is "
    "not there now. statex cannot tell whether the run must be finished or undone.",
    example="statex show out.pth   # its run also wrote to a disk that is not mounted",
    fix="Mount the disk and run the command again. If it is gone for good, look at the output that is left, and "
    "remove the journal beside it.",
)
BUSY = declare(
    "SX624",
    "an output that another run is writing",
    exit=3,
    meaning="Another run of statex is writing an output of this name, or has left a journal for it that nobody has "
    "settled yet.",
    example="statex apply rules.sx in.pth out/ --force   # twice at the same time",
    fix="Wait for the other run to end, or choose another name.",
)
OTHER_FORMAT = declare(
    "SX630",
    "an input of another format than expected",
    exit=3,
    meaning="A recipe states the format of an input, and its content is in another one.",
    example="inputs: {main: {path: in.pth, format: safetensors}}",
    fix="Name the right file, or correct `format`.",
)
OUTPUTS_MEET = declare(
    "SX631",
    "outputs or inputs that meet",
    exit=2,
    meaning="Two outputs are the same file, or one is inside another or inside an input: writing one would change the "
    "other, or change what the next run reads.",
    example="outputs: {a: out/, b: out/b.pth}",
    fix="Give each output a place of its own, outside the folders that are read.",
)
KEY_NOWHERE = declare(
    "SX632",
    "a key that no output holds",
    meaning="Every output has a `keep`, and none of them keeps this key of the result: it would be silently lost.",
    example="outputs: {head: {path: head.pth, keep: 'head.**'}}   # and the result has a body, too",
    fix="If the key is not needed, let the rules drop it, or end them with a `keep` of the keys that are needed; "
    "otherwise add an output that keeps it.",
)
WRONG_DIGEST = declare(
    "SX633",
    "an input with another digest than expected",
    exit=3,
    meaning="A recipe states the SHA-256 of an input, and its bytes have a different one: it is another file, or "
    "damaged. For a folder, every file that is read needs a digest under its name, including the index.",
    example="inputs: {main: {path: in.pth, sha256: 0000…}}",
    fix="Fetch the right file, or correct the digest if the new file is meant. `sha256sum FILE` prints it.",
)
NOT_A_STATE = declare(
    "SX634",
    "something that is not a state",
    exit=2,
    meaning="A state is a mapping of keys to tensors (what `Module.state_dict()` returns) or the path of a checkpoint, "
    "and something else was given, such as the module itself.",
    example="statex from Python: rules.apply(model)",
    fix="Give `model.state_dict()`.",
)
FOREIGN = declare(
    "SX640",
    "foreign objects in an output",
    exit=3,
    meaning="The checkpoint holds objects of classes that are neither tensors nor plain values, nor among the few "
    "harmless ones of Python's library and numpy. statex never loads them. It can leave them out, or write them to a "
    "torch file as they were read: anyone who then loads that file with `weights_only=False` runs their code, as with "
    "the input. It does neither unless told to.",
    example="torch.save({'model': state, 'config': MyConfig()}, 'a.pth')   # then: statex apply rules.sx a.pth b.pth",
    fix="`drop value('config')` leaves one out, `root 'model' -> ''` leaves out everything around the state, and "
    "`--keep-foreign` keeps them: use that only if you trust the file as much as its readers must.",
)
MODULE_STAYS = declare(
    "SX641",
    "a whole module that the state cannot be put back into",
    exit=3,
    meaning="The checkpoint holds a whole module (`torch.save(model, …)`). Its state can be read without its class, "
    "because it consists of parameters, buffers and child modules. Putting another state into the module would take "
    "its code.",
    example="torch.save({'model': model}, 'a.pth')   # then: statex apply rules.sx a.pth b.pth",
    fix="Take the bare state: `root 'model' -> ''` as the first rule, or `root '' -> ''` if the module is the whole "
    "file.",
)
STRETCHED = declare(
    "SX642",
    "a small file that would make a large one",
    exit=3,
    meaning="A torch file can hold views that repeat what is stored, as `expand` makes them: a file of a kilobyte with "
    "a tensor of many gigabytes. Computing with such a view, or writing it in a format without views, creates every "
    "element of it. That is refused if it takes more than 1 GiB and more than 1000 times the bytes of the inputs.",
    example="torch.save({'a': torch.ones(1).expand(70_000, 70_000)}, 'a.pth')   # then: a.pth to a.safetensors",
    fix="Drop it, take a part of it (`set a = it[:1]`), or keep it as it is in a torch file.",
)
