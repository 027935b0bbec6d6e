"""Tensors on disk: safetensors files that are whole or absent. No pickle is written or read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import write_bytes


def write_tensors(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> str:
    """Write named tensors as safetensors, with texts in its header; return the file's sha256."""
    stored = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    return write_bytes(path, save_safetensors(stored, metadata))


def read_tensors(path: Path, sha256: str | None = None) -> dict[str, torch.Tensor]:
    """Read a safetensors file onto the CPU; raises UserError if damaged or of another sha256."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise UserError(f"{path}: sha256 is {found}, {sha256} was recorded: truncated or altered")
    try:
        return load_safetensors(content)
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from error


def read_metadata(path: Path) -> dict[str, str]:
    """Read the texts in a safetensors file's header; raises UserError when there is none."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from error
    return metadata
