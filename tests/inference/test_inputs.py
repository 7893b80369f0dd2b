"""Which images a command means by folders, files and arrays, and how each is called."""

import numpy as np
import pytest
from PIL import Image

from jaxssl.data.datasets import npz
from jaxssl.errors import UserError
from jaxssl.inference import inputs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "a/b/2.png", "c/1.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "images" / name)
    (tmp_path / "images" / "notes.txt").touch()
    return tmp_path


def test_images_of_a_folder_are_called_by_their_path_in_it_and_files_by_their_own(folder):
    assert inputs.find_images(["images"]).ids == ["a/1.png", "a/b/2.png", "c/1.png"]
    assert inputs.find_images(["images/a/1.png", "images/c"]).ids == ["images/a/1.png", "1.png"]
    assert inputs.find_images(["nowhere.png"]).ids == ["nowhere.png"]


def test_arrays_give_images_called_as_a_run_on_them_calls_them(folder):
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 256, (7, 6, 5, 3), np.uint8)
    np.save("stack.npy", stack)
    np.save("one.npy", stack[0])
    np.savez(
        "split.npz", train_images=stack[:4], train_labels=[0, 1, 0, 1], test_images=stack[4:], test_labels=[0, 1, 1]
    )
    np.savez("flat.npz", images=stack)
    found = inputs.find_images(["stack.npy"])
    assert found.ids[:2] == ["stack/0000", "stack/0001"]
    np.testing.assert_array_equal(found.sources, stack)
    assert inputs.find_images(["one.npy"]).ids == ["one.npy"]
    for name in ("split.npz", "flat.npz"):
        found = inputs.find_images([name])
        assert found.ids == npz.load(dir=name, size=5).ids.tolist()
        np.testing.assert_array_equal(found.sources, stack)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["images/a", "images/c"], "two images are called 1.png"),
        (["empty"], "empty holds no image"),
        (["other.npz"], "other.npz holds x: 'train_images' or 'images' is missing"),
        (["torn.npz"], "torn.npz is not an npz archive"),
    ],
)
def test_what_names_no_images_is_refused(folder, names, says):
    (folder / "empty").mkdir()
    np.savez("other.npz", x=np.zeros(3))
    (folder / "torn.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=says):
        inputs.find_images(names)


def test_a_torn_array_is_said_with_the_other_images(folder):
    (folder / "torn.npy").write_bytes(b"\x93NUMPY")
    assert inputs.find_images(["torn.npy"]).ids == ["torn.npy"]
