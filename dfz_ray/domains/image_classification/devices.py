"""The device that a model is trained on: the GPU that the task was assigned, or else the CPU."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

import torch

from dfz_ray.domains.gpus import AssignedGpus

CONTEXT_BYTES = 600 * 2**20
"""The memory of a GPU that CUDA and its libraries take in a process, beside the tensors of torch."""


def find_device(gpus: AssignedGpus) -> torch.device:
    """The first of the assigned GPUs, with no more than the share of its memory; the CPU if none is assigned.

    GPUs that are merely visible are never asked for.

    Raises:
        RuntimeError: a GPU was assigned, and torch can't use it.
    """
    if not gpus.ids:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"this task was assigned GPU {gpus.ids[0]}, and torch {torch.__version__} can use no GPU here: install a "
            "torch with CUDA, or ask for no GPU (resources.gpus)"
        )
    device = torch.device("cuda", find_index(gpus.ids[0], os.environ))
    torch.cuda.set_per_process_memory_fraction(
        find_fraction(gpus.share, torch.cuda.get_device_properties(device).total_memory), device
    )
    torch.cuda.reset_peak_memory_stats(device)
    return device


def find_fraction(share: float, total_bytes: int) -> float:
    """The fraction of a GPU's memory that tensors may take, so that the processes that share it all fit.

    Else a task that takes its whole share would leave the contexts of the others no room, and an innocent task would
    run out of memory. A small share keeps a half for its tensors.
    """
    return 1.0 if share >= 1 else max(share / 2, share - CONTEXT_BYTES / total_bytes)


def find_index(gpu: str, environment: Mapping[str, str]) -> int:
    """The number that this process has for a GPU: its place among those that are visible.

    Raises:
        RuntimeError: it is not visible.
    """
    shown = environment.get("CUDA_VISIBLE_DEVICES")
    visible = None if shown is None else [one.strip() for one in shown.split(",")]
    if visible is None and gpu.isdecimal():
        return int(gpu)
    if visible is None or gpu not in visible:
        raise RuntimeError(
            f"this task was assigned GPU {gpu}, which its process can't see: CUDA_VISIBLE_DEVICES is {shown}"
        )
    return visible.index(gpu)


def describe_device(device: torch.device) -> dict[str, Any]:
    """The device of a result: type, name, and the most memory that tensors took there (None on the CPU)."""
    if device.type == "cpu":
        return {"type": "cpu", "name": platform.processor() or platform.machine(), "peak_memory_bytes": None}
    return {
        "type": device.type,
        "name": torch.cuda.get_device_name(device),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device),
    }
