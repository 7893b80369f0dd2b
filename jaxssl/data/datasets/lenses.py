"""Simulated strong gravitational lenses, whose class is the dark matter substructure of the lens.

After the simulations of DeepLense (Alexander et al. 2020, ApJ 893:15, arXiv:1909.07346): a singular isothermal ellipse
with external shear lenses a Sersic source, and holds no substructure ("no"), 25 point-mass subhaloes ("sphere") or a
line of 25 point masses, the vortex of superfluid dark matter ("vort"). The light of the lens counts as subtracted.

Lengths are in arcsec, position angles in radians from the x axis to the y axis; x grows with the column, y with the
row. The conventions are those of lenstronomy: its SIE, SHEAR, POINT_MASS and SERSIC_ELLIPSE give the same numbers.
Brightness is in units of the detector's full scale, so images lie in [0, 1] without a look at any other image.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.data import source
from jaxssl.errors import UserError

Number = jax.Array | float

CLASSES = ("no", "sphere", "vort")
FIELD = 5.0  # arcsec across, at every image size
POINTS = 25
PSF_SIGMA = 0.05  # arcsec
SKY = 0.1  # brightness
SOFTENING = 1e-4  # arcsec
SUPERSAMPLING = 2

# Each nuisance is uniform over its range whatever the class. Sources are placed relative to the lens.
RANGES = {
    "theta_E": (1.0, 1.5),
    "q": (0.6, 0.95),
    "phi": (0.0, np.pi),
    "x": (-0.1, 0.1),
    "y": (-0.1, 0.1),
    "shear": (0.0, 0.05),
    "shear_phi": (0.0, np.pi),
    "source_x": (-0.3, 0.3),
    "source_y": (-0.3, 0.3),
    "source_radius": (0.1, 0.25),
    "source_n": (0.7, 1.25),
    "source_q": (0.5, 1.0),
    "source_phi": (0.0, np.pi),
    "source_amp": (0.1, 0.2),
}

# Always as many at once: XLA may round differently at another batch size.
_CHUNK = 100


def _rotate(x: jax.Array, y: jax.Array, phi: Number) -> tuple[jax.Array, jax.Array]:
    return x * jnp.cos(phi) + y * jnp.sin(phi), y * jnp.cos(phi) - x * jnp.sin(phi)


def deflection_sie(
    x: jax.Array,
    y: jax.Array,
    theta_E: Number,
    q: Number,
    phi: Number,
    center_x: Number = 0.0,
    center_y: Number = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Deflection (alpha_x, alpha_y) by a singular isothermal ellipse; Tessore & Metcalf 2015, eq. 22 at t = 1.

    The convergence is theta_E / (2 sqrt(q x^2 + y^2 / q)) in the axes of the ellipse: `q` in (0, 1] is minor over
    major, `phi` the angle of the major axis, and the ellipse at convergence 1/2 has the area and mass pi theta_E^2.
    `x` and `y` are of one shape, any.
    """
    major, minor = _rotate(x - center_x, y - center_y, phi)
    # The floors keep the circle and the centre finite, and change no deflection by more than 1e-6 of theta_E.
    f = jnp.sqrt(jnp.maximum(1 - q**2, 1e-6))
    radius = jnp.sqrt((q * major) ** 2 + minor**2 + 1e-12)
    b = theta_E * jnp.sqrt(q) / f
    return _rotate(b * jnp.arctan(f * major / radius), b * jnp.arctanh(f * minor / radius), -phi)


def deflection_shear(
    x: jax.Array,
    y: jax.Array,
    gamma1: Number,
    gamma2: Number,
    center_x: Number = 0.0,
    center_y: Number = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Deflection (alpha_x, alpha_y) by an external shear, zero at the centre."""
    x, y = x - center_x, y - center_y
    return gamma1 * x + gamma2 * y, gamma2 * x - gamma1 * y


def deflection_points(
    x: jax.Array, y: jax.Array, theta_E: jax.Array, center_x: jax.Array, center_y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Deflection (alpha_x, alpha_y) by point masses: the sum of theta_E^2 r / (r^2 + SOFTENING^2).

    `theta_E`, `center_x` and `center_y` are [P], each mass by its Einstein radius; r is the vector from a mass to
    (x, y), and the softening, far below any pixel, keeps a ray through a mass finite.
    """
    alpha_x, alpha_y = jnp.zeros_like(x), jnp.zeros_like(y)
    # Unrolled, as XLA then makes one vectorised pass over the pixels and never holds [P, H, W].
    for i in range(len(theta_E)):
        dx, dy = x - center_x[i], y - center_y[i]
        scale = theta_E[i] ** 2 / (dx**2 + dy**2 + SOFTENING**2)
        alpha_x, alpha_y = alpha_x + scale * dx, alpha_y + scale * dy
    return alpha_x, alpha_y


def sersic(
    x: jax.Array,
    y: jax.Array,
    amp: Number,
    radius: Number,
    n: Number,
    q: Number,
    phi: Number,
    center_x: Number = 0.0,
    center_y: Number = 0.0,
) -> jax.Array:
    """Surface brightness amp exp(-b_n ((R / radius)^(1/n) - 1)) with R^2 = q x^2 + y^2 / q; Sersic 1968.

    `amp` is the brightness at the half-light radius `radius`; b_n = 1.9992 n - 0.3271 holds for n in 0.5 to 10.
    """
    major, minor = _rotate(x - center_x, y - center_y, phi)
    R = jnp.sqrt(q * major**2 + minor**2 / q + 1e-8)
    return amp * jnp.exp((0.3271 - 1.9992 * n) * ((R / radius) ** (1 / n) - 1))


def draw(key: jax.Array, label: jax.Array, substructure: Number) -> dict[str, jax.Array]:
    """A random lens: a scalar for each of `RANGES`, and points_{theta_E, x, y}, [POINTS] each.

    The points hold `substructure` * theta_E^2 in equal parts, theta_E^2 being the mass within the Einstein radius. The
    ellipse gives up as much as they hold within that radius: were it to give up all, the rings of "no" would be larger.
    Subhaloes lie at 0.7 to 1.3 theta_E from the centre of the lens. The vortex is 1 to 2 theta_E long, in any
    direction, with its middle 0.5 to 1.25 theta_E from the centre.
    """
    nuisance_key, sphere_key, vortex_key = jax.random.split(key, 3)
    low, high = np.array(list(RANGES.values())).T
    lens = dict(zip(RANGES, jax.random.uniform(nuisance_key, (len(RANGES),), minval=low, maxval=high), strict=True))
    radius, angle = jax.random.uniform(sphere_key, (2, POINTS))
    radius, angle = 0.7 + 0.6 * radius, 2 * jnp.pi * angle
    sphere = radius * jnp.cos(angle), radius * jnp.sin(angle)
    middle, angle, length, direction = jax.random.uniform(vortex_key, (4,))
    middle, angle, direction = 0.5 + 0.75 * middle, 2 * jnp.pi * angle, jnp.pi * direction
    along = (1 + length) * jnp.linspace(-0.5, 0.5, POINTS)
    vortex = middle * jnp.cos(angle) + along * jnp.cos(direction), middle * jnp.sin(angle) + along * jnp.sin(direction)
    x, y = (jnp.where(label == CLASSES.index("vort"), v, s) for v, s in zip(vortex, sphere, strict=True))
    share = jnp.where(label == CLASSES.index("no"), 0.0, substructure)
    share_within = share * jnp.mean(jnp.hypot(x, y) < 1)
    return lens | {
        "theta_E": (1 - share_within) * lens["theta_E"],
        "points_theta_E": lens["theta_E"] * jnp.sqrt(jnp.full(POINTS, share / POINTS)),
        "points_x": lens["x"] + lens["theta_E"] * x,
        "points_y": lens["y"] + lens["theta_E"] * y,
    }


def render(lens: dict[str, jax.Array], image_size: int) -> jax.Array:
    """The lensed source, [image_size, image_size] float32, after a Gaussian PSF; neither sky nor noise."""
    size = SUPERSAMPLING * image_size
    centers = (jnp.arange(size, dtype=jnp.float32) + 0.5) * (FIELD / size) - FIELD / 2
    x, y = jnp.meshgrid(centers, centers)
    gamma1, gamma2 = (lens["shear"] * trig(2 * lens["shear_phi"]) for trig in (jnp.cos, jnp.sin))
    deflections = (
        deflection_sie(x, y, lens["theta_E"], lens["q"], lens["phi"], lens["x"], lens["y"]),
        deflection_shear(x, y, gamma1, gamma2, lens["x"], lens["y"]),
        deflection_points(x, y, lens["points_theta_E"], lens["points_x"], lens["points_y"]),
    )
    alpha_x, alpha_y = (sum(alpha) for alpha in zip(*deflections, strict=True))
    light = sersic(
        x - alpha_x - lens["x"],
        y - alpha_y - lens["y"],
        *(lens[f"source_{name}"] for name in ("amp", "radius", "n", "q", "phi", "x", "y")),
    )
    # Both blur and binning are linear and separable: one matrix, [pixels, rays], from either side.
    blur = jnp.exp(-0.5 * ((centers[:, None] - centers) / PSF_SIGMA) ** 2)
    detector = (blur / blur[image_size].sum()).reshape(image_size, SUPERSAMPLING, size).mean(1)
    return jnp.matmul(jnp.matmul(detector, light, precision="highest"), detector.T, precision="highest")


def simulate(
    key: jax.Array, label: jax.Array, *, image_size: int, substructure: float = 0.1, snr: float = 25.0
) -> jax.Array:
    """One image, [image_size, image_size, 1] float32 in [0, 1], of class `CLASSES[label]`; a pure function.

    Photon noise, of the sky as well, is Gaussian: the standard deviation is sqrt(brightness) / snr in each pixel.
    With the same key the classes differ by their substructure alone.
    """
    lens_key, noise_key = jax.random.split(key)
    expected = SKY + render(draw(lens_key, label, substructure), image_size)
    noise = jax.random.normal(noise_key, expected.shape) * jnp.sqrt(expected) / snr
    return jnp.clip(expected + noise, 0, 1)[..., None]


@partial(jax.jit, static_argnames="image_size")
def _simulate_chunk(key: jax.Array, start: int, substructure: float, snr: float, image_size: int) -> jax.Array:
    index = start + jnp.arange(_CHUNK)
    keys = jax.vmap(partial(jax.random.fold_in, key))(index)
    one = partial(simulate, image_size=image_size, substructure=substructure, snr=snr)
    return jax.vmap(one)(keys, index % len(CLASSES))


def load(
    *, seed: int, size: int, images_per_class: int = 2000, substructure: float = 0.1, snr: float = 25.0
) -> source.Source:
    """Simulate 3 * `images_per_class` images, the classes in turn; each is its own group, as each is its own lens.

    Args:
      seed: image i is a function of (seed, i), so that fewer images are the first ones of more.
      size: pixels across `FIELD`, at least 16.
      images_per_class: at least 1.
      substructure: share of the lens' mass in [0, 0.5] that is in the points. At 64 pixels and 4,500 training images, a
        CNN of four convolutions reaches an AUC of .93 in 8 epochs at 0.1, and stays at chance at 0.02.
      snr: signal to noise ratio, above 0, of a pixel at full scale.

    Raises:
      UserError: an argument is out of its range.
    """
    for field, value, valid, limits in (
        ("image_size", size, size >= 16, "at least 16"),
        ("options.images_per_class", images_per_class, images_per_class >= 1, "at least 1"),
        ("options.substructure", substructure, 0 <= substructure <= 0.5, "between 0 and 0.5"),
        ("options.snr", snr, 0 < snr < float("inf"), "above 0 and finite"),
    ):
        if not valid:
            raise UserError(
                f"data.{field} is {value}: for simulated lenses it must be {limits}",
                code="out-of-range",
                field=f"data.{field}",
            )
    total = len(CLASSES) * images_per_class
    images = np.empty((total, size, size, 1), np.float32)
    for start in range(0, total, _CHUNK):
        chunk = _simulate_chunk(jax.random.key(seed), start, substructure, snr, size)
        images[start : start + _CHUNK] = chunk[: total - start]
    labels = np.arange(total) % len(CLASSES)
    ids = np.array([f"lens-{CLASSES[label]}-{i // len(CLASSES):05d}" for i, label in enumerate(labels)])
    return source.make(images, labels, ids, CLASSES, groups=ids)
