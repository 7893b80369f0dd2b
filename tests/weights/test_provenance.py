"""Names and origin of weights."""

import doctest

import numpy as np
import pytest
import safetensors.numpy

from jaxssl.augment.views import Pixels
from jaxssl.weights import families, provenance
from jaxssl.weights.layouts import naming
from tests.refusals import refuses


@pytest.mark.parametrize("module", [provenance, naming])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


def test_the_name_in_the_file_goes_before_its_stem(tmp_path):
    file = tmp_path / "a+b.safetensors"
    assert provenance.name_weights(str(file)) == "a-b"
    safetensors.numpy.save_file({"w": np.ones(1, "f4")}, file, {"name": "DINOv2 S/14"})
    assert provenance.name_weights(str(file)) == "DINOv2-S-14"
    assert provenance.name_weights(str(file), "dinov2") == "dinov2"


@pytest.mark.parametrize("name", ["imagenet", "ImageNet", "ssl", "Random", "a+b", "a b"])
def test_names_that_would_mislead_are_refused(name):
    with refuses("out-of-range", "init.name", repr(name)):
        provenance.name_weights("own.pth", name)


def test_only_the_package_is_called_imagenet():
    assert provenance.name_weights("imagenet") == "imagenet"
    assert provenance.name_weights("imagenet.pth") == "imagenet-file"
    assert provenance.name_weights("ImageNet.pth") == "ImageNet-file"


def test_the_scaling_of_named_families():
    pixels = Pixels(0.0, 255.0, (0.1,) * 3, (0.2,) * 3)
    assert families.find_scaling("dinov2_vits14", pixels).mean == (0.485, 0.456, 0.406)
    assert families.find_scaling("clip-b16", pixels).std[0] == pytest.approx(0.2686, abs=1e-4)
    assert families.find_scaling("rad-dino", pixels._replace(mean=(0.1,), std=(0.2,))).mean == pytest.approx((0.5307,))
    assert families.find_scaling("own", pixels) is None
