"""What a server says of itself, read; servers that say nothing, or other things."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from app.load.server import ASKS_WHO, Watch, quantile, read

HEALTH = '{"status": "ok", "version": "1", "flows": [], "calls": 0, "max_calls": 5}'

PAGE = """\
# TYPE voicegate_loop_lag_seconds histogram
voicegate_loop_lag_seconds_bucket{le="0.001"} 50
voicegate_loop_lag_seconds_bucket{le="0.01"} 99
voicegate_loop_lag_seconds_bucket{le="+Inf"} 100
voicegate_loop_lag_seconds_sum 0.5
voicegate_loop_lag_seconds_count 100
# TYPE voicegate_calls_live gauge
voicegate_calls_live{flow="a",transport="plain"} 2
voicegate_calls_live{flow="b",transport="sip"} 3
"""


def test_families_are_summed_over_their_labels() -> None:
    page = read(PAGE, 1.0)
    assert page.sum("voicegate_calls_live") == 5
    assert page.sum("voicegate_other") == 0
    assert page.buckets["voicegate_loop_lag_seconds"] == {0.001: 50, 0.01: 99, float("inf"): 100}


def test_quantiles_are_as_fine_as_the_buckets() -> None:
    buckets = read(PAGE, 1.0).buckets["voicegate_loop_lag_seconds"]
    assert quantile(buckets, 0.5) == pytest.approx(0.001)
    assert quantile(buckets, 0.99) == pytest.approx(0.01)
    assert quantile(buckets, 0.999) == 0.01, "what lies above the last bound, no page tells"
    assert quantile({}, 0.5) is None
    assert quantile({1.0: 0.0}, 0.5) is None


@asynccontextmanager
async def serving(health: web.Response, metrics: web.Response) -> AsyncIterator[tuple[str, list[str]]]:
    asked: list[str] = []

    def answer(response: web.Response) -> object:
        async def handler(request: web.Request) -> web.Response:
            asked.append(request.path)
            return web.Response(status=response.status, body=response.body)

        return handler

    app = web.Application()
    app.router.add_get("/health", answer(health))  # type: ignore[arg-type]  # of whichever response
    app.router.add_get("/metrics", answer(metrics))  # type: ignore[arg-type]
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield site.name, asked
    finally:
        await runner.cleanup()


async def watched(site: str) -> Watch:
    watch = Watch(site)
    await watch.begin()
    await watch.look(time.perf_counter())
    await watch.end(time.perf_counter(), 10.0, 2)
    return watch


async def test_a_server_that_is_ours_is_asked() -> None:
    async with serving(web.Response(text=HEALTH), web.Response(text=PAGE)) as (site, asked):
        watch = await watched(site)
    assert asked == ["/health", "/metrics", "/metrics", "/metrics"]
    assert watch.samples[0].values["calls"] == 5
    assert watch.trouble == ""


async def test_memory_is_counted_from_before_any_call() -> None:
    page = PAGE + "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 9e6\n"
    async with serving(web.Response(text=HEALTH), web.Response(text=page)) as (site, _):
        first = await watched(site)
        later = Watch(site, empty_bytes=5e6)
        await later.begin()
        await later.end(time.perf_counter(), 10.0, 2)
    assert (first.empty_bytes, first.samples[-1].values["memory_mb_per_call"]) == (9e6, 0)
    assert later.samples[-1].values["memory_mb_per_call"] == 2


@pytest.mark.parametrize(
    "health",
    [
        web.Response(text="hello"),
        web.Response(text='{"status": "ok"}'),
        web.Response(body=b"\xff\xfe"),
        web.Response(text='{"x": ' + "[" * 50_000),
        web.Response(status=404, text=HEALTH),
    ],
    ids=["words", "another's", "bytes", "nested", "nothing"],
)
async def test_other_servers_are_asked_once_and_left_alone(health: web.Response) -> None:
    async with serving(health, web.Response(text=PAGE)) as (site, asked):
        watch = await watched(site)
    assert asked == ["/health"]
    assert (watch.samples, watch.trouble, watch.latest) == ([], "", {})


async def test_who_asks_without_a_token_is_told_so() -> None:
    async with serving(web.Response(text=HEALTH), web.Response(status=401)) as (site, _):
        watch = await watched(site)
    assert (watch.samples, watch.trouble) == ([], ASKS_WHO)


async def test_a_page_of_many_labels_is_read_to_its_end() -> None:
    rows = "".join(
        f'voicegate_calls_live{{flow="flow-{number:06d}",transport="plain"}} 1\n' for number in range(10_000)
    )
    page = "# TYPE voicegate_calls_live gauge\n" + rows
    async with serving(web.Response(text=HEALTH), web.Response(text=page)) as (site, _):
        watch = await watched(site)
    assert watch.samples[0].values["calls"] == 10_000


@pytest.mark.parametrize("page", ["<html>", "a{b= 1\n", "\x00"])
async def test_a_page_that_is_none_is_passed_over(page: str) -> None:
    async with serving(web.Response(text=HEALTH), web.Response(text=page)) as (site, _):
        watch = await watched(site)
    assert watch.trouble == ""


async def test_who_names_a_server_that_is_none_of_ours_is_told_so() -> None:
    watch = Watch("http://me:secret@127.0.0.1:9", named=True)
    await watch.begin()
    assert watch.trouble == "http://127.0.0.1:9 is no Voicegate server"


async def test_nobody_is_there() -> None:
    watch = await watched("http://127.0.0.1:9")
    assert (watch.samples, watch.trouble) == ([], "")
