from __future__ import annotations

import json
from contextlib import closing

import pytest

from pulse.batch.journal import Journal, Record
from pulse.errors import PulseError


def record(source="a.png", **values):
    return Record(source, "abc", "a", "saved", "run", **values)


def append(journal, records):
    with closing(journal.open()) as writer:
        writer.append(records)


def test_records_come_back_as_they_were(tmp_path):
    records = [record(), record("b\n\udce9 顔.png", notes=("one", "two"), error=1e-3, face=1)]
    journal = Journal(tmp_path)
    append(journal, records[:1])
    append(journal, records[1:])
    assert list(journal.read()) == records
    assert (tmp_path / "journal.jsonl").read_bytes().isascii()
    assert (tmp_path / "journal.jsonl").read_text().count("\n") == 2


def test_no_journal_is_an_empty_one(tmp_path):
    assert list(Journal(tmp_path).read()) == []
    Journal(tmp_path).repair()
    assert not (tmp_path / "journal.jsonl").exists()


@pytest.mark.parametrize("length", [1, 50, 5000])
@pytest.mark.parametrize("whole", [0, 1, 3])
def test_a_torn_last_line_is_cut_off(tmp_path, whole, length):
    journal = Journal(tmp_path)
    append(journal, [record(str(i)) for i in range(whole)])
    with journal.path.open("a") as file:
        file.write("x" * length)
    before = list(journal.read())
    assert len(before) == whole
    journal.repair()
    append(journal, [record("new")])
    assert [r.source for r in journal.read()] == [*(str(i) for i in range(whole)), "new"]


def test_fields_of_later_versions_are_passed_over(tmp_path):
    journal = Journal(tmp_path)
    append(journal, [record()])
    values = json.loads(journal.path.read_text()) | {"mood": "good"}
    journal.path.write_text(json.dumps(values) + "\n")
    assert list(journal.read()) == [record()]


@pytest.mark.parametrize("line", ["{}", "nonsense", "[1]", '"text"', '{"source": "a"}'])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    journal = Journal(tmp_path)
    append(journal, [record()])
    with journal.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(PulseError, match=r"journal\.jsonl line 2 is not a record .* with -o"):
        list(journal.read())


def test_a_journal_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(PulseError, match=r"cannot write the journal .*: Is a directory"):
        append(Journal(tmp_path), [record()])


def test_a_journal_that_is_no_longer_there_is_not_begun_anew(tmp_path):
    """A lost output folder that came back empty would pass for a run from the start."""
    journal = Journal(tmp_path)
    with closing(journal.open()) as writer:
        writer.append([record()])
        journal.path.rename(tmp_path / "moved")
        for _ in range(2):
            with pytest.raises(PulseError, match="was removed or replaced during the run"):
                writer.append([record()])
            journal.path.write_text("")  # another file of that name is not ours either
    assert (tmp_path / "moved").read_text().count("\n") == 1
    assert journal.path.read_text() == ""


def test_the_index_knows_the_latest_record_of_each_candidate(tmp_path):
    journal = Journal(tmp_path)
    first = [record(face=1, candidate=i, error=0.5) for i in (1, 2)]
    append(journal, [*first, record("b\n\udce9.png")])
    again = record(face=1, candidate=2, error=0.1)
    append(journal, [again])
    with closing(journal.index()) as index:
        assert index.records_of("a.png") == [first[0], again]
        assert len(index.records_of("b\n\udce9.png")) == 1
        assert index.records_of("c.png") == []
        assert list(index.folders()) == [("a.png", "a"), ("b\n\udce9.png", "a")]
