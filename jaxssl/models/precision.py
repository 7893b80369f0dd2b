"""Precisions of a network, the values of `model.dtype`, and which of them is fastest on a machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxssl.models.linear import MIXED

# Narrowest networks, by the start of their names, of which a training step on a CPU was measured to be faster "mixed".
FASTER_FROM_WIDTH = {"vit": 192}
CPU_FEATURES = {"amx_bf16", "avx512_bf16"}


def make_context(dtype: str) -> dict[str, Any]:
    """Return the arguments `dtype` and `precision` of an encoder.

    Parameters, statistics, losses and the optimizer are float32 in each of them.

    Args:
      dtype: "float32"; "mixed", where operands of products are rounded to bfloat16 and all else is float32, which is
        fast on CPUs; or "bfloat16", where activations are bfloat16, too, which saves memory on accelerators.
    """
    if dtype == "mixed":
        return {"dtype": jnp.dtype("float32"), "precision": MIXED}
    return {"dtype": jnp.dtype(dtype), "precision": None}


def choose(name: str, options: Mapping[str, Any], platform: str) -> str:
    """Return the fastest precision of an encoder with all its options on a platform, "cpu" being this machine's."""
    if platform != "cpu":
        return "bfloat16"
    width = FASTER_FROM_WIDTH.get(name.rstrip("0123456789").partition("_")[0])
    return "mixed" if width and options["width"] >= width and CPU_FEATURES & cpu_features() else "float32"


def cpu_features() -> set[str]:
    """Return what Linux says that the processor can do; nothing on other systems."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return set(next((line for line in lines if line.startswith("flags")), "").split())
