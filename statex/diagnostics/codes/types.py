"""SX4xx: shapes, dtypes and arguments of operations."""

from statex.diagnostics.codes.registry import declare

SHAPE = declare(
    "SX401",
    "shapes that do not fit",
    meaning="An operation cannot take tensors of these shapes: other axes differ in a concatenation, sizes do not "
    "broadcast, the inner lengths of a matrix product differ, or a new shape has a different number of elements.",
    example="set a.weight = cat(it, b.weight, dim=0)   # of 3 and 4 columns",
    fix="The values in the message show the shapes. `transpose`, `reshape`, `pad` and slices change them.",
)
MIXED = declare(
    "SX402",
    "mixed dtypes",
    meaning="Two tensors of different dtypes meet in one operation. torch would convert one of them silently; here a "
    "dtype changes only through `cast`, so that the rules show where rounding happens.",
    example="set a.weight = it + b.weight   # f32 and bf16",
    fix="Cast the narrower one: `cast(b.weight, f32)`. If the key itself is the narrower one, compute wider and "
    "round once: `set a.weight in f32 = …`.",
)
DTYPE = declare(
    "SX403",
    "a dtype the operation cannot take",
    meaning="The operation is not defined for tensors of this dtype, or its result would have a different one: torch "
    "turns ints into floats in a division, a root or a mean.",
    example="set bn.num_batches_tracked = it / 2",
    fix="Cast first: `cast(f32) | …`, and back at the end if the model needs it.",
)
UNKNOWN_ARGUMENT = declare(
    "SX404",
    "an argument the operation does not have",
    meaning="The operation has no argument of this name.",
    example="set a.weight = cat(it, it, axis=0)",
    fix="`statex ops cat` shows the arguments; their names are torch's.",
)
ARGUMENTS = declare(
    "SX405",
    "arguments that do not fit",
    meaning="An argument is missing, there are too many, or one is of the wrong kind.",
    example="set a.weight = permute('rows')",
    fix="`statex ops NAME` shows what the operation takes.",
)
VALUE = declare(
    "SX406",
    "an argument out of range",
    meaning="An argument is of the right kind but names something the tensor does not have: a dim beyond its last, an "
    "index beyond its size, or a negative length.",
    example="set a.weight = flip(7)",
    fix="The values in the message show the tensor.",
)
UNEVEN = declare(
    "SX407",
    "pieces of unequal size",
    meaning="A tensor does not divide evenly. torch's `chunk` would silently give a smaller last piece, or fewer "
    "pieces.",
    example="split a.qkv -> a.{p:q|k|v} = chunk(3)   # of 10 rows",
    fix="Give the sizes: `sections([4, 4, 2])`.",
)
NOTATION = declare(
    "SX408",
    "a rearrangement that does not fit",
    meaning="The notation of `rearrange` is not well formed, or the tensor does not match its left side.",
    example="set a.weight = rearrange('(h d) c -> h d c')   # h or d is needed",
    fix="Give the lengths that do not follow from the shape: `rearrange('(h d) c -> h d c', h=8)`.",
)
TOO_LARGE = declare(
    "SX409",
    "a tensor that is too large",
    meaning="The result would have more elements than any machine can hold, usually because of a mistake in an "
    "argument.",
    example="add a = zeros([1000000000000, 1000000000000])",
    fix="Check the sizes.",
)
TORCH_REFUSES = declare(
    "SX410",
    "a computation that the installed torch refuses",
    meaning="Shapes and dtypes are right, but torch still refused when the values were computed: it lacks the "
    "operation for a dtype, there is too little memory, or a tensor on the meta device meets one with data. Nothing is "
    "written in that case.",
    example="statex apply -e 'set ** = exp(it)' in.pth out.pth   # larger than the memory there is",
    fix="The message gives torch's reason; if the dtype is the cause, compute in another: `cast(f32) | … | "
    "cast(f8_e5m2)`.",
)
COMPUTE_DTYPE = declare(
    "SX413",
    "a dtype that cannot be computed in",
    meaning="`in f32` widens the narrower floats that a statement reads, computes in f32, and rounds once to the dtype "
    "of the key. f32 must be able to hold every value that is read: f64, complex and integer keys do not fit.",
    example="set ** in f32 = it * 2   # also of integer buffers",
    fix="Choose the keys: `where is_floating_point(it)`. `in f64` holds every float.",
)
