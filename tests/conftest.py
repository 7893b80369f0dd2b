"""Eight fake CPU devices, one compilation cache for all tests, and the real images where they are at hand."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax

jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture
def shared_data() -> Path:
    """Small real copies of the datasets, which are not part of this repository."""
    place = ROOT.parent / "shared" / "data"
    if not place.is_dir():
        pytest.skip(f"the real images are not at {place}")
    return place
