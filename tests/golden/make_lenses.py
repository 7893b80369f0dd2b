"""Writes lenses.json with lenstronomy 1.14.2: `python tests/golden/make_lenses.py`; the tests do without it."""

import json
from pathlib import Path

import numpy as np
from lenstronomy.Data.imaging_data import ImageData
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LensModel.Profiles.point_mass import PointMass
from lenstronomy.LensModel.Profiles.shear import Shear
from lenstronomy.LensModel.Profiles.sie import SIE
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.LightModel.Profiles.sersic import SersicElliptic
from lenstronomy.Util.param_util import phi_q2_ellipticity, shear_polar2cartesian

FIELD, IMAGE_SIZE, PSF_SIGMA, SUPERSAMPLING = 5.0, 32, 0.05, 2

rng = np.random.default_rng(0)
x, y = rng.uniform(-2.5, 2.5, (2, 40))
points = {"theta_E": rng.uniform(0.02, 0.2, 5), "center_x": rng.uniform(-1, 1, 5), "center_y": rng.uniform(-1, 1, 5)}

sie = []
for mass, q, phi, center_x, center_y in (
    (1.2, 0.7, 0.6, 0.1, -0.05),
    (1.0, 0.95, 2.8, 0.0, 0.0),
    (1.5, 1.0, 0, 0, 0.2),
):
    kw = {"theta_E": mass, "q": q, "phi": phi, "center_x": center_x, "center_y": center_y}
    e1, e2 = phi_q2_ellipticity(phi, q)
    sie.append((kw, SIE(NIE=False).derivatives(x, y, mass, e1, e2, center_x, center_y)))

shear = {"gamma1": 0.03, "gamma2": -0.05, "center_x": 0.1, "center_y": -0.2}

sersic = []
for amp, radius, n, q, phi, center_x, center_y in (
    (1.0, 0.3, 1.0, 0.6, 1.1, 0.1, 0.2),
    (0.2, 0.5, 2.5, 1.0, 0, 0, -0.3),
):
    kw = {"amp": amp, "radius": radius, "n": n, "q": q, "phi": phi, "center_x": center_x, "center_y": center_y}
    e1, e2 = phi_q2_ellipticity(phi, q)
    sersic.append((kw, SersicElliptic().function(x / 2, y / 2, amp, radius, n, e1, e2, center_x, center_y)))

lens = {"theta_E": 1.15, "q": 0.72, "phi": 0.9, "x": 0.06, "y": -0.04, "shear": 0.05, "shear_phi": 2.1}
lens |= {"source_x": 0.12, "source_y": -0.08, "source_radius": 0.2, "source_n": 1.2, "source_q": 0.7}
lens |= {"source_phi": 2.0, "source_amp": 0.15}
lens |= {"points_theta_E": [0.12, 0.2, 0.08], "points_x": [1.1, -0.4, 0.2], "points_y": [0.3, -1.0, 1.2]}
e1, e2 = phi_q2_ellipticity(lens["phi"], lens["q"])
gamma1, gamma2 = shear_polar2cartesian(lens["shear_phi"], lens["shear"])
masses = [lens["points_theta_E"], lens["points_x"], lens["points_y"]]
kwargs_lens = [
    {"theta_E": lens["theta_E"], "e1": e1, "e2": e2, "center_x": lens["x"], "center_y": lens["y"]},
    {"gamma1": gamma1, "gamma2": gamma2, "ra_0": lens["x"], "dec_0": lens["y"]},
    *({"theta_E": mass, "center_x": px, "center_y": py} for mass, px, py in zip(*masses, strict=True)),
]
e1, e2 = phi_q2_ellipticity(lens["source_phi"], lens["source_q"])
kwargs_source = {"amp": lens["source_amp"], "R_sersic": lens["source_radius"], "n_sersic": lens["source_n"]}
kwargs_source |= {
    "e1": e1,
    "e2": e2,
    "center_x": lens["x"] + lens["source_x"],
    "center_y": lens["y"] + lens["source_y"],
}
pixel = FIELD / IMAGE_SIZE
corner = pixel / 2 - FIELD / 2
grid = {"ra_at_xy_0": corner, "dec_at_xy_0": corner, "transform_pix2angle": np.eye(2) * pixel}
model = ImageModel(
    ImageData(np.zeros((IMAGE_SIZE, IMAGE_SIZE)), **grid),
    PSF("GAUSSIAN", fwhm=PSF_SIGMA * np.sqrt(8 * np.log(2)), pixel_size=pixel, truncation=6),
    LensModel(["SIE", "SHEAR"] + ["POINT_MASS"] * len(masses[0])),
    LightModel(["SERSIC_ELLIPSE"]),
    kwargs_numerics={"supersampling_factor": SUPERSAMPLING, "supersampling_convolution": True},
)
# lenstronomy's image is flux a pixel, in units of brightness times arcsec^2.
image = model.image(kwargs_lens, [kwargs_source]) / pixel**2


def listed(value: object) -> object:
    return np.round(value, 9).tolist()


golden = {
    "x": x.tolist(),
    "y": y.tolist(),
    "sie": [{"kw": kw, "alpha": listed(alpha)} for kw, alpha in sie],
    "shear": {"kw": shear, "alpha": listed(Shear().derivatives(x, y, *shear.values()))},
    "points": {
        "kw": {name: values.tolist() for name, values in points.items()},
        "alpha": listed(
            np.sum([PointMass().derivatives(x, y, *mass) for mass in zip(*points.values(), strict=True)], 0)
        ),
    },
    "sersic": [{"kw": kw, "light": listed(light)} for kw, light in sersic],
    "render": {"lens": lens, "image": np.round(image, 6).tolist()},
}
Path(__file__).with_name("lenses.json").write_text(json.dumps(golden) + "\n")
