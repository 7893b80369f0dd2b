"""Masks of a trained network in the size and the format of the images."""

import csv
import io
import json

import nibabel
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxssl.cli.parser import main
from jaxssl.data.io import coco, masks, nifti, resize
from jaxssl.evaluation import detection
from jaxssl.inference import masks as written
from jaxssl.results import description
from jaxssl.run import experiment
from tests import tiny_config
from tests.refusals import refuses

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (48, 48), (300, 200)])
def test_masks_return_to_where_their_pixels_were(fit, shape):
    mask = np.zeros((*shape, 1), np.uint8)
    mask[shape[0] // 3 : shape[0] // 2, shape[1] // 3 : shape[1] // 2] = 1
    square = resize.fit(mask, 64, fit, mask=True)[..., 0]
    found = written.restore(np.eye(2, dtype=np.float32)[np.where(square == 255, 0, square)], shape, fit)
    assert found.shape == (*shape, 2)
    cropped = np.isnan(found[..., 0])
    assert cropped.any() == (fit == "crop" and shape[0] != shape[1])
    assert (found.argmax(-1) == mask[..., 0])[~cropped].mean() > 0.97


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASR", "PIL"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_keep_their_orientation(tmp_path, codes, axis):
    volume = RNG.random((5, 6, 7)).astype(np.float32)
    ras = nibabel.Nifti1Image(volume, np.diag([1.0, 2, 3, 1]))
    to = nibabel.orientations.axcodes2ornt(codes)
    original = ras.as_reoriented(nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), to))
    nibabel.save(original, tmp_path / "a.nii.gz")
    slices = nifti.load_slices(tmp_path / "a.nii.gz", axis)
    (tmp_path / "mask.nii").write_bytes(
        nifti.encode_slices((slices > 0.5).astype(np.uint8), axis, tmp_path / "a.nii.gz")
    )
    mask = nibabel.load(tmp_path / "mask.nii")
    assert np.array_equal(mask.get_fdata() == 1, original.get_fdata() > 0.5)
    assert np.allclose(mask.affine, original.affine)


def test_files_hold_the_masks():
    mask = RNG.integers(0, 3, (9, 11)).astype(np.uint8)
    mask[0] = 255
    assert np.array_equal(masks.read(written.encode_png(mask), 3), mask)
    assert Image.open(io.BytesIO(written.encode_png(mask))).mode == "P"


def test_annotations_hold_the_masks(tmp_path):
    mask = RNG.integers(0, 3, (9, 11)).astype(np.uint8)
    p = np.eye(3)[mask]
    outlines = []
    for _, box, inside in detection.iter_components(mask, 3):
        whole = np.zeros(mask.shape, bool)
        whole[box] = inside
        outlines.append(masks.encode_rle(whole))
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]}
    written.add_annotations(content, "x.png", written.Mask(mask, detection.find_lesions(mask, 3, p[..., 1:]), outlines))
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = coco.read(tmp_path / "a.json")
    assert np.array_equal(coco.mask(found, "x.png"), mask)
    assert sum(one["area"] for one in content["annotations"]) == (mask > 0).sum()
    assert np.array_equal(coco.boxes(found, "x.png")[0], detection.find_lesions(mask, 3).boxes)


def test_names_of_files():
    names = written.name_outputs(["a/x.png", "a/y.nii.gz", "test/0001", "/far/z.JPG", "1.2.840"])
    assert names == {
        "a/x.png": "a/x",
        "a/y.nii.gz": "a/y",
        "test/0001": "test/0001",
        "/far/z.JPG": "z",
        "1.2.840": "1.2.840",
    }
    with refuses("conflict", "IMAGES", "a/x"):
        written.name_outputs(["a/x.png", "a/x.jpg"])


def write_images(folder, count=40):
    """Squares on noise, with masks; every tenth image has none. Some images are wide."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        shape = (24, 36) if i % 3 == 0 else (24, 24)
        mask = np.zeros(shape, np.uint8)
        if i % 10:
            mask[i % 9 + 4 : i % 9 + 13, 5:14] = 255
        image = (60 + RNG.normal(0, 10, shape) + 90 * (mask > 0)).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{i:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i:02d}.png")
    return folder


@pytest.mark.slow
def test_a_trained_network_predicts_and_is_scored(tmp_path, capsys):
    data, workdir = write_images(tmp_path / "data"), tmp_path / "workdir"
    c = tiny_config.get_config()
    c.data.name, c.data.dir, c.data.options = "folder", str(data), ConfigDict({"masks": "auto"})
    c.data.image_size, c.data.test, c.pretrain.epochs = 24, 0.3, 0
    c.transfer.protocols, c.transfer.epochs, c.transfer.freeze_epochs = ("segment_linear",), 10, 0
    c.transfer.optimizer.learning_rate = 1e-2
    results = experiment.run(c, workdir)
    assert 'id="masks"' in (workdir / "report.html").read_text()
    assert main(["predict", str(workdir), str(data / "images"), "--masks", f"--to={tmp_path / 'out'}"]) == 0
    with np.load(workdir / "evaluations" / "segment_linear_random.npz") as stored:
        own = dict(zip(stored["ids"].tolist(), stored["masks"], strict=True))
    for name, mask in own.items():
        found = masks.read(tmp_path / "out" / name.removeprefix("images/"), 2)
        if found.shape == mask.shape:
            assert np.array_equal(found, mask)
        else:
            assert found.shape == (24, 36)
    with refuses("conflict", "evaluation"):
        main(
            [
                "predict",
                str(workdir),
                str(data / "images"),
                "--evaluation=segment_linear_random",
                "--to=x.csv",
                "--debug",
            ]
        )
    # Scored on its own test images, it has the scores of results.json.
    for kind in ("images", "masks"):
        (tmp_path / "test" / kind).mkdir(parents=True)
        for name in own:
            name = name.removeprefix("images/")
            (tmp_path / "test" / kind / name).write_bytes((data / kind / name).read_bytes())
    to = tmp_path / "score.json"
    assert main(["score", str(workdir), str(tmp_path / "test"), "--masks", f"--to={to}"]) == 0
    score = json.loads(to.read_text())
    assert description.check(score, description.FILES["score.json (masks and boxes)"]) == []
    for metric, expected in results["evaluations"][0]["metrics"].items():
        assert score["metrics"][metric]["value"] == pytest.approx(expected["value"], abs=1e-3)
    with open(tmp_path / "boxes.csv", "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "left", "top", "right", "bottom"])
        for name in own:
            lesions = detection.find_lesions(masks.read(data / "masks" / name.removeprefix("images/"), 2), 2)
            table.writerows([name, *box] for box in lesions.boxes.tolist() or [["", "", "", ""]])
    arguments = ["score", str(workdir), str(tmp_path / "test"), f"--boxes={tmp_path / 'boxes.csv'}", f"--to={to}"]
    assert main(arguments) == 0
    by_boxes = json.loads(to.read_text())
    assert description.check(by_boxes, description.FILES["score.json (masks and boxes)"]) == []
    for metric, estimate in score["detection"]["metrics"].items():
        assert by_boxes["detection"]["metrics"][metric]["value"] == pytest.approx(estimate["value"], abs=0.1)
    assert "FROC" in capsys.readouterr().out
