"""Pickles as NVIDIA's code and torch write them, without NVIDIA's code."""

from __future__ import annotations

import io
import sys
import types

import pytest
import torch


class Call:
    """Pickles to the call of a function."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts

    def __call__(self):
        """Never called: pickle writes a call of what a call returns only if it could be one."""


class Persistent:
    """Pickles as NVIDIA's PyTorch code does, source included."""

    def __init__(self, state, source=""):
        self.meta = {
            "type": "class", "version": 6, "module_src": source, "class_name": "Generator",
            "state": state,
        }  # fmt: skip

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


class Network:
    """Pickles as NVIDIA's TensorFlow code does."""


Network.__module__, Network.__qualname__ = "dnnlib.tflib.network", "Network"


@pytest.fixture(autouse=True)
def nvidia_modules(monkeypatch):
    """Modules of NVIDIA's names, so that pickles of its form can be written here."""
    persistence = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta):
        module = types.ModuleType("embedded")
        exec(meta["module_src"], vars(module))  # as the original does
        return meta

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj
    network = types.ModuleType("dnnlib.tflib.network")
    network.Network = Network
    for name in ("torch_utils", "dnnlib", "dnnlib.tflib"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", persistence)
    monkeypatch.setitem(sys.modules, "dnnlib.tflib.network", network)


def module_state(**parameters):
    return {"_parameters": parameters, "_buffers": {}, "_modules": {}}


def legacy_bytes(content):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def tensorflow_network(**changes):
    network = Network()
    network.__dict__.update({"version": 4, "name": "Gs", "variables": [], "components": {}})
    network.__dict__.update(changes)
    return network
