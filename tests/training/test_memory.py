"""Too little memory: told before, and in one line with the batch that would fit."""

import jax
import jax.numpy as jnp
import pytest

from jaxssl.run import experiment
from jaxssl.run import phase as phases
from jaxssl.training import loop, memory
from tests import tiny_config
from tests.refusals import refuses

FULL = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes.")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FULL, True),
        (MemoryError(), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: [os_error_code='28'] No space left on device"), False),
        (jax.errors.JaxRuntimeError("INTERNAL: Connection closed by peer"), False),
        (RuntimeError("Out of memory"), False),
    ],
)
def test_errors_of_too_little_memory(error, expected):
    assert memory.is_out_of_memory(error) == expected


def test_bytes_of_a_compiled_function():
    compiled = jax.jit(lambda x: x @ x).lower(jax.ShapeDtypeStruct((256, 256), jnp.float32)).compile()
    assert 2 * 256 * 256 * 4 <= memory.count_step_bytes(compiled) < 4 * 256 * 256 * 4
    assert memory.count_step_bytes(object()) is None
    assert memory.count_device_bytes() > 2**24


def test_limits_of_a_container_and_of_a_cluster_job(tmp_path):
    """Those of each group of the process and of the groups around it, in both versions of cgroups."""
    for name, limit in {
        "memory.max": "max",
        "slurm/job_1/memory.max": "3000",
        "slurm/job_1/step_0/memory.max": "max",
        "slurm/job_2/memory.max": "1",
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "memory/uid_0/memory.limit_in_bytes": "2000",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    groups = tmp_path / "groups"
    groups.write_text("4:memory:/uid_0/of_the_host\n2:cpu:/x\n0::/slurm/job_1/step_0\n")
    assert sorted(memory.cgroup_limits(groups, tmp_path)) == [2000, 3000, 9223372036854771712]
    assert not list(memory.cgroup_limits(tmp_path / "none", tmp_path))


@pytest.mark.parametrize("bend", [0, 2e4])
def test_the_largest_batch_fits_and_the_next_does_not(monkeypatch, bend):
    """Also where memory is not quite linear in the batch."""
    monkeypatch.setattr(memory, "count_device_bytes", lambda: 10**8)

    def count(size):
        return int(2e7 + 1e6 * size + bend * (size > 60) * size)

    largest = memory.largest_batch(count, 256, 4)
    assert largest % 4 == 0 and count(largest) <= 10**8
    assert bend or count(largest + 4) > 10**8
    assert memory.largest_batch(count, 4, 4) is None
    assert memory.largest_batch(lambda size: None, 256, 4) is None


def test_a_phase_that_runs_out_of_memory_names_the_fields_and_the_batch_that_fits(tmp_path, monkeypatch):
    c = tiny_config.get_config()
    asked = []

    def run_out(*arguments, **options):
        raise FULL

    def largest(count_bytes, batch_size, unit):
        small, large = count_bytes(8), count_bytes(16)
        asked.append((batch_size, unit, small < large))
        return 8

    monkeypatch.setattr(loop, "compile_ahead", run_out)
    monkeypatch.setattr(phases.memory, "largest_batch", largest)
    with refuses(
        "out-of-memory", "pretrain.batch_size", "batch_size=16; pretrain.batch_size=8 would fit", "dtype=bfloat16"
    ):
        experiment.run(c, tmp_path)
    assert asked == [(16, 1, True)]


def test_so_little_memory_that_the_system_kills_is_told_before(monkeypatch, caplog):
    monkeypatch.setattr(memory, "_host_limits", lambda: [2**34, 900 * 2**20])
    memory.warn_if_too_little()
    assert "memory: this process can have 900 MiB, and even small runs take 2.0 GiB" in caplog.text
    caplog.clear()
    monkeypatch.setattr(memory, "_host_limits", lambda: [2**34, 2**31])
    memory.warn_if_too_little()
    assert not caplog.text


def test_a_step_that_is_too_large_is_told_before(monkeypatch, caplog):
    monkeypatch.setattr(memory, "count_device_bytes", lambda: 2**30)
    memory.warn_if_too_large("pretrain", 2**29)
    assert not caplog.text
    memory.warn_if_too_large("pretrain", 3 * 2**30)
    assert "pretrain: a step needs about 3.0 GiB of memory and each device has 1.0 GiB" in caplog.text
