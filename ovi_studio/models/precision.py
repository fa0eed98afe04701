"""The precision of products and convolutions of float32 on a GPU: one setting for all of them."""

import torch


def set_tf32(allowed: bool) -> None:
    """Whether float32 products may be rounded to TF32 (10 bits of mantissa) on tensor cores.

    Of the models only the audio codec computes in float32. torch's own defaults would round its convolutions and not
    its products; what TF32 costs there, `test-gpu` measures.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
