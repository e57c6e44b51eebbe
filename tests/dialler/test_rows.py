"""Lists as people write them, and as nobody should."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dialler import rows
from app.dialler.address import Numbering
from app.dialler.rows import BadList, Row, read_rows


def test_a_list() -> None:
    sheet = read_rows(
        b"\xef\xbb\xbfTo;ID;time_zone;name;doctor\r\n"
        b'+49 30 123456;a1;Europe/Berlin;"Ada; of\nB";Dr. X\r\n'
        b"\r\n"
        b"030 / 654321;;; Eve ;\r\n"
        b"sip:bob@Example.com;b;;;\r\n",
        Numbering("49"),
    )
    assert sheet.problems == ()
    assert sheet.rows == (
        Row("id a1", "+4930123456", 2, "Europe/Berlin", {"name": "Ada; of\nB", "doctor": "Dr. X"}),
        Row("to +4930654321", "+4930654321", 5, "", {"name": "Eve", "doctor": ""}),
        Row("id b", "sip:bob@example.com", 6, "", {"name": "", "doctor": ""}),
    )


def test_bad_rows_are_told_with_their_line_and_left_out() -> None:
    body = """to,id,time_zone,x
+4930123456,1,,
+49 30 123-456,2,,
+4930123457,1,,
+4930123458,3,Mars/Olympus,
hello,4,,
+4930123459,5,
"+493012346\n0",6,,
,7,,
+4930123461;maddr=1.2.3.4,8,,
+4930123462,9,,\0
+4930123463,10,,ok
"""
    sheet = read_rows(body.encode())
    assert [row.key for row in sheet.rows] == ["id 1", "id 10"]
    told = {problem.line: problem.text for problem in sheet.problems}
    assert list(told) == [3, 4, 5, 6, 7, 8, 10, 11, 12]
    assert told[3] == "the same destination as in line 2"
    assert told[4] == "the same id as in line 2"
    assert "time zone" in told[5]
    assert told[7] == "3 values for 4 columns"
    assert not any("4930" in text or "hello" in text for text in told.values())


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "columns"),
        (b"number,name\n1,2\n", "columns"),
        (b"to,name,name\n", "same name"),
        (b"to,to\n", "same name"),
        (b"to,a b\n", "letters"),
        (b"to,\n", "letters"),
        ("to,größe\n".encode(), "letters"),
        ("to,größe\n".encode("latin-1"), "UTF-8"),
        (b'to\n"+49\n', "line 2"),
        (b'to\n"+4930123456"x\n', "line 2"),
        (b"to\n" + b"1" * 200_000, "line 2"),
        (b"to," + b",".join(b"c%d" % n for n in range(60)), "at most 50 columns"),
    ],
)
def test_lists_that_cannot_be_used(body: bytes, told: str) -> None:
    with pytest.raises(BadList, match=told):
        read_rows(body)


def test_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_ROWS", 3)
    monkeypatch.setattr(rows, "MAX_PROBLEMS", 2)
    assert len(read_rows(b"to\n100\n101\n102\n").rows) == 3
    with pytest.raises(BadList, match="3 rows"):
        read_rows(b"to\n100\n101\n102\n103\n")
    assert [problem.line for problem in read_rows(b"to\nx\nx\nx\nx\n").problems] == [2, 3, 4]
    monkeypatch.setattr(rows, "MAX_LIST_BYTES", 10)
    with pytest.raises(BadList, match="10 bytes"):
        read_rows(b"to\n1000000000")


def test_long_values_and_ids() -> None:
    sheet = read_rows(b"to,x,id\n100," + b"y" * 1001 + b",\n101,," + b"z" * 101 + b"\n102," + b"y" * 1000 + b",1\n")
    assert [row.to for row in sheet.rows] == ["102"]
    assert [problem.line for problem in sheet.problems] == [2, 3]


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text('to,id;\n\r"+49 0123\0x', max_size=100).map(str.encode))
def test_anything_is_a_list_or_a_clear_error(body: bytes) -> None:
    for start in (b"", b"to,id,x\n"):
        try:
            sheet = read_rows(start + body)
        except BadList:
            continue
        assert len({row.key for row in sheet.rows}) == len({row.to for row in sheet.rows}) == len(sheet.rows)
