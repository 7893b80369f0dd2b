"""The step: the same on one device and on eight, compiled once, exact in its parts."""

import signal

import jax
import numpy as np
import pytest

from jaxssl import models
from jaxssl.augment import views
from jaxssl.models.precision import make_context
from jaxssl.objectives import byol, mae, supervised, with_online_probe
from jaxssl.training import checkpoint, loop, optimizers, sharding
from jaxssl.training import step as steps
from tests import tiny

VIEWS = {"crop_area": (0.5, 1.0), "flip_horizontal": True, "jitter_probability": 0.8, "brightness": 0.4, "noise": 0.1}


def make(mesh, objective, parts=1, **options):
    view = views.make(tiny.PIXELS, size=8, views=objective.views, **VIEWS)
    tx = optimizers.make("sgd", **({"learning_rate": 0.1, "steps": 10, "decay": "constant"} | options))
    sample = tiny.batch(8, side=8)

    def init(key):
        return steps.init_state(key, sample, objective, view, tx)

    shapes = jax.eval_shape(init, jax.random.key(0))
    state = jax.jit(init, out_shardings=sharding.state_shardings(mesh, shapes))(jax.random.key(0))
    return state, steps.jit_step(mesh, shapes, objective, view, tx, parts)


def probed_byol(encoder):
    return with_online_probe(byol.make(encoder, steps=10, hidden=512, projection=128), 3)


def resnet():
    return models.find("resnet18")(stem="small", width=4)


@pytest.mark.parametrize(
    ("encoder", "mesh"),
    [(tiny.Encoder, (8, 1)), (tiny.Encoder, (2, 4)), pytest.param(resnet, (2, 4), marks=pytest.mark.slow)],
)
def test_eight_devices_do_what_one_does(encoder, mesh):
    """Loss, gradients (through one step of plain SGD), batch statistics and target."""
    after = []
    for shape in ((1, 1), mesh):
        mesh = sharding.make_mesh(*shape)
        state, step = make(mesh, probed_byol(encoder()), momentum=0.0)
        # Of fewer images than 32, batch norms on maps of one pixel make a rounding of 1e-7 a difference of 4e-3.
        state, metrics = step(state, jax.device_put(tiny.batch(32, side=16), sharding.batch_sharding(mesh)))
        after.append(jax.device_get((metrics, state.params, state.model_state, state.target)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4), *after)


def test_what_is_compiled_ahead_is_not_compiled_again():
    mesh = sharding.make_mesh(1, 1)
    state, step = make(mesh, byol.make(tiny.Encoder(), steps=10, hidden=8, projection=4))
    batch, compiled = jax.device_put(tiny.batch(16, side=8), sharding.batch_sharding(mesh)), []

    def note(name, *_, **kw):
        if name == "/jax/core/compile/backend_compile_duration":
            compiled.append(kw)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        steps.compile_ahead(step, state, batch)
        assert len(compiled) == 1
        step(state, batch)
        assert len(compiled) == 1
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def test_nothing_is_compiled_after_the_first_step():
    mesh = sharding.make_mesh(1, 1)
    state, step = make(mesh, byol.make(tiny.Encoder(), steps=10, hidden=8, projection=4))
    for seed in range(4):
        state, _ = step(state, jax.device_put(tiny.batch(16, side=8, seed=seed), sharding.batch_sharding(mesh)))
    assert step._cache_size() == 1
    assert int(state.step) == 4


def test_a_step_depends_on_its_number_alone():
    mesh = sharding.make_mesh(1, 1)
    objective = byol.make(tiny.Encoder(), steps=10, hidden=8, projection=4)
    batch = jax.device_put(tiny.batch(16, side=8), sharding.batch_sharding(mesh))
    losses = []
    for number in (3, 3, 4):
        state, step = make(mesh, objective)
        losses.append(float(step(state._replace(step=state.step + number), batch)[1]["loss"]))
    assert losses[0] == losses[1] != losses[2]


def test_in_mixed_precision_a_restored_state_goes_on_to_the_same_bytes(tmp_path):
    mesh = sharding.make_mesh(1, 1)
    options = {"width": 16, "depth": 1, "heads": 2, "patch": 4}
    encoder = models.make("vit_tiny", make_context("mixed"), options)
    state, step = make(mesh, mae.make(encoder, decoder_width=16, decoder_depth=1, decoder_heads=2))
    batch = jax.device_put(tiny.batch(16, side=8), sharding.batch_sharding(mesh))
    state, _ = step(state, batch)
    checkpoint.save(tmp_path, 1, state)
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state)
    whole, resumed = (jax.device_get(step(s, batch)[0].params) for s in (state, checkpoint.restore(tmp_path, like)[1]))
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    assert {a.dtype for a in jax.tree.leaves(whole)} == {np.dtype("float32")}


def test_accumulation_gives_the_gradient_of_the_whole_batch():
    """Without batch statistics and random views, in which the parts differ by design, the sums are the same."""
    mesh = sharding.make_mesh(1, 1)
    objective = supervised.make(tiny.Encoder(), classes=3, batch_norm="frozen")
    plain = views.make(tiny.PIXELS, size=8, views=1)
    tx = optimizers.make("sgd", learning_rate=0.1, steps=10, decay="constant")
    batch = jax.device_put(tiny.batch(16, side=8), sharding.batch_sharding(mesh))
    step = jax.jit(steps.train_step, static_argnums=(2, 3, 4, 5))
    state = steps.init_state(jax.random.key(0), tiny.batch(2, side=8), objective, plain, tx)
    (whole, metrics), (in_parts, of_parts) = (step(state, batch, objective, plain, tx, parts) for parts in (1, 4))
    assert metrics["loss"] > 0
    for a, b in ((metrics, of_parts), (whole.params, in_parts.params)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)


def test_large_parameters_are_split_over_fsdp():
    mesh = sharding.make_mesh(2, 4)
    state, _ = make(mesh, probed_byol(tiny.Encoder()))
    hidden = state.params["predictor"]["linear1"]["kernel"]
    assert hidden.shape == (128, 512)
    assert hidden.addressable_shards[0].data.shape == (128, 128)
    assert state.opt_state is not None and state.params["encoder"]["bn"]["scale"].is_fully_replicated


def test_signals_that_come_together_are_one_and_a_later_one_ends_the_process(monkeypatch):
    """Slurm sends SIGTERM twice within a moment."""
    now, ended = [100.0], []
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(loop.os, "_exit", ended.append)
    with loop.Preemption() as preemption:
        for after in (0.0, 0.9 * loop.SAME_SIGNAL_SECONDS):
            now[0] = 100 + after
            signal.raise_signal(signal.SIGTERM)
            assert preemption.requested() and not ended
        now[0] = 100 + 1.1 * loop.SAME_SIGNAL_SECONDS
        signal.raise_signal(signal.SIGUSR1)
        assert ended == [75]
        preemption.signalled = False
