"""Eight fake CPU devices, one compilation cache for all tests, and the real images where they are at hand."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax

from jaxssl.training import runtime

runtime.configure()  # As every command does, so that all share what is compiled.
jax.config.update("jax_num_cpu_devices", 8)

from tests import tiny_config, tiny_run


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly(request):
    """Programs of the networks and their losses run once or twice here, which is not worth optimizing them."""
    quickly = request.path.parent.name in ("models", "objectives") or request.path.name == "test_configs.py"
    jax.config.update("jax_disable_most_optimizations", quickly)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def shared_data() -> Path:
    """Small real copies of the datasets, which are not part of this repository."""
    place = ROOT.parent / "shared" / "data"
    if not place.is_dir():
        pytest.skip(f"the real images are not at {place}")
    return place


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> tiny_run.Run:
    """A finished run on a folder of images, to be read and not to be changed."""
    return tiny_run.of_folder(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def lenses_run(tmp_path_factory):
    """The workdir and the results of a finished run of `tiny_config`, to be read and not to be changed."""
    workdir = tmp_path_factory.mktemp("lenses")
    return workdir, tiny_run.experiment.run(tiny_config.get_config(), workdir)


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """Its workdir again, to be spoilt."""
    return shutil.copytree(run.workdir, tmp_path / "copy")
