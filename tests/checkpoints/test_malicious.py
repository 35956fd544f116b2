"""Files made to run code, to fill the memory or to break the reader: each is refused, none runs.

Every payload would create a file called "ran" if a line of it were obeyed; a control shows that
Python's and torch's own readers do obey it.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import io
import json
import operator
import os
import pickle
import shutil
import struct
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import DATA
from pickle_files import (
    Call,
    Persistent,
    legacy_bytes,
    module_state,
    nvidia_modules,
    tensorflow_network,
)

from pulse.checkpoints import pickles, torch_files
from pulse.checkpoints.containers import read_container
from pulse.checkpoints.load import load_network
from pulse.errors import WeightsError

__all__ = ["nvidia_modules"]  # every pickle here is written among modules of NVIDIA's names


def touch(marker):
    return f"touch '{marker}'"


def write(marker):
    return f"open({str(marker)!r}, 'w').close()"


# The forbidden global that the message must name, and a call that uses it.
CALLS = {
    "posix.system": lambda marker: Call(os.system, touch(marker)),
    "os.popen": lambda marker: Call(os.popen, touch(marker)),
    "subprocess.Popen": lambda marker: Call(subprocess.Popen, ["touch", str(marker)]),
    "subprocess.check_output": lambda marker: Call(subprocess.check_output, ["touch", str(marker)]),
    "builtins.eval": lambda marker: Call(eval, write(marker)),
    "builtins.exec": lambda marker: Call(exec, write(marker)),
    "io.open": lambda marker: Call(open, str(marker), "w"),
    "builtins.getattr": lambda marker: Call(
        Call(getattr, Call(importlib.import_module, "os"), "system"), touch(marker)
    ),
    "builtins.__import__": lambda _: Call(builtins.__import__, "this"),
    "importlib.import_module": lambda _: Call(importlib.import_module, "this"),
    "operator.methodcaller": lambda marker: Call(operator.methodcaller("touch"), marker),
    "functools.partial": lambda marker: Call(functools.partial(os.system, touch(marker))),
    "shutil.rmtree": lambda marker: Call(shutil.rmtree, str(marker.parent / "nothing"), True),
    "torch.serialization.load": lambda marker: Call(torch.load, str(marker)),
    "torch.hub.load": lambda marker: Call(torch.hub.load, str(marker), "x"),
    "_pickle.loads": lambda marker: Call(
        pickle.loads, pickle.dumps(Call(os.system, touch(marker)))
    ),
    "numpy.load": lambda marker: Call(np.load, str(marker)),
    "pathlib.Path": lambda marker: Call(Path, str(marker)),
}
# Names under which the old protocols of torch.save write some of them.
OLD_MODULES = {"builtins": "__builtin__", "subprocess": "commands", "_pickle": "pickle"}


def names_of(name):
    """The spellings of a global in files, by protocol and version."""
    module, _, attribute = name.rpartition(".")
    return [f"{m}.{attribute}" for m in (module, OLD_MODULES.get(module, module))]


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "ran"


def in_a_nested_storage(evil):
    """`_load_from_bytes` runs a whole torch.load in the original."""
    return {
        "G_ema": Persistent(
            module_state(w=Call(torch.storage._load_from_bytes, legacy_bytes(evil)))
        )
    }


# Where in a file the evil object can sit.
PLACES = {
    "alone": lambda evil: pickle.dumps(evil),
    "in a table": lambda evil: pickle.dumps({"G": 1, "G_ema": evil}),
    "as a parameter": lambda evil: pickle.dumps({"G_ema": Persistent(module_state(w=evil))}),
    "beside the generator": lambda evil: pickle.dumps(
        {"G_ema": Persistent(module_state()), "x": evil}
    ),
    "in a nested storage": lambda evil: pickle.dumps(in_a_nested_storage(evil)),
    "in an object array": lambda evil: pickle.dumps({"G_ema": np.array([evil], dtype=object)}),
    "in a network of TensorFlow": lambda evil: pickle.dumps(
        (tensorflow_network(), tensorflow_network(static_kwargs={"x": evil}))
    ),
    "in torch's zip": lambda evil: torch_bytes({"g_ema": {"w": evil}}),
    "in torch's old format": lambda evil: legacy_bytes({"g_ema": {"w": evil}}),
    "in a key": lambda evil: pickle.dumps({"G_ema": 1, (evil,): 2}),
}


def torch_bytes(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def refusal_of(path):
    with pytest.raises(WeightsError) as caught:
        read_container(path)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith((str(path), f"cannot read the generator {path}"))
    return message


def weights_file(tmp_path, data):
    path = tmp_path / "weights.pkl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("place", PLACES)
def test_calls_are_refused_by_name_and_do_not_run(tmp_path, marker, place, name):
    message = refusal_of(weights_file(tmp_path, PLACES[place](CALLS[name](marker))))
    time.sleep(0.01)  # a process started by mistake would need a moment
    assert not marker.exists()
    assert "refused, and nothing of it was run" in message
    # a chain is refused at the link that comes first; pathlib and numpy move theirs about
    links = {"builtins.getattr": "importlib.import_module", "operator.methodcaller": "pathlib"}
    moved = {"pathlib.Path": "pathlib.", "numpy.load": "numpy.lib."}
    expected = [*names_of(name), links.get(name, name), moved.get(name, name)]
    assert any(spelling in message for spelling in expected)


@pytest.mark.parametrize("place", PLACES)
def test_control_other_readers_do_run_it(tmp_path, marker, place):
    data = PLACES[place](CALLS["posix.system"](marker))
    path = weights_file(tmp_path, data)
    try:
        if "torch" in place:
            torch.load(path, weights_only=False)
        else:
            pickle.loads(data)  # noqa: S301 (that it runs is what is shown)
    except Exception:  # noqa: BLE001 (whatever comes after the call does not matter)
        pass
    assert marker.exists()


@pytest.mark.parametrize("protocol", range(2, 6))
def test_every_protocol(tmp_path, marker, protocol):
    data = pickle.dumps(CALLS["posix.system"](marker), protocol=protocol)
    assert "posix.system" in refusal_of(weights_file(tmp_path, data))
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [0, 1])
def test_protocols_that_no_generator_has(tmp_path, marker, protocol):
    data = pickle.dumps(CALLS["posix.system"](marker), protocol=protocol)
    assert "is no weights file" in refusal_of(weights_file(tmp_path, data))
    assert not marker.exists()


def test_embedded_source_is_dropped_unread(tmp_path, marker):
    weight = torch.arange(3.0)
    content = {"G_ema": Persistent(module_state(w=weight), source=write(marker))}
    data = pickle.dumps(content)
    tensors = read_container(weights_file(tmp_path, data)).tensors
    assert not marker.exists()
    assert list(tensors) == ["w"]
    assert torch.equal(tensors["w"], weight)
    pickle.loads(data)  # noqa: S301 (that it runs is what is shown)
    assert marker.exists()  # the control


def test_the_last_network_of_a_tuple_is_taken(tmp_path):
    networks = [tensorflow_network(variables=[("w", np.full(2, k))]) for k in range(3)]
    tensors = read_container(weights_file(tmp_path, pickle.dumps(tuple(networks)))).tensors
    assert tensors["w"].tolist() == [2, 2]


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_protocol_and_order(tmp_path, protocol, order):
    values = np.asarray(np.arange(6.0).reshape(2, 3), order=order)
    network = tensorflow_network(variables=[("w", values), ("s", np.float32(2)), ("e", values[:0])])
    path = weights_file(tmp_path, pickle.dumps((network,), protocol=protocol))
    tensors = read_container(path).tensors
    assert tensors["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tensors["s"].item() == 2
    assert tensors["e"].shape == (0, 3)


def test_a_snapshot_without_an_averaged_generator_gives_the_other(tmp_path):
    content = {"G": Persistent(module_state(w=torch.ones(2))), "G_ema": None}
    tensors = read_container(weights_file(tmp_path, pickle.dumps(content))).tensors
    assert tensors["w"].tolist() == [1, 1]


def test_source_in_a_network_of_tensorflow_is_dropped_unread(tmp_path, marker):
    network = tensorflow_network(
        build_module_src=write(marker), variables=[("lod", np.float32(1.5)), ("w", np.eye(2))]
    )
    tensors = read_container(weights_file(tmp_path, pickle.dumps((network, network)))).tensors
    assert not marker.exists()
    assert tensors["w"].tolist() == [[1, 0], [0, 1]]
    assert tensors["lod"].item() == 1.5


# --- operations written by hand --------------------------------------------------------------

P2, P4 = b"\x80\x02", b"\x80\x04"


def text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(module, name):
    return text(module) + text(name) + b"\x93"


BY_HAND = {
    "a dotted name": (P4 + named("collections", "OrderedDict.update") + b".", "OrderedDict.update"),
    "a dotted path to eval": (P4 + named("torch._utils", "builtins.eval") + b".", "builtins.eval"),
    "the INST operation": (b"\x80\x02(S'true'\nios\nsystem\n.", "os.system"),
    "a persistent id": (b"\x80\x02Pstorage\n.", "the opcode PERSID"),
    "a binary persistent id": (P4 + text("x") + b"Q.", "a persistent id"),
    "an extension": (b"\x80\x02\x82\x01.", "the opcode EXT1"),
    "a memo entry far away": (b"\x80\x02]r\xff\xff\xff\xffu.", "memo entry"),
    "another stand-in's code": (
        P4 + named("torch._utils", "_rebuild_tensor_v2") + b"N}" + text("_call") + b"Ns\x86b.",
        "stand-in",
    ),
    "a class changed": (
        P4 + named("collections", "OrderedDict") + b"N}" + text("update") + b"Ns\x86b.", "",
    ),
    "a module called": (P4 + named("torch.nn.modules.linear", "Linear") + b")R)R.", "callable"),
    "a module of another kind": (P4 + named("torch.nn.functional", "relu") + b".", "torch.nn.func"),
    "a way into a module": (P4 + named("torch.nn.modules.module", "torch.hub") + b".", "torch.hub"),
    "nothing": (P4 + b"N.", "it holds no network"),
    "a list of nothing": (P4 + b"].", "it holds no network"),
    "a second copyreg": (P4 + named("copyreg", "__newobj__") + b".", "copyreg.__newobj__"),
    "copyreg._reconstructor": (
        P4 + named("copyreg", "_reconstructor") + b".", "copyreg._reconstructor",
    ),
}  # fmt: skip


def hidden_call(marker):
    """os.system by a name whose strings do not come right before it: a value in between."""
    name = text("posix") + text("system") + b"N0\x93"
    return P4 + name + text(touch(marker)) + b"\x85R."


def old_call(marker):
    return (
        b"cposix\nsystem\n(X"
        + struct.pack("<I", len(touch(marker)))
        + (touch(marker).encode() + b"tR.")
    )


@pytest.fixture(params=["with the scan", "without"])
def with_and_without_the_scan(request, monkeypatch):
    """The readers refuse by themselves too, whatever going through the operations overlooks."""
    if request.param == "without":
        for module in (pickles, torch_files):
            monkeypatch.setattr(module, "scan", lambda *_, **__: None)


@pytest.mark.usefixtures("with_and_without_the_scan")
def test_a_hidden_name_is_refused(tmp_path, marker):
    data = hidden_call(marker)
    assert "wants to use posix.system" in refusal_of(weights_file(tmp_path, data))
    assert not marker.exists()
    pickle.loads(data)  # noqa: S301 (the control)
    assert marker.exists()


@pytest.mark.parametrize("call", [hidden_call, lambda marker: P2 + old_call(marker)])
@pytest.mark.usefixtures("with_and_without_the_scan")
def test_a_name_hidden_in_torchs_zip_is_refused(tmp_path, marker, call):
    entries = [("a/data.pkl", call(marker)), ("a/version", b"3\n")]
    path = weights_file(tmp_path, zip_of(entries, zipfile.ZIP_STORED))
    message = refusal_of(path)
    assert "wants to use posix.system" in message or "is no whole file of torch.save" in message
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the control
    assert marker.exists()


@pytest.mark.parametrize("kind", BY_HAND)
def test_operations_by_hand(tmp_path, kind):
    data, words = BY_HAND[kind]
    assert words in refusal_of(weights_file(tmp_path, data))


def test_the_table_is_whole_after_every_attack(tmp_path):
    """Whatever was tried on the stand-ins, the next file is read as before."""
    for data, _ in BY_HAND.values():
        refusal_of(weights_file(tmp_path, data))
    assert len(read_container(DATA / "checkpoints" / "ada-plain.pkl").tensors) == 79


# --- sizes -------------------------------------------------------------------------------------


def array_by_parts(shape, data=b"\0" * 16, code="f4", order="<"):
    """A numpy array whose parts do not fit, as numpy itself pickles one."""
    from numpy._core.multiarray import _reconstruct

    class Type:
        def __reduce__(self):
            return np.dtype, (code, False, True), (3, order, None, None, None, -1, -1, 0)

    class Array:
        def __reduce__(self):
            return _reconstruct, (np.ndarray, (0,), b"b"), (1, shape, Type(), False, data)

    return Array()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"shape": (1 << 40,)}, "with 16 bytes, not 4398046511104"),
        ({"shape": (1 << 62, 1 << 62)}, "with 16 bytes"),
        ({"shape": (-4,)}, "expected whole numbers from 0"),
        ({"shape": (2, -2)}, "expected whole numbers from 0"),
        ({"shape": (True, 4)}, "expected whole numbers from 0"),
        ({"shape": (2.0, 2)}, "expected whole numbers from 0"),
        ({"shape": (5,)}, "with 16 bytes, not 20"),
        ({"shape": (4,), "code": "O8"}, "an array of type 'O8', expected numbers"),
        ({"shape": (4,), "code": "V4"}, "an array of type 'V4', expected numbers"),
        ({"shape": (4,), "data": [1, 2, 3, 4]}, "without a number type or data"),
        ({"shape": (4,), "order": "?"}, "no number"),
    ],
)
def test_arrays_whose_parts_do_not_fit(tmp_path, parts, words):
    network = tensorflow_network(variables=[("w", array_by_parts(**parts))])
    assert words in refusal_of(weights_file(tmp_path, pickle.dumps((network,))))


def tensor_by_parts(offset, size, stride, values=16):
    from torch._utils import _rebuild_tensor_v2

    storage = torch.zeros(values)._typed_storage()
    return Call(_rebuild_tensor_v2, storage, offset, size, stride, False, {})


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (17,), (1,)),
        (1, (16,), (1,)),
        (0, (4, 4), (4, 5)),
        (0, (1 << 40,), (0,)),
        (0, (1 << 62, 1 << 62), (1, 1)),
        (-1, (4,), (1,)),
        (0, (-4,), (1,)),
        (0, (4,), (-1,)),
        (0, (4,), (1, 1)),
        ("0", (4,), (1,)),
    ],
)
def test_tensors_that_their_storage_does_not_hold(tmp_path, offset, size, stride):
    content = {"G_ema": Persistent(module_state(w=tensor_by_parts(offset, size, stride)))}
    message = refusal_of(weights_file(tmp_path, pickle.dumps(content)))
    assert (
        "in a storage of 16 values" in message
        or "expected whole" in message
        or "nowhere" in message
    )


def test_tensors_that_their_storage_holds(tmp_path):
    content = {"G_ema": Persistent(module_state(w=tensor_by_parts(1, (3, 5), (5, 1))))}
    assert read_container(weights_file(tmp_path, pickle.dumps(content))).tensors["w"].shape == (
        3,
        5,
    )


@pytest.mark.parametrize("save", [torch_bytes, legacy_bytes])
def test_one_value_that_poses_as_a_million(tmp_path, save):
    path = weights_file(tmp_path, save({"w": torch.zeros(1).expand(1000, 1000)}))
    assert "that its storage does not hold" in refusal_of(path)


def test_a_storage_that_claims_more_than_the_file(tmp_path):
    """The old format says how many values come, before they come."""
    data = legacy_bytes({"w": torch.zeros(1000)})
    claimed = data.replace(b"M\xe8\x03", b"\x8a\x06" + (1 << 40).to_bytes(6, "little"))
    assert claimed != data
    assert "a storage claims 1,099,511,627,776 values" in refusal_of(
        weights_file(tmp_path, claimed)
    )


def zip_of(entries, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_zip_bomb(tmp_path):
    data = zip_of([("a/data.pkl", b"\x80\x02}."), ("a/data/0", bytes(1 << 28))])
    assert len(data) < 1 << 20
    began = time.monotonic()
    assert "its parts claim 268,435,460 bytes in a file of" in refusal_of(
        weights_file(tmp_path, data)
    )
    assert time.monotonic() - began < 1  # refused by its directory, not by unpacking it


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_parts_of_one_name(tmp_path):
    data = zip_of([("a/data.pkl", b"\x80\x02}."), ("a/data.pkl", b"\x80\x02].")])
    assert "two parts of one name" in refusal_of(weights_file(tmp_path, data))


def test_a_zip_of_something_else(tmp_path):
    path = weights_file(tmp_path, zip_of([("word/document.xml", b"<x/>")]))
    assert "is no whole file of torch.save" in refusal_of(path)


def test_lists_within_lists(tmp_path):
    """Ten to the sixtieth references in a few hundred bytes."""
    laughs = []
    for _ in range(60):
        laughs = [laughs] * 10
    assert "it holds no network" in refusal_of(weights_file(tmp_path, pickle.dumps(laughs)))


def test_modules_within_modules(tmp_path):
    """Two to the sixtieth paths to one parameter."""
    module = Persistent(module_state(w=torch.zeros(1)))
    for _ in range(40):
        module = Persistent(
            {"_parameters": {}, "_buffers": {}, "_modules": {"a": module, "b": module}}
        )
    message = refusal_of(weights_file(tmp_path, pickle.dumps({"G_ema": module})))
    assert "modules within modules without end" in message


def test_tables_within_tables(tmp_path):
    content = {"w": torch.zeros(1)}
    for _ in range(40):
        content = {"a": content}
    assert "tables within tables" in refusal_of(weights_file(tmp_path, torch_bytes(content)))


def test_a_pickle_nested_deeply(tmp_path):
    data = b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b"."
    refusal_of(weights_file(tmp_path, data))


def test_a_header_of_safetensors_longer_than_the_file(tmp_path):
    data = struct.pack("<Q", 90_000_000) + b"{" + bytes(100)
    assert "is not a whole safetensors file" in refusal_of(weights_file(tmp_path, data))


def number(value):
    """An integer of any size, as LONG1 or LONG4."""
    size = value.bit_length() // 8 + 1
    head = b"\x8a" + bytes([size]) if size < 256 else b"\x8b" + struct.pack("<i", size)
    return head + value.to_bytes(size, "little")


def array(*shape):
    """An array of NumPy without data; the sizes as they come."""
    kind = named("numpy", "dtype") + b"(" + text("f4") + b"tR"
    new = named("numpy.core.multiarray", "_reconstruct") + b"(" + named("numpy", "ndarray")
    return new + b"K\x00\x85C\x01btR(K\x01(" + b"".join(shape) + b"t" + kind + b"\x89C\x00tb"


def module_of(parameters):
    return (
        P4
        + b"}"
        + text("G_ema")
        + named("torch.nn.modules.container", "Sequential")
        + (b")\x81}" + text("_parameters") + parameters + b"sbs.")
    )


def repeated(what, times):
    """One object under `times` names."""
    names = b"".join(text(f"{k:06}") + b"h\x00" for k in range(times))
    return what + b"\x940}(" + names + b"u"


# What would fill the memory, never end, or end the process, and how it is refused.
OUT_OF_PROPORTION = {
    "hashing a tuple deeper than the stack": (
        P2 + b"}" + b"N" + b"\x85" * 150_000 + b"Ns.", "tuples within tuples without end",
    ),
    "hashing a tuple of 2 to the 40th": (
        P2 + b"}N" + b"2\x86" * 40 + b"Ns.", "tuples within tuples without end",
    ),
    "a frozen set of the same": (
        P4 + b"(N" + b"2\x86" * 40 + b"\x91.", "tuples within tuples without end",
    ),
    "a shape that is a tuple of 2 to the 40th": (
        P4 + b"}" + named("torch", "Size") + b"N" + b"2\x86" * 40 + b"\x85RNs.",
        "tuples within tuples without end",
    ),
    "more operations than any generator": (P2 + b"]" * 3_000_000, "more than 200,000 operations"),
    "an integer of 8 MB": (P2 + b"\x8b" + struct.pack("<i", 1 << 23) + b"\x7f" * (1 << 23) + b".",
                           "an integer of 67,108,863 bits"),
    "integers that all have one hash": (
        P2 + b"}(" + b"".join(number(k * (2**61 - 1)) + b"N" for k in range(1, 20)) + b"u.",
        "an integer of 65 bits",
    ),
    "a product of huge sizes": (P4 + array(*[number(1 << 63)] * 8) + b".", "expected whole numb"),
    "more dimensions than NumPy has": (P4 + array(*[b"K\x00"] * 100) + b".", "expected 8 at most"),
    "a frame longer than the file": (P4 + b"\x95" + struct.pack("<Q", 1 << 62) + b"N.", ""),
    "bytes longer than the file": (P4 + b"\x8e" + struct.pack("<Q", 1 << 40) + b"N.", ""),
    "a list copied ten thousand times": (
        P4 + b"]\x94(" + b"N" * 100_000 + b"e0]("
        + (named("builtins", "list") + b"h\x00\x85R") * 10_000 + b"e.",
        "it would grow to many times its size",
    ),
    "a copy copied": (
        P4 + b"]\x94(" + b"N" * 100_000 + b"e0" + named("builtins", "list") + b"h\x00\x85R\x940]("
        + (named("builtins", "list") + b"h\x01\x85R") * 10_000 + b"e.",
        "it would grow to many times its size",
    ),
    "a list that grows once it is an argument": (
        P4 + b"]\x94\x85\x940h\x00(" + b"N" * 100_000 + b"e0]("
        + (named("builtins", "list") + b"h\x01R") * 10_000 + b"e.",
        "it would grow to many times its size",
    ),
    "a dictionary copied ten thousand times": (
        P4 + b"}\x94(" + b"".join(b"J" + struct.pack("<i", k) + b"N" for k in range(50_000))
        + b"u0]("
        + (named("collections", "OrderedDict") + b"h\x00\x85R") * 10_000 + b"e.",
        "it would grow to many times its size",
    ),
    "a text encoded ten thousand times": (
        P4 + b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"\x940]("
        + (named("_codecs", "encode") + b"h\x00\x85R") * 10_000 + b"e.",
        "it would grow to many times its size",
    ),
    "a storage read ten thousand times": (
        P4 + b"B" + struct.pack("<I", 5_000_000)
        + legacy_bytes(torch.zeros(1_000_000)._typed_storage()).ljust(5_000_000, b"\0") + b"\x940]("
        + (named("torch.storage", "_load_from_bytes") + b"h\x00\x85R") * 10_000 + b"e.",
        "it would grow to many times its size",
    ),
    "more tensors than any generator": (
        module_of(repeated(named("torch._utils", "_rebuild_parameter") + b"("
                           + named("torch._utils", "_rebuild_tensor_v2") + b"("
                           + named("torch.storage", "_load_from_bytes") + b"B"
                           + struct.pack("<I", len(legacy_bytes(torch.zeros(1)._typed_storage())))
                           + legacy_bytes(torch.zeros(1)._typed_storage())
                           + b"\x85RK\x00K\x01\x85K\x01\x85\x89}tR\x89}tR", 30_000)),
        "more than 20,000 tensors",
    ),
    "a call with a thousand arguments": (
        P4 + named("builtins", "list") + b"(" + b"N" * 900 + b"tR.", "a call with 901 arguments",
    ),
    "a name of a million characters": (
        P4 + b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + text("x") + b"\x93.",
        "aaaaaaaa...",
    ),
    "a name that is put together": (
        P4 + named("_codecs", "encode") + text("os") + b"\x85R" + text("system") + b"\x93.",
        "a name that it puts together",
    ),
    "bytes made by their number": (
        P4 + named("builtins", "bytes") + number(1 << 40) + b"\x85R.", "takes 0 positional arg",
    ),
    "nothing on the stack": (P2 + b"0.", "an operation on nothing"),
    "no mark": (P2 + b"t.", "an operation without its mark"),
    "across a mark": (P2 + b"N(R.", "an operation on nothing"),
    "a memo entry that is not there": (P2 + b"]h\x01.", "memo entry 1 before it was made"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OUT_OF_PROPORTION)
def test_what_is_out_of_proportion_is_refused_at_once(tmp_path, kind):
    data, words = OUT_OF_PROPORTION[kind]
    path = weights_file(tmp_path, data)
    began = time.monotonic()
    message = refusal_of(path)
    # the longest goes through 200,000 operations: about a second, and more on a busy machine
    assert time.monotonic() - began < 20
    assert words in message
    assert len(message) < 500 + len(str(path))


@pytest.mark.parametrize("kind", ["a list copied", "hashing a tuple of", "a dictionary copied"])
def test_the_same_in_torchs_zip(tmp_path, kind):
    data = next(data for name, (data, _) in OUT_OF_PROPORTION.items() if name.startswith(kind))
    data = data.replace(named("builtins", "list"), named("collections", "OrderedDict"))
    path = weights_file(tmp_path, zip_of([("a/data.pkl", data)], zipfile.ZIP_STORED))
    message = refusal_of(path)
    assert "without end" in message or "many times its size" in message


def test_tables_that_hold_each_other_a_hundred_times(tmp_path):
    """A hundred to the fifth paths to one table, in torch's and in TensorFlow's form."""
    table, network = {"x": 1}, tensorflow_network()
    for _ in range(5):
        table = {str(k): table for k in range(100)}
    for _ in range(2):
        network = tensorflow_network(components={str(k): network for k in range(1000)})
    assert "without end" in refusal_of(weights_file(tmp_path, torch_bytes(table)))
    assert "without end" in refusal_of(weights_file(tmp_path, pickle.dumps((network,))))


def test_an_array_under_many_names_is_kept_once(tmp_path):
    values = np.zeros(1 << 20, dtype=np.float32)
    network = tensorflow_network(variables=[(f"w{k}", values) for k in range(300)])
    tensors = read_container(weights_file(tmp_path, pickle.dumps((network,)))).tensors
    assert len({tensor.data_ptr() for tensor in tensors.values()}) == 1


def test_an_old_torch_file_with_a_zip_behind_it(tmp_path, marker):
    """Torch takes it for the old format and Python for a zip; both parts of it are refused."""
    evil = legacy_bytes({"w": CALLS["posix.system"](marker)})
    assert "posix.system" in refusal_of(weights_file(tmp_path, evil + torch_bytes({"a": 1})))
    claimed = legacy_bytes({"w": torch.zeros(1000)}).replace(
        b"M\xe8\x03", b"\x8a\x06" + (1 << 40).to_bytes(6, "little")
    )
    path = weights_file(tmp_path, claimed + torch_bytes({"a": 1}))
    assert "a storage claims 1,099,511,627,776 values" in refusal_of(path)


def test_a_storage_whose_number_comes_from_the_memo(tmp_path):
    data = legacy_bytes({"w": torch.zeros(1000)})
    head, tail = data.split(b"M\xe8\x03", 1)  # the second is the shape's
    big = b"\x8a\x06" + (1 << 40).to_bytes(6, "little")
    at = head.rindex(b"(X\x07\x00\x00\x00storage")
    claimed = head[:at] + big + b"q\x0a0" + head[at:] + b"h\x0a" + tail
    message = refusal_of(weights_file(tmp_path, claimed))
    assert "a storage claims 1,099,511,627,776 values" in message


def test_torch_files_of_other_kinds(tmp_path):
    module = torch.nn.Linear(2, 2)
    assert "torch.nn.modules.linear.Linear" in refusal_of(
        weights_file(tmp_path, torch_bytes(module))
    )
    sparse = torch.eye(3).to_sparse()
    for save in (torch_bytes, legacy_bytes):
        path = weights_file(tmp_path, save({"w": sparse}))
        assert "torch._utils._rebuild_sparse_tensor" in refusal_of(path)
    meta = torch_bytes({"w": torch.empty(1 << 40, device="meta")})
    assert "_rebuild_meta_tensor_no_storage" in refusal_of(weights_file(tmp_path, meta))


@pytest.mark.parametrize("prefix", ["/", "../", "../../"])
def test_a_zip_whose_parts_would_lie_elsewhere(tmp_path, prefix):
    with zipfile.ZipFile(io.BytesIO(torch_bytes({"w": torch.zeros(2)}))) as archive:
        entries = [(prefix + e.filename, archive.read(e)) for e in archive.infolist()]
    path = tmp_path / "a" / "b" / "weights.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(zip_of(entries, zipfile.ZIP_STORED))
    before = sorted(tmp_path.rglob("*"))
    assert "is no whole file of torch.save" in refusal_of(path)
    assert sorted(tmp_path.rglob("*")) == before


def safetensors_bytes(header, data=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def of_shape(shape, begin, end, kind="F32"):
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


BAD_SAFETENSORS = {
    "a header of 2 to the 64th": (struct.pack("<Q", (1 << 64) - 1) + b"{}", "header claims 18,446"),
    "a header of 99 MB": (safetensors_bytes(b"{" + b" " * 99_000_000 + b"}"), "header claims 99,0"),
    "offsets that overlap": (safetensors_bytes(
        {"a": of_shape([4], 0, 16), "b": of_shape([4], 8, 24)}, bytes(24)), "invalid offset"),
    "a hole": (safetensors_bytes({"a": of_shape([4], 8, 24)}, bytes(24)), "invalid offset"),
    "a negative size": (safetensors_bytes({"a": of_shape([-4], 0, 16)}, bytes(16)), "-4"),
    "sizes that overflow": (
        safetensors_bytes({"a": of_shape([1 << 62] * 2, 0, 16)}, bytes(16)), "overflow"),
    "more than is there": (
        safetensors_bytes({"a": of_shape([1 << 40], 0, 1 << 42)}, bytes(16)), "not fully covered"),
    "a header within headers": (
        safetensors_bytes(b'{"a":' * 200_000 + b"1" + b"}" * 200_000), "recursion limit"),
    "a header that is no text": (safetensors_bytes(b'{"\xff\xfe":{}}'), "UTF-8"),
    "too many tensors": (
        safetensors_bytes({f"k{i}": of_shape([0], 0, 0) for i in range(30_000)}), "20,000 tensors"),
    "a constant that is none": (safetensors_bytes(
        {"__metadata__": {"constants": '{"conv_clamp": "x"}'}}), "constant conv_clamp is 'x'"),
    "constants that are no table": (
        safetensors_bytes({"__metadata__": {"constants": "[1]"}}), "no table of constants"),
    "an unknown constant": (
        safetensors_bytes({"__metadata__": {"constants": '{"x": 1}'}}), "the constant 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_SAFETENSORS)
def test_safetensors_that_do_not_add_up(tmp_path, kind):
    data, words = BAD_SAFETENSORS[kind]
    message = refusal_of(weights_file(tmp_path, data))
    assert "is not a whole safetensors file" in message
    assert words in message
    assert len(message) < 500


def test_names_that_would_write_on_the_terminal(tmp_path):
    key = "\x1b[2J\n" * 3
    path = weights_file(tmp_path, safetensors_bytes({key: of_shape([1], 0, 4)}, bytes(4)))
    with pytest.raises(WeightsError, match=r"the first are \\x1b\[2J\\n") as caught:
        load_network(path)
    assert str(caught.value).isprintable()


# --- damage ------------------------------------------------------------------------------------

FIXTURES = sorted(
    path for path in (DATA / "checkpoints").iterdir() if path.suffix in (".pkl", ".pt")
)


def read_or_refuse(path):
    try:
        read_container(path)
    except WeightsError as error:
        message = str(error)
    else:
        return "read"
    assert message.isprintable()
    assert str(path) in message
    return "refused"


@pytest.mark.parametrize("source", FIXTURES, ids=lambda path: path.name)
def test_a_file_cut_anywhere_is_refused(tmp_path, source):
    data = source.read_bytes()
    rng = np.random.default_rng(0)
    offsets = {0, 1, 2, 9, len(data) - 1, *rng.integers(0, len(data), 30).tolist()}
    for offset in sorted(offsets):
        assert read_or_refuse(weights_file(tmp_path, data[:offset])) == "refused", offset


@pytest.mark.parametrize("source", FIXTURES, ids=lambda path: path.name)
def test_wrong_bytes_end_in_weights_or_in_a_refusal(tmp_path, source):
    data = source.read_bytes()
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(60):
        wrong = bytearray(data)
        # half of them near the beginning, where the structure is
        end = len(data) if rng.random() < 0.5 else 3000
        for position in rng.integers(0, end, 3):
            wrong[position] ^= 1 << rng.integers(0, 8)
        outcomes.add(read_or_refuse(weights_file(tmp_path, bytes(wrong))))
    assert "refused" in outcomes


# --- files that are none -------------------------------------------------------------------------


def test_links(tmp_path):
    source = DATA / "checkpoints" / "pulse-32.mapping.pt"
    (tmp_path / "good.pt").symlink_to(source)
    assert len(read_container(tmp_path / "good.pt").tensors) == 16
    links = {"/dev/zero": "is a pipe or a device", str(tmp_path): "is a folder"}
    links |= {"nowhere": "is a link to a file that is not there", "loop.pt": "link"}
    for target, words in links.items():
        path = tmp_path / "loop.pt"
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        assert words in refusal_of(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "weights.pkl"
    os.mkfifo(path)
    assert "is a pipe or a device" in refusal_of(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty: 0 bytes"),
        (b"\n <!DOCTYPE html><html>", "it is a web page, perhaps a sign-in"),
        (b"version https://git-lfs.github.com/spec/v1\n", "run git lfs pull"),
        (b"\x89PNG\r\n", "is no weights file; PULSE reads safetensors"),
    ],
)
def test_other_files_are_told_what_they_are(tmp_path, data, words):
    assert words in refusal_of(weights_file(tmp_path, data))


def test_a_missing_file(tmp_path):
    message = refusal_of(tmp_path / "nowhere.pkl")
    assert "No such file" in message
    assert "pulse weights list" in message
