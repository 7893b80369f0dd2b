"""Cells of a sweep on accelerators: one on each GPU, one at a time on a TPU."""

import subprocess
from types import SimpleNamespace

import pytest

from jaxssl.study.sweep import devices
from jaxssl.study.sweep.devices import Devices
from tests.refusals import refuses

EIGHT = Devices("gpu", tuple("01234567"))


@pytest.fixture
def gpus(monkeypatch):
    """Eight GPUs, and a JAX that uses them."""
    listed = "".join(f"GPU {i}: NVIDIA H200 (UUID: GPU-{i})\n" for i in range(8))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=listed))
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None if name == "libtpu" else name)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, EIGHT),
        ({"CUDA_VISIBLE_DEVICES": "3,5"}, Devices("gpu", ("3", "5"))),
        ({"CUDA_VISIBLE_DEVICES": "GPU-7,-1,2"}, Devices("gpu", ("GPU-7",))),
        ({"CUDA_VISIBLE_DEVICES": ""}, Devices("cpu")),
        ({"JAX_PLATFORMS": "cpu"}, Devices("cpu")),
        ({"JAX_PLATFORMS": "cuda,cpu"}, EIGHT),
    ],
)
def test_gpus_are_those_that_jax_would_use(gpus, environ, expected):
    assert devices.find_devices(environ) == expected


def test_without_nvidia_smi_or_plugin_there_is_none(gpus, monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    assert devices.find_devices({}) == Devices("cpu")
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    assert devices.find_devices({"CUDA_VISIBLE_DEVICES": "0"}) == Devices("cpu")


def test_a_tpu_takes_one_cell_at_a_time(monkeypatch):
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(devices.glob, "glob", lambda pattern: ["/dev/accel0"] if "accel" in pattern else [])
    found = devices.find_devices({})
    assert found == Devices("tpu") and devices.default_jobs(found) == 1
    with refuses("conflict", "--jobs"):
        devices.check_jobs(2, found)


def test_each_cell_has_gpus_of_its_own():
    assert devices.default_jobs(EIGHT) == 8
    visible = [devices.environment(EIGHT, 8, slot, {}) for slot in range(8)]
    assert visible == [{"CUDA_VISIBLE_DEVICES": str(i)} for i in range(8)]
    assert devices.environment(EIGHT, 2, 1, {}) == {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    assert devices.environment(Devices("cpu"), 3, 1, {}) == {}
    assert [devices.free_slot(3, taken) for taken in ([], [0, 2], [1, 0])] == [0, 1, 2]


def test_cells_that_share_a_gpu_share_its_memory():
    one = Devices("gpu", ("0",))
    assert devices.environment(one, 3, 2, {}) == {
        "CUDA_VISIBLE_DEVICES": "0",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.30",
    }
    assert devices.environment(one, 3, 2, {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2"}) == {"CUDA_VISIBLE_DEVICES": "0"}
