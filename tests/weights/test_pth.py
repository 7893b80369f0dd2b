"""The reader of `.pth` against what PyTorch stored, and against files made to harm."""

import contextlib
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaxssl.weights import pth

GOLDEN = Path(__file__).parents[1] / "golden"
WRITTEN = ("pth_archive.pth", "pth_single.pth")
FOUR = np.arange(4, dtype=np.float32).tobytes()


def text(string):
    return b"X" + struct.pack("<I", len(string)) + string.encode()


def integer(number):
    encoded = pickle.encode_long(number)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def numbers(values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def glob(module, name):
    return f"c{module}\n{name}\n".encode()


def storage(count=4, kind="FloatStorage", module="torch", key="0"):
    return b"(" + text("storage") + glob(module, kind) + text(key) + text("cpu") + integer(count) + b"tQ"


def tensor(shape=(2, 2), strides=(2, 1), offset=0, of=None):
    arguments = (of or storage()) + integer(offset) + numbers(shape) + numbers(strides) + b"\x89}"
    return glob("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def dictionary(value, name="w"):
    return b"\x80\x02}" + text(name) + value + b"s."


def archive(pickled, data=FOUR, **extra):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", extra.pop("compression", zipfile.ZIP_STORED)) as made:
        made.writestr("x/data.pkl", pickled)
        made.writestr("x/data/0", data)
        for name, content in extra.items():
            made.writestr(f"x/{name}", content)
    return file.getvalue()


def single(pickled, data=FOUR, count=4, little=True, version=1001):
    head = [0x1950A86A20F9469CFC6C, version, {"little_endian": little}]
    parts = [*(pickle.dumps(part, 2) for part in head), pickled.replace(b"tQ", b"NtQ"), pickle.dumps(["0"], 2)]
    return b"".join(parts) + struct.pack("<q", count) + data


def load(tmp_path, content):
    (tmp_path / "file.pth").write_bytes(content)
    return pth.load(tmp_path / "file.pth")


@pytest.mark.parametrize("name", WRITTEN)
def test_what_pytorch_writes(name):
    """A network's state dict with views of one storage, each dtype, a tensor of no dimension and an empty one."""
    found = pth.load(GOLDEN / name)
    with np.load(GOLDEN / "pth.npz") as stored:
        assert list(found) == list(stored)
        for key, array in stored.items():
            assert found[key].shape == array.shape and not found[key].flags.writeable
            np.testing.assert_array_equal(found[key].astype(array.dtype), array)
    kinds = {key: str(found[key].dtype) for key in ("transposed", "half", "brain", "count")}
    assert kinds == {"transposed": "float32", "half": "float16", "brain": "bfloat16", "count": "int64"}


@pytest.mark.parametrize("container", [archive, single])
def test_files_made_here_are_read(tmp_path, container):
    """Else what is refused below might be so for another reason."""
    found = load(tmp_path, container(dictionary(tensor())))
    np.testing.assert_array_equal(found["w"], [[0, 1], [2, 3]])


@pytest.mark.parametrize("entry", ["state_dict", "model"])
def test_a_training_checkpoint_gives_its_weights(tmp_path, entry):
    pickled = b"\x80\x02}(" + text("epoch") + integer(3) + text(entry) + dictionary(tensor())[2:-1] + b"u."
    np.testing.assert_array_equal(load(tmp_path, archive(pickled))["w"], [[0, 1], [2, 3]])


def test_state_dicts_in_nested_dictionaries_are_found(tmp_path):
    stated = dictionary(dictionary(dictionary(tensor()), "state_dict"), "checkpoint")
    assert list(load(tmp_path, archive(stated))) == ["w"]


def test_a_checkpoint_of_several_networks_names_them(tmp_path):
    entry = dictionary(tensor())[2:-1]
    pickled = b"\x80\x02}(" + text("student") + entry + text("teacher") + entry + text("lr") + b"G" + b"\0" * 8 + b"u."
    assert list(load(tmp_path, archive(pickled))) == ["student.w", "teacher.w"]


class Touch:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def harmful(mark):
    """Pickles by name, each of which runs a command that makes `mark`, or reaches for more than is admitted."""
    command = f"touch {mark}"
    run = glob("os", "system") + b"(" + text(command) + b"tR"
    attack = pickle.dumps(Touch(command), 2)
    rebuild, ordered = glob("torch._utils", "_rebuild_tensor_v2"), glob("collections", "OrderedDict")
    return {
        "os.system": attack,
        "in an entry": dictionary(attack[2:-1]),
        "as a shape": dictionary(tensor().replace(numbers((2, 2)), run)),
        "before the dictionary": b"\x80\x02" + run + b"0" + dictionary(tensor())[2:],
        "by a text name": b"cposix\nsystem\n(" + text(command) + b"tR.",
        "inst": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "obj": b"(" + glob("os", "system") + text(command) + b"o.",
        "newobj": b"\x80\x02" + glob("subprocess", "Popen") + b"(" + text(command) + b"t\x81.",
        "stack global": b"\x80\x04" + text("os") + text("system") + b"\x93(" + text(command) + b"tR.",
        "extension": b"\x80\x02\x82\xf0.",
        "other function of torch": dictionary(glob("torch._utils", "_rebuild_parameter") + b"(tR"),
        "torch.load": dictionary(glob("torch", "load") + b"(" + text(str(mark)) + b"tR"),
        "dots in a name": dictionary(glob("torch", "FloatStorage.__class__")),
        "state of a name": dictionary(rebuild + b"}" + text("_write_down") + ordered + b"sb"),
        "state of a storage's name": dictionary(glob("torch", "FloatStorage") + b"}" + text("a") + b"Nsb"),
        "state of a tensor": dictionary(tensor() + b"}" + text("storage") + b"Nsb"),
        "state of a tensor's slots": dictionary(tensor() + b"N}" + text("storage") + b"Ns\x86b"),
        "a storage called": dictionary(glob("torch", "FloatStorage") + b"(tR"),
        "a tensor called": dictionary(tensor() + b"(tR"),
        "a persistent id of text": dictionary(text("0") + b"Q"),
        "a persistent id of tuples in tuples": dictionary(
            b"N" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60)) + b"Q"
        ),
        "a storage of a plain text": dictionary(tensor(of=storage().replace(glob("torch", "FloatStorage"), text("O")))),
        "an unknown storage": dictionary(tensor(of=storage(kind="QInt8Storage"))),
        "a storage of another module": dictionary(tensor(of=storage(module="torch.storage"))),
        "itself": b"\x80\x02}q\x00" + text("w") + b"h\x00s.",
        "a number": dictionary(integer(3)),
        "a list": b"\x80\x02]" + tensor() + b"a.",
        "a name that is none": b"\x80\x02}" + integer(1) + tensor() + b"s.",
    }


@pytest.mark.parametrize("container", [archive, single])
@pytest.mark.parametrize("name", harmful("x"))
def test_harmful_pickles_leave_no_trace(name, container, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match=r"^not a state dict that can be read without running code: .") as error:
        load(tmp_path / "in", container(harmful(tmp_path / "mark")[name]))
    assert "\n" not in str(error.value) and not (tmp_path / "mark").exists()


def test_harmful_pickles_do_harm_elsewhere(tmp_path):
    """Else the test above would show nothing."""
    for name in ("os.system", "in an entry", "by a text name", "inst", "obj", "stack global"):
        mark = tmp_path / name.replace(" ", "_")
        with contextlib.suppress(Exception):
            pickle.loads(harmful(mark)[name])
        assert mark.exists(), name


def stated_sizes():
    huge = 2**40
    return {
        "repeated numbers": archive(dictionary(tensor((2**16, 2**16), (0, 0)))),
        "repeated rows": archive(dictionary(tensor((4, 2), (0, 1)))),
        "offset": archive(dictionary(tensor(offset=1))),
        "negative offset": archive(dictionary(tensor(offset=-1))),
        "stride": archive(dictionary(tensor(strides=(3, 1)))),
        "negative stride": archive(dictionary(tensor(strides=(-2, 1), offset=2))),
        "negative shape": archive(dictionary(tensor((-2, -2)))),
        "huge and empty": archive(dictionary(tensor((huge, 0)))),
        "fewer strides": archive(dictionary(tensor((2, 2), (1,)))),
        "more than is stored": archive(dictionary(tensor(of=storage(count=5)))),
        "less than is stored": archive(dictionary(tensor(of=storage(count=3)))),
        "two counts of one storage": archive(
            b"\x80\x02}" + text("a") + tensor() + b"s" + text("b") + tensor((1,), (1,), of=storage(count=1)) + b"s."
        ),
        "negative count": archive(dictionary(tensor(of=storage(count=-4)))),
        "storage outside": archive(dictionary(tensor(of=storage(key="../0")))),
        "compressed": archive(dictionary(tensor()), bytes(2**26), compression=zipfile.ZIP_DEFLATED),
        "single count": single(dictionary(tensor()), count=huge),
        "single negative count": single(dictionary(tensor()), count=-4),
        "single, cut off": single(dictionary(tensor()), FOUR[:-1]),
        "memo index": archive(b"\x80\x02Nr\xff\xff\xff\x7f."),
        "text of 4 GiB": archive(b"\x80\x02X\xff\xff\xff\xff."),
        "opcodes": archive(b"\x80\x02" + b"N" * (pth.MAX_OPCODES + 2) + b"."),
    }


@pytest.mark.parametrize("name", stated_sizes())
def test_stated_sizes_are_not_trusted(name, tmp_path):
    content = stated_sizes()[name]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"without running code: ."):
            load(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < 2**24 + 4 * len(content)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "neither a zip archive nor"),
        (b"\x89HDF\r\n", "neither a zip archive nor"),
        (archive(dictionary(tensor()), byteorder=b"big"), "byte order"),
        (single(dictionary(tensor()), little=False), "byte order"),
        (single(dictionary(tensor()), version=1000), "version other than 1001"),
        (archive(dictionary(integer(3), "epoch")), "'epoch' is no tensor; save model.state_dict"),
        (archive(dictionary(glob("argparse", "Namespace"))), "the name 'argparse.Namespace' is refused"),
        (archive(pickle.dumps({"w": 1.5}, 4)), "opcode FRAME is refused"),
    ],
)
def test_what_is_wrong_is_said(content, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        load(tmp_path, content)


def test_large_file(tmp_path):
    with open(tmp_path / "large.pth", "wb") as file:
        file.truncate(pth.MAX_BYTES + 1)
    with pytest.raises(ValueError, match=f"larger than the limit of {pth.MAX_BYTES} bytes"):
        pth.load(tmp_path / "large.pth")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        pth.load(tmp_path / "none.pth")


@pytest.mark.parametrize("name", WRITTEN)
def test_broken_bytes_give_the_one_error_or_tensors(name, tmp_path):
    rng = np.random.default_rng(1)
    whole = (GOLDEN / name).read_bytes()
    damaged = [whole[:cut] for cut in range(0, len(whole), 40)]
    for _ in range(150):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 6)):
            changed[place] = rng.integers(256)
        damaged.append(bytes(changed))
    refused = 0
    for content in damaged:
        try:
            assert all(isinstance(array, np.ndarray) for array in load(tmp_path, content).values())
        except ValueError as error:
            refused += str(error).startswith("not a state dict that can be read")
    assert refused > len(damaged) / 3
