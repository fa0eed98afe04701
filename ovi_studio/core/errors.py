"""`JobError`, the only error meant for users, and the detection of out-of-memory errors.

A `JobError` says in one sentence what is wrong and what to do about it. It fails the current job and nothing else;
every other exception is a bug and ends the process.
"""

import errno
import re
import sys
from collections.abc import Iterator


class JobError(Exception):
    """The request cannot be fulfilled; the message says why and what to do."""


class FolderError(JobError):
    """A file cannot be written to a folder. The content is not the cause, so the write can be retried later."""


class NameTaken(JobError):
    """A file of another content has this name; it may be replaced only by someone who was asked."""


class Stopped(Exception):
    """The run was asked to stop; raised by a step callback and passed through unchanged."""


_SHORTAGE = re.compile(
    "|".join(
        (
            # The runtime (torch.AcceleratorError), on NVIDIA and AMD: allocations outside torch's allocator.
            r"(CUDA|HIP)( driver)? error: out of memory",
            r"(CUDA|HIP) out of memory",
            # cuBLAS, cuDNN, cuSOLVER, cuSPARSE, cuFFT and AMD's: memory for their handles and workspaces.
            r"(CUBLAS|CUSOLVER|CUSPARSE|HIPBLAS|ROCBLAS|HIPSOLVER|HIPSPARSE)_STATUS_ALLOC_FAILED",
            r"CUDNN_STATUS_ALLOC_FAILED|CUDNN_STATUS_INTERNAL_ERROR_(HOST|DEVICE)_ALLOCATION_FAILED",
            r"CUFFT_ALLOC_FAILED|miopenStatusAllocFailed",
            # NCCL's last error.
            r"(Cuda|HIP) failure( \d+)? 'out of memory'",
            r"Failed to CUDA (host )?(m|c)alloc",
            # Host memory: torch's allocator, a failed file mapping, a full paging file on Windows.
            r"DefaultCPUAllocator",
            r"Cannot allocate memory",
            r"paging file is too small",
        )
    ),
    re.IGNORECASE,
)
_NO_PAGING_FILE = 1455
"""Windows error code: the paging file is too small."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a GPU or the host is out of memory, in any known form. Imports no torch."""
    return any(_says_out_of_memory(cause) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and the chain of its causes: compilers and loaders wrap the original error."""
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
    # The libraries have no exception type for it. A `JobError` that quotes such an error is already handled.
    return not isinstance(error, JobError) and _SHORTAGE.search(str(error)) is not None
