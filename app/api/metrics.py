"""`GET /metrics`, as Prometheus reads it (text format 0.0.4, or OpenMetrics where it is asked for).

The families are all here, in one table. Most values stand elsewhere anyway, and are gathered when somebody asks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from app.api.access import is_forwarded
from app.api.session import SignIn
from app.api.wire import PRIVATE
from app.runtime.journal import JournalWriter
from app.runtime.metrics import Metrics, transport_of
from app.runtime.outbound import Outbound
from app.runtime.registry import Registry
from app.settings import Role
from media.clock import Ticker
from media.histogram import Histogram
from media.sip.guard import Reason
from media.sip.server import SipServer
from media.source import Network, belongs, field_values
from media.traffic import Traffic

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"

Labels = tuple[str, ...]
Row = tuple[Labels, float | Histogram]


class Family(NamedTuple):
    name: str
    kind: str
    help: str
    labels: Labels = ()


FAMILIES: Final = (
    Family("voicegate_build_info", GAUGE, "Always 1.", ("version",)),
    # Calls
    Family("voicegate_calls_live", GAUGE, "Calls that live now.", ("flow", "transport")),
    Family("voicegate_calls_max", GAUGE, "Calls that may live at once."),
    Family("voicegate_admits", GAUGE, "1 while one more call would be taken."),
    Family("voicegate_load_ratio", GAUGE, "Share of a core in use, of the last 2 s, by which calls are admitted."),
    Family("voicegate_draining", GAUGE, "1 while the server takes no more calls because it stops."),
    Family("voicegate_calls_begun_total", COUNTER, "Calls that came or were placed.", ("flow", "transport")),
    Family("voicegate_calls_ended_total", COUNTER, "Calls that ended, and why.", ("flow", "transport", "cause")),
    Family("voicegate_calls_refused_total", COUNTER, "Calls that were not taken, and why.", ("transport", "reason")),
    Family("voicegate_call_outcomes_total", COUNTER, "What the flow made of calls.", ("flow", "outcome")),
    Family("voicegate_call_duration_seconds", HISTOGRAM, "How long calls lasted.", ("flow",)),
    # The conversation
    Family("voicegate_barge_ins_total", COUNTER, "Callers who took the floor.", ("flow", "transport")),
    Family("voicegate_holds_total", COUNTER, "Times the agent fell silent, to listen.", ("flow", "transport")),
    Family("voicegate_resumes_total", COUNTER, "Times it then went on: nobody meant it.", ("flow", "transport")),
    Family("voicegate_barge_in_silence_seconds", HISTOGRAM, "From the onset or key to the silence."),
    Family("voicegate_turn_stage_seconds", HISTOGRAM, "What the caller waited for, by stage.", ("flow", "stage")),
    Family("voicegate_first_token_seconds", HISTOGRAM, "From request to a model's first token.", ("flow", "engine")),
    Family("voicegate_tokens_total", COUNTER, "Tokens of models.", ("flow", "direction")),
    Family("voicegate_provider_errors_total", COUNTER, "Failures of speech, models and tools.", ("stage", "kind")),
    # The gate
    Family("voicegate_verdicts_total", COUNTER, "Decisions of the gate.", ("flow", "tool", "decision", "rule")),
    Family("voicegate_tool_calls_total", COUNTER, "Tool calls of ended calls, as recorded.", ("flow", "tool", "state")),
    # Calls out
    Family("voicegate_calls_out_total", COUNTER, "Calls that were placed and are over.", ("outcome",)),
    Family("voicegate_calls_out_refused_total", COUNTER, "Orders to call that were not carried out.", ("rule",)),
    Family("voicegate_transfers_total", COUNTER, "Transfers in calls that ended.", ("by", "outcome")),
    # The process
    Family("voicegate_loop_lag_seconds", HISTOGRAM, "How late each 20 ms tick began."),
    Family("voicegate_media_busy_seconds_total", COUNTER, "Time spent in ticks."),
    Family("voicegate_missed_ticks_total", COUNTER, "Ticks given up because the clock was far behind."),
    Family("voicegate_journal_waiting_records", GAUGE, "Records that are not on disk yet."),
    Family("voicegate_journal_waiting_bytes", GAUGE, "Their size."),
    Family("voicegate_journal_lag_seconds", GAUGE, "How long the oldest write has waited."),
    Family("voicegate_journal_failing", GAUGE, "1 while the disk does not take records."),
    # Audio
    Family("voicegate_sent_frames_total", COUNTER, "Frames of 20 ms that were said.", ("transport",)),
    Family("voicegate_late_frames_total", COUNTER, "Frames that left after their time.", ("transport",)),
    Family("voicegate_underruns_total", COUNTER, "Times speech had to wait for its synthesis.", ("transport",)),
    Family("voicegate_rtp_received_packets_total", COUNTER, "RTP packets that were taken.", ("transport",)),
    Family("voicegate_rtp_sent_packets_total", COUNTER, "RTP packets sent.", ("transport",)),
    Family("voicegate_rtp_lost_packets_total", COUNTER, "RTP packets that never came.", ("transport",)),
    Family("voicegate_rtp_late_packets_total", COUNTER, "RTP packets that came too late to be heard.", ("transport",)),
    Family("voicegate_rtp_concealed_frames_total", COUNTER, "Frames made up for what was missing.", ("transport",)),
    Family("voicegate_rtp_bad_packets_total", COUNTER, "Packets that could not be read.", ("transport",)),
    Family("voicegate_rtp_stray_packets_total", COUNTER, "RTP packets of another source.", ("transport",)),
    Family("voicegate_rtp_excess_packets_total", COUNTER, "Packets beyond what a leg may send.", ("transport",)),
    Family("voicegate_rtp_legs", GAUGE, "Live legs that were heard over RTP.", ("transport",)),
    Family("voicegate_rtp_jitter_seconds", GAUGE, "Mean jitter of these legs.", ("transport",)),
    Family("voicegate_rtp_opinion_score", GAUGE, "Mean opinion score of these legs, 1 to 4.5.", ("transport",)),
    Family("voicegate_rtp_leg_loss_ratio", HISTOGRAM, "Packets lost or late, of each leg at its end.", ("transport",)),
    Family("voicegate_rtp_leg_jitter_seconds", HISTOGRAM, "Jitter of each leg at its end.", ("transport",)),
    Family("voicegate_rtp_leg_opinion_score", HISTOGRAM, "Opinion score of each leg at its end.", ("transport",)),
    # SIP
    Family("voicegate_sip_dialogs", GAUGE, "SIP calls that are set up, stand or end."),
    Family("voicegate_sip_dropped_total", COUNTER, "Messages and streams dropped unanswered.", ("reason",)),
    Family("voicegate_sip_refused_total", COUNTER, "Requests refused, by the code of our answer.", ("code",)),
    Family("voicegate_sip_offences_total", COUNTER, "Wrong passwords, and what cannot be read."),
    Family("voicegate_sip_bans_total", COUNTER, "Sources banned for a while."),
    Family("voicegate_sip_trunk_up", GAUGE, "1 while the trunk is found and answers.", ("trunk",)),
    Family("voicegate_sip_trunk_deaths_total", COUNTER, "Times a trunk stopped answering.", ("trunk",)),
    Family("voicegate_sip_trunk_registered", GAUGE, "1 while we are registered there.", ("trunk",)),
    Family("voicegate_sip_registration_failures_total", COUNTER, "Registrations that failed or ran out.", ("trunk",)),
)

SUMS: Final[Mapping[str, str]] = {
    "voicegate_sent_frames_total": "sent_frames",
    "voicegate_late_frames_total": "late_frames",
    "voicegate_underruns_total": "underruns",
    "voicegate_rtp_received_packets_total": "received_packets",
    "voicegate_rtp_sent_packets_total": "sent_packets",
    "voicegate_rtp_lost_packets_total": "lost_packets",
    "voicegate_rtp_late_packets_total": "late_packets",
    "voicegate_rtp_concealed_frames_total": "concealed_frames",
    "voicegate_rtp_bad_packets_total": "bad_packets",
    "voicegate_rtp_stray_packets_total": "stray_packets",
    "voicegate_rtp_excess_packets_total": "excess_packets",
}

FRAMES: Final = ("sent_frames", "late_frames", "underruns")
"""What all transports have; the rest is RTP's."""

_BY_NAME: Final = {family.name: family for family in FAMILIES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the values stand. What is told by a function may not be there yet, or never."""

    version: str
    registry: Registry
    metrics: Metrics
    writer: JournalWriter
    ticker: Ticker
    traffic: Traffic
    sip: Callable[[], SipServer | None]
    outbound: Callable[[], Outbound | None]


class Page:
    """Implements `prometheus_client.registry.Collector`. On the loop's thread, so that nothing has to be locked."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._all = CollectorRegistry(auto_describe=False)
        self._all.register(self)
        ProcessCollector(registry=self._all)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its media type."""
        encode, media_type = choose_encoder(accept)
        return encode(self._all), media_type

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        for name, rows in _gathered(self._sources):
            yield _metric(_BY_NAME[name], rows)


def router(page: Page, sign_in: SignIn, scrapers: Sequence[Network]) -> APIRouter:
    """For viewers, and without a token for programs at these addresses."""
    api = APIRouter()
    viewer = sign_in.require(Role.viewer)

    @api.get("/metrics")
    async def metrics(request: Request) -> Response:
        if not _scrapes(request, scrapers):
            await viewer(request)
        body, media_type = page.render(request.headers.get("accept", ""))
        return Response(body, headers={**PRIVATE, "Content-Type": media_type})

    return api


def _scrapes(request: Request, scrapers: Sequence[Network]) -> bool:
    """By the socket's own address. Behind a proxy everybody has the proxy's."""
    peer = request.client.host if request.client else ""
    return belongs(peer, scrapers) and not is_forwarded(field_values(request.headers.raw))


def _metric(family: Family, rows: Iterable[Row]) -> Metric:
    match family.kind:
        case "counter":
            counter = CounterMetricFamily(family.name.removesuffix("_total"), family.help, labels=family.labels)
            for labels, value in rows:
                assert not isinstance(value, Histogram)
                counter.add_metric(labels, value)
            return counter
        case "gauge":
            gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels)
            for labels, value in rows:
                assert not isinstance(value, Histogram)
                gauge.add_metric(labels, value)
            return gauge
        case _:
            histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
            for labels, value in rows:
                assert isinstance(value, Histogram)
                buckets = [(_bound(bound), count) for bound, count in value.cumulative()]
                histogram.add_metric(labels, buckets, value.sum)
            return histogram


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(bound)


# The values, family by family


def _gathered(sources: Sources) -> Iterator[tuple[str, Iterable[Row]]]:
    yield "voicegate_build_info", [((sources.version,), 1)]
    yield from _calls(sources)
    yield from _conversation(sources.metrics)
    yield from _process(sources)
    yield from _audio(sources.traffic)
    yield from _sip(sources.sip())


def _calls(sources: Sources) -> Iterator[tuple[str, Iterable[Row]]]:
    registry, metrics = sources.registry, sources.metrics
    live: dict[Labels, int] = dict.fromkeys(metrics.begun, 0)  # what is over is none, and not unknown
    for actor in registry.calls():
        labels = actor.core.flow.name, transport_of(actor)
        live[labels] = live.get(labels, 0) + 1
    yield "voicegate_calls_live", live.items()
    yield "voicegate_calls_max", [((), registry.max_calls)]
    yield "voicegate_admits", [((), registry.admits and sources.writer.error is None)]
    yield "voicegate_load_ratio", [((), registry.capacity.load)]
    yield "voicegate_draining", [((), registry.draining)]
    yield "voicegate_calls_begun_total", metrics.begun.items()
    yield "voicegate_calls_ended_total", metrics.ended.items()
    yield "voicegate_calls_refused_total", metrics.refused.items()
    yield "voicegate_call_outcomes_total", metrics.outcomes.items()
    yield "voicegate_call_duration_seconds", metrics.durations.items()
    outbound = sources.outbound()
    yield "voicegate_calls_out_total", metrics.placed.items()
    refused = outbound.refused.items() if outbound is not None else ()
    yield "voicegate_calls_out_refused_total", [((rule,), count) for rule, count in refused]
    yield "voicegate_transfers_total", metrics.transfers.items()


def _conversation(metrics: Metrics) -> Iterator[tuple[str, Iterable[Row]]]:
    yield "voicegate_barge_ins_total", metrics.barge_ins.items()
    yield "voicegate_holds_total", metrics.holds.items()
    yield "voicegate_resumes_total", metrics.resumes.items()
    yield "voicegate_barge_in_silence_seconds", [((), metrics.silence)]
    yield "voicegate_turn_stage_seconds", metrics.stages.items()
    yield "voicegate_first_token_seconds", metrics.first_tokens.items()
    yield "voicegate_tokens_total", metrics.tokens.items()
    yield "voicegate_provider_errors_total", metrics.faults.items()
    yield "voicegate_verdicts_total", metrics.verdicts.items()
    yield "voicegate_tool_calls_total", metrics.tools.items()


def _process(sources: Sources) -> Iterator[tuple[str, Iterable[Row]]]:
    ticker, waiting = sources.ticker, sources.writer.waiting
    yield "voicegate_loop_lag_seconds", [((), ticker.lag_s)]
    yield "voicegate_media_busy_seconds_total", [((), ticker.busy_ms / 1000)]
    yield "voicegate_missed_ticks_total", [((), ticker.missed_ticks)]
    yield "voicegate_journal_waiting_records", [((), waiting.records)]
    yield "voicegate_journal_waiting_bytes", [((), waiting.octets)]
    yield "voicegate_journal_lag_seconds", [((), waiting.longest_s)]
    yield "voicegate_journal_failing", [((), sources.writer.error is not None)]


def _audio(traffic: Traffic) -> Iterator[tuple[str, Iterable[Row]]]:
    sums = traffic.sums()
    for name, attribute in SUMS.items():
        told = {transport: getattr(one, attribute) for transport, one in sums.items() if attribute in FRAMES or one.rtp}
        yield name, [((transport,), count) for transport, count in told.items()]
    now = traffic.now()
    yield "voicegate_rtp_legs", [((transport,), one.legs) for transport, one in now.items()]
    yield "voicegate_rtp_jitter_seconds", [((transport,), one.jitter_s) for transport, one in now.items()]
    yield "voicegate_rtp_opinion_score", [((transport,), one.opinion) for transport, one in now.items()]
    quality = traffic.quality.items()
    yield "voicegate_rtp_leg_loss_ratio", [((transport,), one.loss) for transport, one in quality]
    yield "voicegate_rtp_leg_jitter_seconds", [((transport,), one.jitter_s) for transport, one in quality]
    yield "voicegate_rtp_leg_opinion_score", [((transport,), one.opinion) for transport, one in quality]


def _sip(server: SipServer | None) -> Iterator[tuple[str, Iterable[Row]]]:
    if server is None:
        return
    guard, endpoint = server.guard, server.endpoint
    yield "voicegate_sip_dialogs", [((), len(endpoint.calls))]
    yield "voicegate_sip_dropped_total", [((reason.value,), guard.drops[reason]) for reason in Reason]
    refused = endpoint.transactions.refused
    yield "voicegate_sip_refused_total", [((str(code),), count) for code, count in sorted(refused.items())]
    yield "voicegate_sip_offences_total", [((), guard.offences)]
    yield "voicegate_sip_bans_total", [((), guard.bans)]
    lines = server.trunks.lines
    yield "voicegate_sip_trunk_up", [((line.trunk.name,), line.alive) for line in lines]
    tested = [(line.trunk.name, line.health) for line in lines]
    yield (
        "voicegate_sip_trunk_deaths_total",
        [((name,), health.deaths if health is not None else 0) for name, health in tested],
    )
    registered = [(line.trunk.name, line.registration) for line in lines if line.trunk.register]
    yield (
        "voicegate_sip_trunk_registered",
        [((name,), one is not None and one.until_ms > 0) for name, one in registered],
    )
    yield (
        "voicegate_sip_registration_failures_total",
        [((name,), one.failed if one is not None else 0) for name, one in registered],
    )
