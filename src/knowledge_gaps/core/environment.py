"""What of the inherited environment may reach a library: nothing that could change a number.

A study's recipes and this project's own variables say how a training runs. Accelerate, torch and
the libraries below read hundreds of variables as well, some of them over their arguments, and a
notebook, a launcher or a shell's profile may have set any of them.
"""

from __future__ import annotations

import os
import sys

# all of them are there in a process that torchrun started
_RANK_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_SET = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # one of the two that are deterministic
    "MPLBACKEND": "Agg",  # a notebook's own is not installed here
    # one thread a process: more change the last digits of sums, and take cores from other workers
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_TAKEN = (  # starts of names
    "ACCELERATE_",  # accelerate: settings, over its arguments
    "FORK_LAUNCHED",
    "FSDP_",
    "MEGATRON_LM_",
    "PARALLELISM_CONFIG_",
    "XLA_",
    "MV2_COMM_WORLD_",  # accelerate: ranks of MPI
    "OMPI_COMM_WORLD_",
    "PMI_",
    "ATEN_",  # torch, and what it computes by: the choice of kernels, reduced precision
    "CUBLAS",
    "CUDNN_",
    "DNNL_",
    "MKL_",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_",
    "PYTORCH_",
    "TORCH",
)
_KEPT = (  # starts of names that change no number: memory, threads, caches, what is said
    *_SET,
    "MKL_DYNAMIC",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCHELASTIC_",
    "TORCH_CUDA_ARCH_LIST",
    "TORCH_DISTRIBUTED_DEBUG",
    "TORCH_ELASTIC_",
    "TORCH_GLOO_",
    "TORCH_LOGS",
    "TORCH_NCCL_",
    "TORCH_SHOW_CPP_STACKTRACES",
)
_KEPT_ENDS = ("_BUILD_NUMBER", "_DIR", "_HOME", "_VERSION")  # folders, and what containers say


def clean_environment() -> None:
    """Take out what could change a number or stop a stage late, and name it in one line.

    To be called before torch or matplotlib is imported. Of torchrun's variables, all stay or none.
    """
    os.environ.update(_SET)
    kept = {name for name in os.environ if name.startswith(_KEPT) or name.endswith(_KEPT_ENDS)}
    found = {name for name in os.environ if name.startswith(_TAKEN)} - kept
    if not all(name in os.environ for name in _RANK_VARIABLES):
        found |= {name for name in _RANK_VARIABLES if name in os.environ}
    for name in found:
        del os.environ[name]
    if found:
        print(f"kgaps: environment: not used: {', '.join(sorted(found))}", file=sys.stderr)
