"""The precision of float32 products and convolutions on a GPU, in one setting."""

import torch


def set_tf32(allowed: bool) -> None:
    """Set whether float32 products may be rounded to TF32 (10 bits of mantissa) on tensor cores.

    Among the models only the audio codec computes in float32. torch's own defaults would round its convolutions but not
    its products; `test-gpu` measures the error of TF32 there.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
