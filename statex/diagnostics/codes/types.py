"""SX4xx: shapes and dtypes."""

from statex.diagnostics.codes.registry import declare

UNKNOWN_ARGUMENT = declare("SX404", "an argument the operation does not have", meaning="m", example="e", mend="m")
