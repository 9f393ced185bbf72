"""SX34x and SX35x: optimizers and averages that go through the same plan as the state."""

from statex.diagnostics.codes.registry import declare

NOTHING_TO_FOLLOW = declare(
    "SX340",
    "nothing that could follow",
    meaning="`follow` names something beside the state that goes through the same rules: an optimizer, a moving "
    "average, or a second state of the same model. At this path there is nothing, or something else; or it is not in "
    "the output.",
    example="follow 'optimiser'   # over {'model': …, 'optimizer': …}",
    fix="Name what is there: `statex show` lists it. A bare state (`root 'model' -> ''`) has nothing beside it, and "
    "with `root ''` the whole file is the state: `root 'model'` names the state alone.",
)
AMBIGUOUS_PARAMETERS = declare(
    "SX341",
    "an optimizer that does not tell its parameters apart",
    meaning="torch numbers the parameters of an optimizer, group by group, and the numbers are put in line with the "
    "keys of the state by their order and by the shapes of the moments. Here this can be done in several ways, so the "
    "moments of one parameter could be taken for those of another. Or the positions are not in the order of the keys, "
    "and nothing says where new names come.",
    example="follow 'optimizer'   # two groups with parameters of one shape",
    fix="Say which parameter is which: `--param-names FILE` takes the names of each group as JSON. "
    "`torch.optim.AdamW(model.named_parameters())` (torch 2.6 and later) saves them with the optimizer. The order of "
    "the result is that of the `--target` model.",
)
OTHER_PARAMETERS = declare(
    "SX342",
    "an optimizer of other parameters",
    meaning="The optimizer knows a parameter that the state does not have: by its name, by the shape of its moments, "
    "by the name that an earlier run noted, or by their number. Or it knows one tensor as two parameters. It was made "
    "for another model, or before the state was changed.",
    example="follow 'optimizer'   # the moments of a weight of 4 x 4, and no such weight",
    fix="Leave it out: `drop value('optimizer')`.",
)
MOMENTS_UNKNOWN = declare(
    "SX343",
    "moments that do not follow from the rules",
    meaning="Rules that move, cut or join parameters do the same to the moments of an optimizer. A parameter that is "
    "scaled, averaged, multiplied or resampled has other gradients, and its moments cannot be told from the old ones. "
    "New elements begin with zeros, if what an optimizer keeps is known to begin so.",
    example="set a.weight = it * 2\nfollow 'optimizer'",
    fix="Leave it out: `drop value('optimizer')`. A new optimizer warms up within some hundred steps.",
)
MOMENTS_APART = declare(
    "SX344",
    "parameters whose moments cannot be joined",
    meaning="Parameters are merged into one, and the optimizer treats them differently: they are in different groups, "
    "have had different numbers of steps, or it knows only some of them.",
    example="merge a.weight, b.weight -> c.weight = cat\nfollow 'optimizer'   # b.weight is frozen",
    fix="Leave it out: `drop value('optimizer')`.",
)
MOMENTS_OF_OTHER_SHAPE = declare(
    "SX345",
    "moments that are not of the parameter's shape",
    meaning="What the optimizer keeps of a parameter is not one number for each element (the rows and columns of "
    "Adafactor, the blocks of 8-bit optimizers, the matrices of Shampoo), or its step depends on a whole matrix (Muon, "
    "LARS). Where such a parameter is only renamed, it follows; where its elements move or are cut, it cannot.",
    example="set a.weight = transpose\nfollow 'optimizer'   # of Adafactor",
    fix="Leave it out: `drop value('optimizer')`.",
)
NO_GROUP = declare(
    "SX346",
    "a new parameter that belongs to no group",
    meaning="A parameter that is made of others joins their group, and one whose name another one had that of the "
    "other. Any other that rules add has none to go by, and the optimizer has several groups.",
    example="add head.bias = zeros([10])\nfollow 'optimizer'   # with groups with and without weight decay",
    fix="Make it of a parameter whose group it should join: `add head.bias = zeros_like(old_head.bias)`.",
)
PARAM_NAMES = declare(
    "SX347",
    "names of parameters that do not fit the optimizer",
    meaning="The file of `--param-names` holds the names of an optimizer's parameters: one list for each group, in the "
    "order of the groups, or a single list if there is one group. This one is not of that form, names a key that the "
    "state does not have, or has other numbers of names than the groups have parameters.",
    example="statex apply rules.sx in.pt out.pt --param-names names.json",
    fix="Write it where the optimizer is made: "
    "`json.dumps([[names[p] for p in g['params']] for g in optimizer.param_groups])` is its text, with "
    "`names = {p: n for n, p in model.named_parameters()}`.",
)
