"""Whole, damaged and unfinished checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.training import checkpoint, sharding
from jaxssl.training.step import TrainState


def tree(value: float) -> TrainState:
    params = {"encoder": {"kernel": jnp.full((64, 64), value)}}
    return TrainState(jnp.asarray(3), params, {}, {}, (jnp.zeros(2),), jax.random.key(7))


def largest_file(folder):
    return max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def test_restores_the_newest_and_keeps_two(tmp_path):
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, tree(step))
    assert checkpoint.list_steps(tmp_path) == [10, 2]
    step, found = checkpoint.restore(tmp_path, tree(0.0))
    assert step == 10
    np.testing.assert_array_equal(found.params["encoder"]["kernel"], 10)
    assert jax.random.key_data(found.key).tolist() == jax.random.key_data(jax.random.key(7)).tolist()


def test_an_empty_folder_has_none(tmp_path):
    assert checkpoint.restore(tmp_path / "nowhere", tree(0.0)) is None


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "checksums"])
def test_a_damaged_newest_one_is_passed_over_with_a_warning(tmp_path, caplog, damage):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, tree(step))
    file = largest_file(tmp_path / "2")
    data = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "checksums":
        (tmp_path / "2.sha256.json").write_text("{")
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    step, found = checkpoint.restore(tmp_path, tree(0.0))
    assert step == 1
    np.testing.assert_array_equal(found.params["encoder"]["kernel"], 1)
    assert "damaged" in caplog.text and str(tmp_path / "2") in caplog.text


def test_one_that_was_never_finished_does_not_count(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, tree(step))
    (tmp_path / "2.sha256.json").unlink()
    assert checkpoint.restore(tmp_path, tree(0.0))[0] == 1


def test_moves_between_numbers_of_devices(tmp_path):
    checkpoint.save(tmp_path, 1, {"kernel": jnp.arange(2**17, dtype=jnp.float32).reshape(-1, 256)})
    shapes = {"kernel": jax.ShapeDtypeStruct((512, 256), jnp.float32)}
    places = sharding.state_shardings(sharding.make_mesh(2, 4), shapes)
    like = jax.tree.map(lambda s, p: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=p), shapes, places)
    _, found = checkpoint.restore(tmp_path, like)
    assert found["kernel"].addressable_shards[0].data.shape == (128, 256)
    np.testing.assert_array_equal(np.asarray(found["kernel"]).ravel(), np.arange(2**17))


def test_reads_without_a_likeness_what_was_spread_over_devices(tmp_path):
    shapes = {"kernel": jax.ShapeDtypeStruct((512, 256), jnp.float32)}
    kernel = jax.device_put(
        np.arange(2**17, dtype=np.float32).reshape(512, 256),
        sharding.state_shardings(sharding.make_mesh(2, 4), shapes)["kernel"],
    )
    state = tree(0.0)._replace(params={"kernel": kernel}, model_state={"encoder": {}})
    checkpoint.save(tmp_path, 4, state)
    found = checkpoint.load_numpy(tmp_path)
    assert type(found["params"]["kernel"]) is np.ndarray and found["model_state"] == {"encoder": {}}
    np.testing.assert_array_equal(found["params"]["kernel"].ravel(), np.arange(2**17))
    assert found["step"] == 3 and found["step"].dtype == np.int32
    np.testing.assert_array_equal(found["opt_state"][0], [0, 0])


def test_reads_no_damaged_checkpoint(tmp_path):
    assert checkpoint.load_numpy(tmp_path) is None
    checkpoint.save(tmp_path, 1, {"kernel": np.ones(64, np.float32)})
    file = largest_file(tmp_path / "1")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert checkpoint.load_numpy(tmp_path) is None
