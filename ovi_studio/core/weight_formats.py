"""Number formats of the transformer's weights. Imports no torch."""

from enum import StrEnum


class Weights(StrEnum):
    """How the weights of the transformer's blocks are stored in memory."""

    BF16 = "bf16"
    """Not quantised: bfloat16 on a GPU, float32 on a CPU."""
    INT8 = "int8"
    """8-bit integers, with integer matrix products."""
    FP8 = "fp8"
    """float8_e4m3fn, as in the file; the layers compute in bfloat16."""
