"""The batch size that is measured: clocks and memory set by the test, and the real device."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from pulse.batch import batch_size
from pulse.batch.batch_size import BatchSize, measure_batch_size
from pulse.batch.runner import Runner
from pulse.settings import RunSettings, SearchSettings, UpscaleSettings

SETTINGS = SearchSettings(steps=3)


def measured(monkeypatch, generator, seconds, most=64, bytes_each=0, free_bytes=1):
    """The result where a batch of n takes `seconds(n)` a search."""
    tried = []

    def measure(_generator, _settings, size):
        tried.append(size)
        return seconds(size), bytes_each

    monkeypatch.setattr(batch_size, "_measure", measure)
    monkeypatch.setattr(batch_size, "_free_bytes", lambda: free_bytes)
    return measure_batch_size(generator, SETTINGS, most), tried


def test_it_grows_while_each_search_gets_cheaper(monkeypatch, small_generator):
    best, tried = measured(monkeypatch, small_generator, lambda n: max(1 / n, 1 / 8))
    assert (best, tried) == (8, [1, 2, 4, 8, 16])


def test_a_few_go_together_even_where_that_gains_nothing(monkeypatch, small_generator):
    """Batches of 4 and more round alike where smaller ones do not."""
    assert measured(monkeypatch, small_generator, lambda _: 1.0) == (4, [1, 2, 4, 8])
    assert measured(monkeypatch, small_generator, lambda _: 1.0, most=2) == (2, [1, 2])


def test_there_is_no_more_than_the_work_needs(monkeypatch, small_generator):
    assert measured(monkeypatch, small_generator, lambda n: 1 / n, most=4) == (4, [1, 2, 4])
    assert measured(monkeypatch, small_generator, lambda n: 1 / n, most=5)[0] == 8  # not 4 and 1
    assert measured(monkeypatch, small_generator, lambda n: 1 / n, most=1) == (1, [1])


def test_no_step_that_is_measured_is_the_last_of_a_search(small_generator):
    """Which takes no gradient, and so less time and memory."""
    search = batch_size._search_of(small_generator, SearchSettings(steps=1, tolerance=1.0), 2)
    for _ in range(1 + batch_size.REPEATS):
        search.step()
        assert search.finished() == []


def test_a_batch_that_the_device_refuses_is_not_taken(monkeypatch, small_generator):
    def seconds(n):
        if n > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1 / n

    assert measured(monkeypatch, small_generator, seconds) == (4, [1, 2, 4, 8])


def test_a_batch_that_the_memory_would_not_hold_is_not_tried(monkeypatch, small_generator):
    """Systems kill a process before they refuse it memory: 8 would take 0.8 of what is free."""
    best, tried = measured(
        monkeypatch, small_generator, lambda n: 1 / n, bytes_each=100, free_bytes=1000
    )
    assert (best, tried) == (4, [1, 2, 4])


def test_on_the_real_device(small_generator):
    size = measure_batch_size(small_generator, SETTINGS, most=8)
    assert size in (1, 2, 4, 8)
    seconds, bytes_each = batch_size._measure(small_generator, SETTINGS, 2)
    assert 0 < seconds < 10
    assert bytes_each >= 0
    assert batch_size._free_bytes() > 2**20


@pytest.mark.parametrize(
    ("size", "most", "work", "suits"),
    [(4, 16, 8, True), (4, 16, 1000, True), (16, 16, 16, True), (16, 16, 17, False)],
)
def test_an_earlier_size_holds_unless_only_the_work_bounded_it(size, most, work, suits):
    assert BatchSize(size, most).suits(work) is suits


def test_a_run_keeps_the_batch_size_of_before(tmp_path, small_generator, monkeypatch):
    """What is measured differs from time to time, and with it the last bits of the pictures."""
    for i in range(2):
        Image.new("RGB", (8, 8), (90, 90 * i, 0)).save(tmp_path / f"{i}.png")
    settings = UpscaleSettings(candidates=2, search=SETTINGS)
    out = tmp_path / "out"
    asked = []

    def measure(_generator, _settings, most):
        asked.append(most)
        return 2

    monkeypatch.setattr("pulse.batch.runner.measure_batch_size", measure)

    def run(inputs, size=None):
        Runner(out, small_generator, settings, RunSettings(batch_size=size)).run(inputs)
        return json.loads((out / "run.json").read_text())["batch_size"]

    assert run([tmp_path / "0.png"]) == {"size": 2, "most": 2}
    assert run([tmp_path / "0.png"]) == {"size": 2, "most": 2}
    assert asked == [2]
    assert run([tmp_path]) == {"size": 2, "most": 4}  # more work: measured again
    assert asked == [2, 4]
    assert run([tmp_path], size=3) == {"size": 3, "most": 3}
