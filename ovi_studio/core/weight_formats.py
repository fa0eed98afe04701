"""Number formats of the transformer's weights. Imports no torch."""

from enum import StrEnum


class Weights(StrEnum):
    """How the weights of the transformer's blocks are stored in memory, and multiplied."""

    BF16 = "bf16"
    """Not quantised: bfloat16 on a GPU, float32 on a CPU."""
    INT8 = "int8"
    """8-bit integers, with integer matrix products."""
    FP8 = "fp8"
    """float8_e4m3fn, as in the file; the layers compute in bfloat16."""
    FP8_FAST = "fp8-fast"
    """float8_e4m3fn, with matrix products in that format too, on GPUs that have fp8 units."""

    @classmethod
    def of_file(cls, name: str) -> "Weights":
        """The format in which a file stores the blocks' weights; raises `ValueError` for one that no file has."""
        if name not in (cls.BF16, cls.FP8):
            raise ValueError(f"weights {name!r} are not stored in files; write {cls.BF16} or {cls.FP8}")
        return cls(name)
