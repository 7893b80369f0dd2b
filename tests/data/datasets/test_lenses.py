import json
from itertools import combinations
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jaxssl.data.datasets import lenses
from tests.refusals import refuses

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "lenses.json").read_text())
X, Y = jnp.array(GOLDEN["x"]), jnp.array(GOLDEN["y"])

draw = jax.jit(jax.vmap(lenses.draw, in_axes=(0, None, None)))
simulate = jax.jit(lenses.simulate, static_argnames="image_size")


@pytest.fixture(scope="module")
def loaded():
    return lenses.load(seed=3, size=32, images_per_class=1000)


@pytest.fixture(scope="module")
def drawn():
    keys = jax.random.split(jax.random.key(1), 500)
    return [draw(keys, label, 0.1) for label in range(3)]


@pytest.mark.parametrize("case", GOLDEN["sie"], ids=lambda case: f"q={case['kw']['q']}")
def test_sie_is_that_of_lenstronomy(case):
    np.testing.assert_allclose(lenses.deflection_sie(X, Y, **case["kw"]), case["alpha"], atol=3e-6)


def test_sie_is_finite_at_its_centre():
    np.testing.assert_array_equal(lenses.deflection_sie(jnp.zeros(1), jnp.zeros(1), 1.0, 0.7, 0.3), np.zeros((2, 1)))


def test_shear_is_that_of_lenstronomy():
    alpha = lenses.deflection_shear(X, Y, **GOLDEN["shear"]["kw"])
    np.testing.assert_allclose(alpha, GOLDEN["shear"]["alpha"], atol=1e-6)


def test_points_are_those_of_lenstronomy():
    points = {name: jnp.array(values) for name, values in GOLDEN["points"]["kw"].items()}
    np.testing.assert_allclose(lenses.deflection_points(X, Y, **points), GOLDEN["points"]["alpha"], atol=3e-6)


@pytest.mark.parametrize("case", GOLDEN["sersic"], ids=lambda case: f"n={case['kw']['n']}")
def test_sersic_is_that_of_lenstronomy(case):
    np.testing.assert_allclose(lenses.sersic(X / 2, Y / 2, **case["kw"]), case["light"], rtol=1e-5)


def test_a_lensed_image_is_that_of_lenstronomy():
    lens = {name: jnp.array(value) for name, value in GOLDEN["render"]["lens"].items()}
    np.testing.assert_allclose(jax.jit(lenses.render, static_argnums=1)(lens, 32), GOLDEN["render"]["image"], atol=2e-4)


def test_only_the_mass_and_its_place_depend_on_the_class(drawn):
    no, sphere, vort = drawn
    for name in set(lenses.RANGES) - {"theta_E"}:
        np.testing.assert_array_equal(no[name], sphere[name])
        np.testing.assert_array_equal(no[name], vort[name])
    assert not np.any(no["points_theta_E"])
    for lens in (sphere, vort):
        np.testing.assert_allclose(np.sum(lens["points_theta_E"] ** 2, 1), 0.1 * no["theta_E"] ** 2, rtol=1e-5)


def test_the_mass_within_the_einstein_radius_is_that_of_the_smooth_lens(drawn):
    R = drawn[0]["theta_E"]
    for lens in drawn:
        distance = np.hypot(lens["points_x"] - lens["x"][:, None], lens["points_y"] - lens["y"][:, None])
        within = np.sum(lens["points_theta_E"] ** 2 * (distance < R[:, None]), 1)
        # A singular isothermal sphere of Einstein radius b holds b R within R.
        np.testing.assert_allclose(lens["theta_E"] * R + within, R**2, rtol=1e-5)


def test_nuisances_fill_their_ranges(drawn):
    lens = drawn[0]
    for name, (low, high) in lenses.RANGES.items():
        assert low <= lens[name].min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < lens[name].max() <= high


def test_subhaloes_lie_around_the_ring_and_a_vortex_is_straight(drawn):
    no, sphere, vort = drawn
    radius = np.hypot(sphere["points_x"] - no["x"][:, None], sphere["points_y"] - no["y"][:, None])
    radius /= no["theta_E"][:, None]
    assert 0.699 < radius.min() < 0.72 and 1.28 < radius.max() < 1.301
    line = np.stack([vort["points_x"], vort["points_y"]], -1)
    steps = np.diff(line, axis=1)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[:, :1], steps.shape), atol=1e-5)
    length = np.linalg.norm(line[:, -1] - line[:, 0], axis=-1) / no["theta_E"]
    assert length.min() > 1 and length.max() < 2


def test_without_substructure_the_classes_are_the_same():
    for substructure, same in ((0.0, True), (0.1, False)):
        images = [simulate(jax.random.key(4), i, image_size=32, substructure=substructure) for i in range(3)]
        assert all(np.array_equal(a, b) == same for a, b in combinations(images, 2))


def test_images_are_in_range_and_lenses_their_own_groups(loaded):
    assert loaded.images.shape == (3000, 32, 32, 1) and loaded.images.dtype == np.float32
    assert np.isfinite(loaded.images).all() and loaded.images.min() >= 0 and loaded.images.max() <= 1
    # Faint arcs would drown in noise, saturated ones would lose their shape.
    assert np.median(loaded.images.max((1, 2, 3))) > 0.3 and np.mean(loaded.images == 1) < 1e-3
    assert loaded.classes == ("no", "sphere", "vort") and np.bincount(loaded.labels).tolist() == [1000, 1000, 1000]
    assert all(name.split("-")[1] == lenses.CLASSES[i] for name, i in zip(loaded.ids, loaded.labels, strict=True))
    assert loaded.groups_known and np.array_equal(loaded.groups, loaded.ids)


def test_noise_of_the_sky_is_that_of_the_signal_to_noise_ratio(loaded):
    corners = loaded.images[:, :3, :3]
    assert corners.mean() == pytest.approx(lenses.SKY, rel=0.02)
    assert corners.std() == pytest.approx(np.sqrt(lenses.SKY) / 25, rel=0.05)


def test_neither_brightness_nor_size_of_the_ring_tells_the_class(loaded):
    light = loaded.images[..., 0] - lenses.SKY
    arcs = light * (light > 0.05)
    x = (np.arange(32) + 0.5) / 32 - 0.5
    radius = np.sum(arcs * np.hypot(x, x[:, None]), (1, 2)) / arcs.sum((1, 2))
    for feature in (light.mean((1, 2)), light.max((1, 2)), radius):
        for pair in combinations(range(3), 2):
            chosen = np.isin(loaded.labels, pair)
            assert abs(roc_auc_score(loaded.labels[chosen] == pair[1], feature[chosen]) - 0.5) < 0.07


def test_an_image_depends_on_seed_and_index_alone(loaded):
    fewer = lenses.load(seed=3, size=32, images_per_class=45)
    assert np.array_equal(fewer.images, loaded.images[:135]) and np.array_equal(fewer.ids, loaded.ids[:135])
    assert lenses.load(seed=3, size=32, images_per_class=45).fingerprint == fewer.fingerprint
    assert not np.isin(lenses.load(seed=4, size=32, images_per_class=1).images[:, 0, 0], fewer.images).all()
    for index in (0, 99, 100, 401):
        alone = simulate(jax.random.fold_in(jax.random.key(3), index), index % 3, image_size=32)
        np.testing.assert_allclose(loaded.images[index], alone, atol=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", 8),
        ("options.images_per_class", 0),
        ("options.substructure", -0.1),
        ("options.substructure", 0.6),
        ("options.substructure", float("nan")),
        ("options.snr", 0.0),
    ],
)
def test_values_out_of_range_are_refused(field, value):
    kw = {"seed": 0, "size": 32, "images_per_class": 1} | {field.removeprefix("options.").removeprefix("image_"): value}
    with refuses("out-of-range", f"data.{field}", str(value)):
        lenses.load(**kw)
