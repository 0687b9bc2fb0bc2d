"""Device, threads and deterministic arithmetic: set once per job."""

from __future__ import annotations

import os

import torch

LOCAL_RANK = "LOCAL_RANK"  # the environment variable by which torch's launcher numbers the processes of a machine


def setup(threads: int) -> torch.device:
    """Use ``threads`` CPU threads and deterministic kernels; returns this process's GPU if there is one, else the CPU.

    The number of threads is part of the tier and not of the machine: sums split over threads round differently.
    """
    # Read by cuBLAS when it starts: without it, products of matrices may differ from run to run.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing reads memory that it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get(LOCAL_RANK, 0)))
    torch.cuda.set_device(device)
    return device
