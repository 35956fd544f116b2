"""labels.csv: which column counts, and one clear line for each mistake."""

from __future__ import annotations

import re

import pytest

from pulse.audit.labels import read_labels
from pulse.errors import PulseError


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def table(folder, text):
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def test_groups_are_read_by_column_and_the_unsaid_left_out(folder):
    path = table(folder, "file,group,age\na.jpg, x ,30\nb.jpg,y,41\nc.jpg,NA,\n")
    labels = read_labels(path, folder, None)
    assert labels.column == "group"
    assert labels.groups == {folder / "a.jpg": "x", folder / "b.jpg": "y"}
    assert labels.unsaid == (folder / "c.jpg",)
    assert read_labels(path, folder, "age").groups == {
        folder / "a.jpg": "30",
        folder / "b.jpg": "41",
    }


def test_a_file_from_a_spreadsheet_with_a_byte_order_mark_is_read(folder):
    path = folder / "labels.csv"
    path.write_bytes("\ufefffile;".replace(";", ",").encode() + b"sex\na.jpg,f\n")
    assert read_labels(path, folder, None).groups == {folder / "a.jpg": "f"}


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("name,group\n", None, "have no column 'file'; the first line has to name the columns"),
        ("file,sex,age\na.jpg,f,3\n", None, "choose the column of the groups with --group; .* sex"),
        ("file,group\na.jpg,x\n", "tone", "have no column 'tone'; there are: group"),
        ("file,group\nz.jpg,x\n", None, "line 2 of the labels .* names '.*z.jpg', which is not"),
        ("file,group\na.jpg,x\na.jpg,y\n", None, "line 3 of the labels .* again; each picture has"),
        ("file,group\na.jpg,\n", None, "tell nobody's 'group'; choose another --group"),
    ],
)
def test_mistakes_are_named(folder, text, column, message):
    with pytest.raises(PulseError, match=message):
        read_labels(table(folder, text), folder, column)


def test_a_missing_table_is_named(folder):
    text = f"cannot read the labels {re.escape(str(folder / 'labels.csv'))}: No such file"
    with pytest.raises(PulseError, match=text):
        read_labels(folder / "labels.csv", folder, None)
