"""Number formats of the transformer's weights, by name. Imports no torch."""

from enum import StrEnum


class Weights(StrEnum):
    """How the weights of the transformer's blocks are kept."""

    BF16 = "bf16"
    """Not quantised: bfloat16 on a GPU, float32 on a CPU."""
    INT8 = "int8"
    """8-bit integers, which are multiplied as such."""
    FP8 = "fp8"
    """float8_e4m3fn where the file has it; the layers compute in bfloat16."""
