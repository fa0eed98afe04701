"""The one kind of error that is meant for people, and the one that machines have: memory that runs out.

A `JobError` says in one sentence what is wrong and what to do about it. It fails the job at hand and nothing else;
every other exception is a defect and ends the process loudly.
"""

import errno
import re
import sys
from collections.abc import Iterator


class JobError(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


class FolderError(JobError):
    """A folder cannot take a file: whatever was to be written is not to blame, and can be tried again later."""


class Stopped(Exception):
    """Somebody asked for the run to end; raised by a step callback and passed through unchanged."""


_SHORTAGE = re.compile(
    "|".join(
        (
            # The runtime (torch.AcceleratorError), on NVIDIA and AMD; allocations that torch's allocator does not make.
            r"(CUDA|HIP)( driver)? error: out of memory",
            r"(CUDA|HIP) out of memory",
            # cuBLAS, cuDNN, cuSOLVER, cuSPARSE, cuFFT and AMD's: memory for their handles and workspaces.
            r"(CUBLAS|CUSOLVER|CUSPARSE|HIPBLAS|ROCBLAS|HIPSOLVER|HIPSPARSE)_STATUS_ALLOC_FAILED",
            r"CUDNN_STATUS_ALLOC_FAILED|CUDNN_STATUS_INTERNAL_ERROR_(HOST|DEVICE)_ALLOCATION_FAILED",
            r"CUFFT_ALLOC_FAILED|miopenStatusAllocFailed",
            # NCCL's last error.
            r"(Cuda|HIP) failure( \d+)? 'out of memory'",
            r"Failed to CUDA (host )?(m|c)alloc",
            # Host memory: torch's allocator, mapping a file, Windows without room in its paging file.
            r"DefaultCPUAllocator",
            r"Cannot allocate memory",
            r"paging file is too small",
        )
    ),
    re.IGNORECASE,
)
_NO_PAGING_FILE = 1455
"""Of Windows."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the host has no memory left, in whatever form that is said; imports no torch."""
    return any(_says_out_of_memory(cause) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from: compilers and loaders wrap what they run into."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _says_out_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError) and (error.errno == errno.ENOMEM or getattr(error, "winerror", 0) == _NO_PAGING_FILE):
        return True
    # The libraries have no type of their own for it; a `JobError` that quotes one is a sentence already.
    return not isinstance(error, JobError) and _SHORTAGE.search(str(error)) is not None
