"""The report: one page that is whole by itself, whatever servers answered, and that people can read everywhere."""

import wave
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from playwright.async_api import ViewportSize

from app.load import figures, record, report
from app.load.record import Record
from app.load.results import CallResult, What
from tests.load.made import MARKUP, call, whole
from tests.load.made import record as made_record
from tests.pages.browser import DESKTOP, PHONE, accessible, chromium, opened

VOID = {"meta", "link", "br"}
MAX_BYTES = 500_000
PLAYABLE = """new Promise(done => {
    const audio = document.querySelector("audio");
    audio.onloadedmetadata = () => done(audio.duration);
    audio.onerror = () => done(0);
    audio.load();
})"""
"""How long the recording is, once the page has it."""


class Reader(HTMLParser):
    """Elements in their order, with what they point to; fails where one is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "xlink:href")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_well_formed_and_points_to_nothing_but_recordings() -> None:
    run = whole()
    text = report.html(run, figures.compare(run, run), "old.json")
    page = Reader(text)
    assert set(page.links) == {"data:,", "./report-calls/call-0.wav"}
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert "url(" not in text
    assert "@import" not in text
    assert len(text) < MAX_BYTES
    assert page.tags.count("svg") > 10


@pytest.mark.parametrize("place", ["javascript:alert(1)", "//host/a.wav", "http://host/a.wav", "run #1?-calls/a.wav"])
def test_recordings_are_beside_the_page_whatever_they_are_called(place: str) -> None:
    run = made_record(call(0, audio=place))
    links = [link for link in Reader(report.html(run)).links if link != "data:,"]
    assert len(links) == 2
    for link in links:
        found = urljoin("http://here/reports/run.html", link)
        assert found.startswith("http://here/reports/")
        assert unquote(urlsplit(found).path).endswith(place.rpartition("/")[2])


def test_what_a_server_said_is_text_on_the_page() -> None:
    text = report.html(whole())
    assert MARKUP not in text
    assert "<img" not in text
    assert "onerror=alert(1)&gt;" in text


def test_it_tells_what_was_left_out_and_how_it_was_measured() -> None:
    words = " ".join(Reader(report.html(whole())).texts)
    assert "1 measurements and 0 judgements were left out" in words
    assert "n 64" in words, "64 barge-ins, without the one that the tester spoilt"
    assert "2 of 3 limits broken" in words
    assert "not measured" in words
    assert "one machine" in words
    assert "10 calls held all limits" in words
    assert "1 of the calls were recorded" in words


def test_a_slow_tester_is_said_at_the_top() -> None:
    slow = made_record(call(0, (What.response, 400.0, 1.0), own=50))
    assert "too slow" in report.html(slow).partition("</header>")[0]
    assert "too slow" not in report.html(made_record(call(0, (What.response, 400.0, 1.0)))).partition("</header>")[0]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (made_record(), "No call was up"),
        (made_record(CallResult(0, "talk", 0.0, refused="503")), "refused 503"),
        (made_record(CallResult(0, "talk", 0.0, error="unreachable")), "unreachable"),
        (made_record(call(0)), "No limits were set"),
        (made_record(call(0), troubles=["process 1 died"], stopped=True), "process 1 died"),
        (made_record(call(0, (What.response, 0.0, 0.0), talked_s=0.001)), "response"),
    ],
    ids=["no calls", "refused", "unreachable", "one call", "broken", "no time"],
)
def test_runs_of_which_little_is_known_have_a_page(run: Record, words: str) -> None:
    text = report.html(run)
    Reader(text)
    assert words in text


def test_a_run_is_drawn_again_from_its_file(tmp_path: Path) -> None:
    run = whole()
    (tmp_path / "run.json").write_bytes(record.to_json(run))
    assert report.html(record.read(tmp_path / "run.json")) == report.html(run)


def test_a_comparison_says_what_is_better_and_what_is_chance() -> None:
    slow = made_record(call(0, *((What.response, 400.0 + at, 1.0) for at in range(200))))
    fast = made_record(call(0, *((What.response, 100.0 + at / 10, 1.0) for at in range(200))))
    text = report.html(fast, figures.compare(slow, fast), "old.json")
    assert "Against old.json" in text
    assert "better" in text
    assert "worse" in report.html(slow, figures.compare(fast, slow), "old.json")
    assert "better</span>" not in report.html(fast, figures.compare(fast, fast), "old.json")


def test_a_run_of_very_many_calls_is_no_page_without_end() -> None:
    text = report.html(made_record(*(call(number, began_s=number / 100) for number in range(5000))))
    assert len(text) < MAX_BYTES
    assert ">5,000<" in text


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)], ids=["desk", "phone in the dark"])
async def test_people_can_read_it(tmp_path: Path, size: ViewportSize, dark: bool) -> None:
    (tmp_path / "report.html").write_text(report.html(whole()), encoding="utf-8")
    (tmp_path / "report-calls").mkdir()
    with wave.open(str(tmp_path / "report-calls" / "call-0.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(8000))
    said: list[str] = []
    url = (tmp_path / "report.html").as_uri()
    async with chromium() as browser, opened(browser, url, size=size, dark=dark) as page:
        page.on("console", lambda one: said.append(one.text))
        page.on("requestfailed", lambda one: said.append(one.url))
        await page.reload()
        await accessible(page)
        assert await page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert await page.evaluate(PLAYABLE) == pytest.approx(0.25, abs=0.01)
    assert said == []
