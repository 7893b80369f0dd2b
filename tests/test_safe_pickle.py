"""The restricted reader against `np.load` on what `np.save` wrote, and against pickles made to harm."""

import contextlib
import copyreg
import io
import os
import pickle
import tracemalloc

import numpy as np
import pytest

from jaxssl import safe_pickle

IMAGE = np.random.default_rng(0).random((150, 150))


def saved(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def objects(*items, shape=None):
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item
    return array if shape is None else array.reshape(shape)


def npy(pickled, shape=(1,)):
    """A file of objects with this pickle behind its header."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": shape})
    return file.getvalue() + pickled


def text(string):
    return b"\x8c" + bytes([len(string)]) + string.encode()


def glob(module, name):
    return text(module) + text(name) + b"\x93"


def check_same(content):
    got, want = safe_pickle.load_npy(content), np.load(io.BytesIO(content), allow_pickle=True)
    assert got.shape == want.shape and got.dtype == want.dtype
    for one, other in zip(got.flat, want.flat, strict=True):
        assert type(one) is type(other)
        assert np.asarray(one).dtype.newbyteorder("=") == np.asarray(other).dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "array",
    [
        objects(IMAGE, 1.23e-23),
        objects(IMAGE, np.float64(1.23e-23)),
        objects(IMAGE.astype(np.float32), np.float32(0.5)),
        objects(IMAGE[None].astype(">f4"), 7, True, -(2**70), np.uint8(3), np.bool_(True)),
        objects(np.asfortranarray(IMAGE), IMAGE[::2, 3:].T, np.array(2.5), np.zeros((0, 3), np.int16)),
        objects(*[np.full((2, 3), i, np.uint16) for i in range(6)], shape=(2, 3)),
        np.asfortranarray(objects(*range(6), shape=(2, 3))),
        np.full((), 3.0).astype(object),
        IMAGE,
        np.arange(6, dtype=np.int16).reshape(2, 3).T,
    ],
)
def test_what_np_save_writes(array):
    check_same(saved(array))


@pytest.mark.parametrize("protocol", [3, 4])
def test_older_protocol_and_module_names(protocol):
    pickled = pickle.dumps(objects(IMAGE, np.float64(2)), protocol=protocol)
    old = pickled.replace(b"cnumpy._core", b"cnumpy.core")
    if protocol == 4:
        # The name's length has changed, and with it that of the frame, which is left out.
        old = b"\x80\x04" + pickled[11:].replace(text("numpy._core.multiarray"), text("numpy.core.multiarray"))
    assert (b"numpy._core" in pickled) and (b"numpy.core" in old) and (b"numpy._core" not in old)
    for each in (pickled, old):
        got = safe_pickle.load_npy(npy(each, (2,)))
        np.testing.assert_array_equal(got[0], IMAGE)
        assert got[1] == 2 and type(got[1]) is np.float64


def test_path(tmp_path):
    (tmp_path / "axion.npy").write_bytes(saved(objects(IMAGE, 1e-23)))
    np.testing.assert_array_equal(safe_pickle.load_npy(tmp_path / "axion.npy")[0], IMAGE)
    with pytest.raises(OSError):
        safe_pickle.load_npy(tmp_path / "other.npy")


def test_real_file(shared_data):
    path = shared_data / "lensing" / "deeplense_model_sample" / "axion" / "axion.npy"
    np.testing.assert_array_equal(safe_pickle.load_npy(path), np.load(path, allow_pickle=False))


class Touch:
    """Pickled, it makes a file wherever it is unpickled by the ordinary means."""

    def __init__(self, call, *args):
        self.made = call, args

    def __reduce__(self):
        return self.made


def harmful(mark):
    """Pickles by name, each of which makes the file `mark` or reaches for more than is admitted."""
    command = f"touch {mark}"
    touch = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    system = glob("os", "system")
    run = text(command) + b"\x85R"
    array = pickle.dumps(objects(IMAGE[:2, :2]), protocol=4)
    rebuild = glob("numpy._core.multiarray", "_reconstruct")
    ndarray, dtype = glob("numpy", "ndarray"), glob("numpy", "dtype")
    typed = b"K\x00\x85C\x01b\x87R"
    getattr_ = glob("builtins", "getattr")
    return {
        "os.system": pickle.dumps(Touch(os.system, command)),
        "eval": pickle.dumps(Touch(eval, touch)),
        "exec in an element": pickle.dumps(objects(Touch(exec, touch)), protocol=4),
        "reduce in a reduce": pickle.dumps(Touch(list, Touch(map, Touch(os.system, command)))),
        "reduce as an array's shape": pickle.dumps(objects(Touch(np.zeros, Touch(os.system, command))), protocol=4),
        "after the array": array[:-1] + b"0" + system + run + b".",
        "beside the array": b"\x80\x04(" + system + run + b"0" + array[2:-1] + b"t.",
        "by a text name": b"cposix\nsystem\n" + text(command) + b"\x85R.",
        "by Python 2's name": b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
        "dots in a name": b"\x80\x04" + glob("numpy", "dtype.__class__") + b".",
        "getattr chain": b"\x80\x04" + getattr_ + glob("numpy", "f2py") + text("os") + b"\x86R.",
        "attribute of numpy": b"\x80\x04" + glob("numpy", "loadtxt") + b".",
        "numpy's pickle loader": b"\x80\x04" + glob("numpy", "load") + b".",
        "inst": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "obj": b"\x80\x04(" + system + text(command) + b"o.",
        "newobj": b"\x80\x04" + ndarray + b")\x81.",
        "newobj of a subclass": b"\x80\x04" + glob("subprocess", "Popen") + text(command) + b"\x85\x81.",
        "newobj_ex": b"\x80\x04" + ndarray + b")}\x92.",
        "ext1": b"\x80\x04\x82\xf0" + run + b".",
        "ext4": b"\x80\x04\x84\xf0\x00\x00\x00" + run + b".",
        "persistent id": b"\x80\x04" + text("0") + b"Q.",
        "persistent id in text": b"P0\n.",
        "buffer": b"\x80\x05\x97.",
        "state of a class": b"\x80\x04" + dtype + b"N}" + text("name") + system + b"s\x86b.",
        "state of a name": b"\x80\x04" + ndarray + b"K\x01b.",
        "state of attributes": b"\x80\x04" + rebuild + ndarray + typed + b"N" + text("x") + text("y") + b"\x86\x86b.",
        "a call called": b"\x80\x04" + rebuild + ndarray + typed + b")R.",
        "subtype": b"\x80\x04" + rebuild + rebuild + typed + b".",
        "other shape at first": b"\x80\x04" + rebuild + ndarray + b"J\xff\xff\xff\x7f\x85C\x01b\x87R.",
        "no state": b"\x80\x04" + rebuild + ndarray + typed + b".",
        "scalar of objects": pickle.dumps(objects(1), protocol=4).replace(
            b"K\x01a",
            glob("numpy._core.multiarray", "scalar") + dtype + text("O8") + b"\x89\x88\x87RC\x08AAAAAAAA\x86Ra",
        ),
        "objects in objects": pickle.dumps(objects(objects(1)), protocol=4),
        "itself": b"\x80\x04]\x94h\x00a.",
        "a string": pickle.dumps(objects("text"), protocol=4),
        "structured dtype": pickle.dumps(objects(np.zeros(2, "i4,f8")), protocol=4),
        "dtype with metadata": pickle.dumps(objects(np.zeros(2, np.dtype("f8", metadata={"a": 1}))), protocol=4),
        "dates": pickle.dumps(objects(np.zeros(2, "M8[s]")), protocol=4),
        "strings": pickle.dumps(objects(np.array(["ab", "c"])), protocol=4),
        "void": pickle.dumps(objects(np.zeros(2, "V8")), protocol=4),
        "subclass": pickle.dumps(objects(np.ma.masked_array([1.0])), protocol=4),
    }


def allocations():
    """Pickles and headers that state more than they hold."""
    tall = pickle.dumps(objects(np.zeros((2, 3))), protocol=4)
    deep = b"\x80\x04N" + b"\x85" * 99_000 + b"."
    return {
        "memo index": npy(b"\x80\x04Nr\xff\xff\xff\x7f."),
        "bytes of 4 GiB": npy(b"\x80\x04B\xff\xff\xff\xff."),
        "bytes of 2**62": npy(b"\x80\x04\x8e\x00\x00\x00\x00\x00\x00\x00\x40."),
        "frame of 2**62": npy(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x40N."),
        "shape of an element": npy(tall.replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\x7fK\x03\x86")),
        "negative shape": npy(tall.replace(b"K\x02K\x03\x86", b"J\xfe\xff\xff\xffJ\xfd\xff\xff\xff\x86")),
        "huge and empty": npy(tall.replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\x3fK\x00\x86")),
        "shape in the header": npy(tall, (2**40,)),
        "numbers' shape in the header": saved(np.zeros(2)).replace(b"(2,), } " + b" " * 12, b"(2000000000000,), } "),
        "opcodes": npy(b"\x80\x04" + b"N0" * 60_000 + b"N."),
        "depth": npy(deep),
        "depth in an array": npy(tall[:-3] + deep[2:-1] + tall[-3:]),
    }


@pytest.mark.parametrize("name", harmful("x"))
def test_harmful_pickles_leave_no_trace(name, tmp_path):
    mark = tmp_path / "mark"
    copyreg.add_extension("os", "system", 0xF0)
    # Once looked up, an extension is cached and given out without a question to find_class.
    copyreg._extension_cache[0xF0] = os.system
    try:
        with pytest.raises(ValueError, match=r"^not an array that can be read without running code: .") as error:
            safe_pickle.load_npy(npy(harmful(mark)[name]))
    finally:
        copyreg.remove_extension("os", "system", 0xF0)
        copyreg._extension_cache.pop(0xF0, None)
    assert "\n" not in str(error.value) and not any(tmp_path.iterdir())


def test_harmful_pickles_do_harm_elsewhere(tmp_path):
    """Else the test above would show nothing."""
    for name in ("os.system", "eval", "exec in an element", "reduce in a reduce", "after the array", "inst", "obj"):
        mark = tmp_path / name.replace(" ", "_")
        with contextlib.suppress(Exception):
            pickle.loads(harmful(mark)[name])
        assert mark.exists(), name


@pytest.mark.parametrize("name", allocations())
def test_stated_sizes_are_not_trusted(name):
    content = allocations()[name]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"without running code: ."):
            safe_pickle.load_npy(content)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_one_array_in_many_places_takes_its_memory_once():
    big = np.zeros(2**17)
    got = safe_pickle.load_npy(saved(objects(*[big] * 5000)))
    assert len({array.__array_interface__["data"][0] for array in got}) == 1


def test_large_file(tmp_path):
    with open(tmp_path / "large.npy", "wb") as file:
        file.truncate(safe_pickle.MAX_BYTES + 10)
    with pytest.raises(ValueError, match=f"larger than the limit of {safe_pickle.MAX_BYTES} bytes"):
        safe_pickle.load_npy(tmp_path / "large.npy")


def test_other_content():
    for content, says in [
        (b"", "magic"),
        (b"\x93NUMPY\x03\x00" + saved(IMAGE)[8:], "version"),
        (saved(np.zeros(2, "i4,f8")), "neither numbers nor arrays"),
        (saved(np.array(["a"])), "neither numbers nor arrays"),
        (npy(pickle.dumps(objects(1, 2)), (3,)), r"\(3,\), and the pickle \(2,\)"),
        (npy(b"\x80\x04" + glob("os", "system") + b"."), "the name 'os.system' is refused"),
        (npy(b"\x80\x04\x82\x01."), "opcode EXT1 is refused"),
    ]:
        with pytest.raises(ValueError, match=says):
            safe_pickle.load_npy(content)


def test_broken_bytes_give_the_one_error():
    rng = np.random.default_rng(1)
    whole = saved(objects(IMAGE[:3, :3], np.float64(1.5)))
    head = whole.index(b"\x80\x04")
    damaged = [whole[:cut] for cut in range(0, len(whole), 3)]
    for _ in range(500):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 6)):
            changed[place] = rng.integers(256)
        damaged.append(bytes(changed))
        damaged.append(whole[:head] + rng.bytes(40))
        damaged.append(rng.bytes(60))
        # Opcodes that are admitted, in no order, go further into the unpickler than random bytes.
        damaged.append(
            whole[:head] + bytes(rng.choice(list(b"\x80(N\x88\x89K\x8c\x85\x86\x87)]ae\x94h\x93Rb."), 40)) + b"."
        )
    read = 0
    for content in damaged:
        try:
            read += safe_pickle.load_npy(content).dtype == object
        except ValueError as error:
            assert "\n" not in str(error)
    # A change within the numbers leaves a file that can be read.
    assert 0 < read < len(damaged) / 2
