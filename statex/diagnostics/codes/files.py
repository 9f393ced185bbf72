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
    meaning="The content of the file is that of no format statex reads, whatever its name ends in.",
    example="statex show README.md",
    fix="The message says what the file looks like. A git-lfs pointer is fetched with `git lfs pull`; an archive is "
    "unpacked first.",
)
UNSAFE = declare(
    "SX603",
    "a checkpoint that would run code",
    exit=3,
    meaning="What the file holds, only its author's code could make, and statex runs none: it is a program, an object "
    "of a class, or tensors inside one. Objects beside a state are no reason: they are carried along, unless the "
    "file makes one and throws it away, or names it by a number.",
    example="torch.save(trainer, 'trainer.pth')   # an object of a class, and not its state",
    fix="If you trust the source, load it there and save the state alone: "
    "`torch.save(model.state_dict(), 'state.pth')`.",
)
DAMAGED = declare(
    "SX604",
    "a damaged checkpoint",
    exit=3,
    meaning="The file is of a known format and breaks its rules: it is truncated, or its parts contradict each other.",
    example="statex show half-downloaded.safetensors",
    fix="Fetch the file again, and compare its size or checksum with the original.",
)
NO_STATE = declare(
    "SX605",
    "no state in the checkpoint",
    exit=3,
    meaning="The checkpoint holds no dict of tensors, nor a list of them. A single tensor is not a state, as it has no "
    "key, nor is a dict whose keys are neither text nor ints.",
    example="torch.save({'epoch': 3}, 'a.pth')   # or torch.save(tensor, 'a.pth')",
    fix="Name the file that holds the weights. Save a single tensor with a key, `{'weight': tensor}`, and odd keys as "
    "text.",
)
AMBIGUOUS_ROOT = declare(
    "SX606",
    "several states in the checkpoint",
    exit=2,
    meaning="The checkpoint holds more than one dict of tensors, such as `model` and `ema`, and which one is meant "
    "cannot be told.",
    example="torch.save({'model': state, 'ema': other}, 'a.pth')",
    fix="Name it: `--root model`, or in the rules `root 'model'`. `root ''` is the whole file.",
)
NO_ROOT = declare(
    "SX607",
    "a root that is not there",
    exit=2,
    meaning="The path given as the root leads to no dict in this checkpoint, nor to a list that holds tensors.",
    example="statex show a.pth --root state_dict",
    fix="`statex show` without a root lists the candidates.",
)
ROOT_TAKEN = declare(
    "SX619",
    "a root that is in use",
    meaning="`root … -> …` puts the state where the checkpoint holds something else, which would be silently lost, "
    "or takes it out of a list, where what follows it would get other places.",
    example="root 'model' -> 'optimizer'   # the checkpoint has an optimizer",
    fix="Choose another path, or take the bare state alone: `root 'model' -> ''`.",
)
TWO_READINGS = declare(
    "SX626",
    "a path that can be read in two ways",
    exit=2,
    meaning="A path is a sequence of dict keys and places in lists. A dotted text stands for one, and here for "
    "several, as keys of the checkpoint have dots of their own.",
    example="statex show a.pth --root a.b   # torch.save({'a': {'b': state}, 'a.b': other}, 'a.pth')",
    fix="Name each key by itself: `root ['a', 'b']` or `value(['a', 'b'])` in the rules, `--root \"['a', 'b']\"` on "
    "the command line.",
)
JOINED_TWICE = declare(
    "SX608",
    "two entries that join to one key",
    exit=3,
    meaning="Dicts and lists inside a state join their keys and places with dots, ints as text, and here two entries "
    "get the same name that way.",
    example="torch.save({'a': {'b': tensor}, 'a.b': tensor}, 'a.pth')   # or {0: tensor, '0': tensor}",
    fix="Name an inner dict as the root, `root 'a'`, or save it again with another key for one of the two.",
)
CHANGED = declare(
    "SX609",
    "an input that changed meanwhile",
    exit=3,
    meaning="The file was written to or cut while it was read: what was read does not belong together.",
    example="statex apply rules.sx in.pth out.pth   # while in.pth is still being written",
    fix="Run again when the file is complete.",
)
EXISTS = declare(
    "SX610",
    "the output exists",
    exit=3,
    meaning="A file of that name is there, and is not replaced unless you say so.",
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
    meaning="The folder does not exist or is read-only, the name is a folder's, or the disk is full. What was there "
    "before is untouched.",
    example="statex apply rules.sx in.pth no/such/folder/out.pth",
    fix="The message has the system's reason.",
)
NO_STEM = declare(
    "SX645",
    "a stem that files cannot be named after",
    exit=2,
    meaning="`--stem` (or `stem`) is what the names of the files in a folder begin with: `NAME.safetensors`, "
    "`NAME-00001-of-00002.safetensors`. It is neither a path nor hidden, and has no ending and no number of its own.",
    example="statex apply rules.sx in/ out/ --stem model.safetensors",
    fix="Leave the ending away: `--stem model`, or with a variant `--stem model.fp16`.",
)
UNKNOWN_FORMAT = declare(
    "SX613",
    "an output whose format cannot be told",
    exit=2,
    meaning="The ending of the output's name is none that statex knows, and no `--format` was given.",
    example="statex apply rules.sx in.pth out.weights",
    fix="End the name in .pth, .pt, .bin, .ckpt, .safetensors or .npz, or give `--format`.",
)
NO_SPACE = declare(
    "SX615",
    "not enough free space",
    exit=3,
    meaning="The output would not fit on its disk, which is seen before anything is written.",
    example="statex apply rules.sx in.pth /small-disk/out.pth",
    fix="Free some space, or write elsewhere. Even with `--force` the old output stays until the new one is whole.",
)
NO_MEMORY = declare(
    "SX616",
    "more memory than allowed, or than there is",
    exit=3,
    meaning="The plan says that more memory would be used than `--max-memory` allows, or without it than the machine "
    "has, and nothing was done; or the system had no more memory for a tensor, and there is no output.",
    example="statex apply rules.sx in.pth out.pth --max-memory 100MiB",
    fix="Allow more, or compute with smaller tensors: `statex plan` says what is used.",
)
WRITTEN_DIFFERS = declare(
    "SX617",
    "an output that reads back otherwise",
    exit=3,
    meaning="With `--verify-written` the output was read again before it got its name, and its bytes had changed.",
    example="statex apply rules.sx in.pth out.pth --verify-written   # on a failing disk",
    fix="Look for errors of the disk in the system's log, and write to another one.",
)
CANNOT_HOLD = declare(
    "SX614",
    "a format that cannot hold the result",
    exit=3,
    meaning="safetensors holds named tensors and nothing else: no numbers, no nested dicts, no sparse or quantized "
    "tensors. A .npz holds named arrays of numpy's own dtypes; bfloat16 is not one of them. No format that is written "
    "holds quantized blocks of GGUF. What an output cannot hold would be lost.",
    example="statex apply rules.sx lightning.ckpt out.safetensors",
    fix="Take the bare state (`root 'state_dict' -> ''`), `drop` the entries named, or write a .pth.",
)
NO_FOLDER = declare(
    "SX618",
    "an option of folders for a file",
    exit=2,
    meaning="`--copy-files` copies what is not weights (configuration, tokenizer) into the folder that is written, "
    "`--stem` names the files in it, and the output is a single file.",
    example="statex apply rules.sx model/ out.pth --copy-files",
    fix="End the output's name in `/`, or leave the option out.",
)
NO_SUCH_DTYPE = declare(
    "SX621",
    "a dtype that the installed torch does not have",
    exit=3,
    meaning="A tensor of this dtype has to be computed or loaded, and torch got the dtype only later: float8_e8m0fnu, "
    "for one, in 2.7. Some dtypes of safetensors torch does not have at all. Tensors that only move do not need torch.",
    example="statex apply -e 'set ** = cast(f8_e8m0fnu)' in.safetensors out.safetensors   # with torch 2.6",
    fix="Install a newer torch, or name the keys such that these tensors only move.",
)
BAD_JOURNAL = declare(
    "SX622",
    "a journal that cannot be followed",
    exit=3,
    meaning="A run that writes several outputs keeps a file `.NAME.statex-journal` beside each, by which a later "
    "command finishes or undoes it where it was interrupted. This one is damaged, was moved or copied, belongs to "
    "another user, or the system refuses the renames; nothing it names is touched.",
    example="statex show out.pth   # beside it a .out.pth.statex-journal from another machine",
    fix="Look at the outputs, and remove the journal if they are as you want them.",
)
OUTPUT_AWAY = declare(
    "SX623",
    "an output of an interrupted run that is out of reach",
    exit=3,
    meaning="A run with several outputs was interrupted while they got their names, and the folder of one of them is "
    "not there now: whether the run has to be finished or undone cannot be told.",
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
    meaning="A recipe says which format an input has, and its content is of another one.",
    example="inputs: {main: {path: in.pth, format: safetensors}}",
    fix="Name the right file, or correct `format`.",
)
OUTPUTS_MEET = declare(
    "SX631",
    "outputs or inputs that meet",
    exit=2,
    meaning="Two outputs are one file, or one lies inside another or inside an input: writing one "
    "would change what the other is, or what the next run reads.",
    example="outputs: {a: out/, b: out/b.pth}",
    fix="Give each output a place of its own, outside of the folders that are read.",
)
KEY_NOWHERE = declare(
    "SX632",
    "a key that no output holds",
    meaning="Every output has a `keep`, and a key of the result is kept by none: it would be silently lost.",
    example="outputs: {head: {path: head.pth, keep: 'head.**'}}   # and the result has a body, too",
    fix="If the key is not needed, let the rules drop it, or end them with a `keep` of what is; else add an output "
    "that keeps it.",
)
WRONG_DIGEST = declare(
    "SX633",
    "an input with another digest than expected",
    exit=3,
    meaning="A recipe says which SHA-256 an input has, and its bytes have another one: it is another file, or damaged. "
    "Of a folder, every file that it is read from needs a digest, its index too, by its name.",
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
    meaning="The checkpoint holds objects of classes that are neither tensors nor plain values, beside a few of "
    "Python's library and numpy that are harmless. statex never loads them. It can leave them out, or write them to a "
    "torch file as they were read: whoever then loads that with `weights_only=False` runs their code, as with the "
    "input. It does neither unless told.",
    example="torch.save({'model': state, 'config': MyConfig()}, 'a.pth')   # then: statex apply rules.sx a.pth b.pth",
    fix="`drop value('config')` leaves one out, `root 'model' -> ''` all that is around the state, and "
    "`--keep-foreign` keeps them: do that if you trust the file as its readers have to.",
)
MODULE_STAYS = declare(
    "SX641",
    "a whole module that the state cannot be put back into",
    exit=3,
    meaning="The checkpoint holds a whole module (`torch.save(model, …)`). Its state can be read without its class, as "
    "it is made of parameters, buffers and child modules. To put another state into it takes its code.",
    example="torch.save({'model': model}, 'a.pth')   # then: statex apply rules.sx a.pth b.pth",
    fix="Take the bare state: `root 'model' -> ''` as the first rule, `root '' -> ''` where the module is all of the "
    "file.",
)
STRETCHED = declare(
    "SX642",
    "a small file that would make a large one",
    exit=3,
    meaning="A torch file can hold views that repeat what is stored, as `expand` makes them: a file of a kilobyte with "
    "a tensor of many gigabytes. To compute with such a view, or to write it in a format without views, makes every "
    "element of it. That is refused where it takes more than 1 GiB and more than 1000 times the bytes of the inputs.",
    example="torch.save({'a': torch.ones(1).expand(70_000, 70_000)}, 'a.pth')   # then: a.pth to a.safetensors",
    fix="Drop it, take a part of it (`set a = it[:1]`), or keep it as it is in a torch file.",
)
