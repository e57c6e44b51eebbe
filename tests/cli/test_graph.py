"""`voicegate graph`."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.inside import Inside


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inside:
    return Inside(tmp_path, monkeypatch)


def test_a_drawing_on_standard_output(inside: Inside) -> None:
    done = inside("graph", "clinic")
    assert (done.status, done.err) == (0, "")
    assert ElementTree.fromstring(done.out).tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize(("form", "begins"), [("svg", "<svg "), ("mermaid", "flowchart TD\n")])
def test_a_drawing_in_a_file(inside: Inside, form: str, begins: str) -> None:
    done = inside("graph", "clinic", "--format", form, "-o", "clinic.out")
    assert (done.status, done.out, done.err) == (0, "", "")
    assert (inside.folder / "clinic.out").read_text(encoding="utf-8").startswith(begins)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clinicc"], "did you mean clinic?"),
        (["clinic", "-o", "no/such/folder.svg"], "no/such/folder.svg: cannot be written"),
        (["clinic", "-o", "."], "cannot be written"),
        (["broken.yaml"], "broken.yaml:3"),
    ],
)
def test_mistakes_are_one_clear_line(inside: Inside, arguments: list[str], words: str) -> None:
    (inside.folder / "broken.yaml").write_text("flow: b\nversion: 1\nstart: no\nsteps: {a: {say: Hi., end: x}}\n")
    done = inside("graph", *arguments)
    assert (done.status, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("error: ")
    assert words in done.err


def test_an_unknown_format(inside: Inside) -> None:
    done = inside("graph", "clinic", "--format", "png")
    assert done.status == 2
    assert "mermaid" in done.err
