"""Memory that runs out, in every form in which it is said, and what is no shortage."""

import errno
from pathlib import Path

import pytest
import torch

from ovi_studio.checkpoints import load
from ovi_studio.core.errors import JobError, is_out_of_memory

ASYNCHRONOUS = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be "
    "incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable "
    "device-side assertions.\n"
)
NCCL = (
    "NCCL error in: /pytorch/torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:3690, unhandled cuda error (run with "
    "NCCL_DEBUG=INFO for details), NCCL version 2.28.9\nncclUnhandledCudaError: Call to CUDA function failed.\n"
    "Last error:\n{}"
)
SHORTAGES = {
    "the allocator for a GPU": torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 84.00 MiB. GPU 0 has a total capacity of 23.69 GiB of which 51.19 MiB "
        "is free."
    ),
    "the allocator on AMD": RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity"),
    "CUDA itself": torch.AcceleratorError("CUDA error: out of memory" + ASYNCHRONOUS),
    "CUDA itself, with where to read on": torch.AcceleratorError(
        "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in "
        "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information." + ASYNCHRONOUS
    ),
    "the driver": RuntimeError("CUDA driver error: out of memory"),
    "AMD's runtime": RuntimeError("HIP error: out of memory"),
    "cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cuSOLVER": RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
    "cuSPARSE": RuntimeError("CUDA error: CUSPARSE_STATUS_ALLOC_FAILED when calling `cusparseCreate(handle)`"),
    "cuFFT": RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    "cuDNN": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cuDNN 9": RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    "NCCL": torch.distributed.DistBackendError(NCCL.format("Cuda failure 2 'out of memory'")),
    "an older NCCL": torch.distributed.DistBackendError(NCCL.format("Cuda failure 'out of memory'")),
    "NCCL's own buffers": torch.distributed.DistBackendError(NCCL.format("Failed to CUDA calloc async 6291456 bytes")),
    "the allocator for the host": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 88080384 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "the allocator for the host on Windows": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried to allocate "
        "88080384 bytes."
    ),
    "a file that cannot be mapped": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "torch mapping a file": RuntimeError("unable to mmap 23318000000 bytes from file <x>: Cannot allocate memory (12)"),
    "Windows": OSError("The paging file is too small for this operation to complete. (os error 1455)"),
    "Python": MemoryError(),
}
OTHERS = {
    "a defect": RuntimeError("CUDA error: an illegal memory access was encountered" + ASYNCHRONOUS),
    "a kernel that is too large": RuntimeError(
        "out of resource: shared memory, Required: 147456, Hardware limit: 101376"
    ),
    "another failure of cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    "another failure of NCCL": torch.distributed.DistBackendError(NCCL.format("Cuda failure 'invalid argument'")),
    "a missing file": FileNotFoundError(errno.ENOENT, "No such file or directory"),
    "a sentence about it": JobError("There is not enough memory: CUDA out of memory."),
}


@pytest.mark.parametrize("form", SHORTAGES)
def test_a_shortage_is_recognised_in_every_form(form: str) -> None:
    assert is_out_of_memory(SHORTAGES[form])


@pytest.mark.parametrize("form", OTHERS)
def test_other_errors_are_not_taken_for_a_shortage(form: str) -> None:
    assert not is_out_of_memory(OTHERS[form])


def test_a_shortage_is_recognised_in_what_was_raised_from_it() -> None:
    wrapped = RuntimeError("backend='inductor' raised: something")
    wrapped.__cause__ = SHORTAGES["CUDA itself"]
    assert is_out_of_memory(wrapped)
    wrapped.__cause__ = OTHERS["a defect"]
    assert not is_out_of_memory(wrapped)


def test_a_checkpoint_that_memory_is_too_small_for_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(load, "_read_safetensors", refuse)
    with pytest.raises(OSError, match="Cannot allocate"):
        list(load.read_tensors(tmp_path / "model.safetensors"))
