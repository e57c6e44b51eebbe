"""A small server that speaks the console's part of the HTTP interface, with calls that were made up.

`python tests/pages/fake_console.py [LIVE_CALLS]` serves it on a port for looking at.
"""

import io
import json
import math
import re
import struct
import sys
import threading
import time
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).parent))

from fake_story import SLOTS, STEPS, Json, Story, booking, marathon

STATIC = Path(__file__).parents[2] / "app" / "console" / "static"
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TROUBLES = ["", "the model failed: timeout", "a tool was refused 3 times", "audio is lost: 12 %", "a tool is unknown"]
GRAPH = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 300" width="320" height="300" role="img"
 font-family="sans-serif" font-size="13"><title>{name}</title><desc>Two steps.</desc>
<g class="step" data-step="identify"><rect x="60" y="20" width="200" height="56" rx="12" fill="#8883" stroke="#888"/>
<text x="160" y="52" text-anchor="middle" fill="#888">identify</text></g>
<path d="M160 76v60" stroke="#888"/>
<g class="step" data-step="choose"><rect x="60" y="136" width="200" height="56" rx="12" fill="#8883" stroke="#888"/>
<text x="160" y="168" text-anchor="middle" fill="#888">choose</text></g></svg>"""


class Fake:
    """What the server knows and how it behaves; tests change it while it runs."""

    def __init__(self, *, live: int = 40, token: str = "", role: str = "operator") -> None:
        self.token = token
        self.role = role
        self.sessions: set[str] = set()
        self.draining = False
        self.max_calls = 1000
        self.changes_per_s = 2.0
        self.stories: dict[str, Story] = {"demo": booking()}
        self.stories_lock = threading.Lock()
        self.hung_up: list[str] = []
        self.state_requests: list[int] = []
        self.live: list[Json] = [self._live_row(i) for i in range(live)]
        self.feeds: list[Json] = []  # messages for whoever follows the live call
        self.changed = threading.Condition()
        self.closing = False
        self.round = 0

    def _live_row(self, i: int) -> Json:
        trouble = (i % 4) + 1 if i % 17 == 3 else 0
        return {
            "call": f"c{i:05d}",
            "flow": "clinic" if i % 3 else "refund",
            "started_at": _iso(time.time() - 5 - (i * 37) % 900),
            "state": "live",
            "transport": ("webrtc", "twilio", "audio")[i % 3],
            "caller": f"+1 555 {1000 + i}",
            "step": STEPS[i % len(STEPS)],
            "duration_ms": (5 + (i * 37) % 900) * 1000,
            "turns": i % 23,
            "outcome": "",
            "cause": "",
            "trouble": trouble,
            "trouble_text": TROUBLES[trouble],
            "recording": bool(i % 2),
        }

    def story(self, call: str) -> Story | None:
        with self.stories_lock:
            if call == "marathon" and call not in self.stories:
                self.stories[call] = marathon()
            if call.startswith("r"):
                return self.stories["demo"]
            return self.stories.get(call) or (self.stories["demo"] if self.row(call)["state"] == "live" else None)

    def row(self, call: str) -> Json:
        for row in self.live:
            if row["call"] == call:
                return row
        story = self.stories.get(call, self.stories["demo"])
        number = int(call[1:]) if re.fullmatch(r"r\d+", call) else 0
        trouble = 1 if number % 11 == 4 else 0
        return {
            "call": call,
            "flow": "clinic",
            "started_at": _iso(1_760_000_000 - number * 431),
            "state": "died" if number % 29 == 7 else "ended",
            "transport": "webrtc",
            "caller": "+1 555 0100",
            "step": "bye",
            "duration_ms": story.ms + number * 17_000 % 300_000,
            "turns": len(story.turns),
            "outcome": ("booked", "abandoned", "handed-over")[number % 3],
            "cause": "flow",
            "trouble": trouble,
            "trouble_text": "the model failed: timeout" if trouble else "",
            "recording": call != "marathon",
        }

    def recorded(self, query: dict[str, str]) -> Json:
        limit = int(query.get("limit", "50"))
        rows = [self.row("demo"), self.row("marathon"), *(self.row(f"r{i:04d}") for i in range(1, 230))]
        if query.get("flow"):
            rows = [row for row in rows if row["flow"] == query["flow"]]
        if query.get("outcome"):
            rows = [row for row in rows if row["outcome"] == query["outcome"]]
        if query.get("trouble") == "1":
            rows = [row for row in rows if row["trouble"]]
        if query.get("before"):
            ids = [row["call"] for row in rows]
            rows = rows[ids.index(query["before"]) + 1 :]
        return {"calls": rows[:limit], "more": len(rows) > limit}

    def flows(self) -> list[Json]:
        return [
            {
                "name": name,
                "version": version,
                "hash": digest,
                "steps": STEPS,
                "calls": calls,
                "outcomes": {"booked": calls * 6 // 10, "handed-over": calls // 5, "abandoned": calls // 6},
                "dropoff": {step: calls // (6 + i * 5) for i, step in enumerate(STEPS[1:6])},
                "tools": {
                    "find_patient": {"requested": calls, "allowed": calls - 4, "refused": {"once": 4}},
                    "book": {
                        "requested": calls * 7 // 10,
                        "allowed": calls * 6 // 10,
                        "refused": {"step": 31, "level": 14, "arguments": 3},
                    },
                    "find_slot": {"requested": calls * 8 // 10, "allowed": calls * 8 // 10, "refused": {}},
                },
            }
            for name, version, digest, calls in [("clinic", 1, "3f9a1c", 412), ("refund", 2, "b07e55", 97)]
        ]

    def change(self) -> Json:
        """A few calls moved on, one ended and one began."""
        self.round += 1
        moved = [row for i, row in enumerate(self.live) if (i + self.round) % 7 == 0]
        for row in moved:
            row["turns"] += 1
            row["step"] = STEPS[(STEPS.index(row["step"]) + 1) % len(STEPS)]
        gone = []
        if len(self.live) > 30:
            gone = [self.live.pop(20 + self.round % 8)["call"]]
            fresh = self._live_row(50_000 + self.round)
            fresh["started_at"], fresh["trouble"], fresh["trouble_text"] = _iso(time.time()), 0, ""
            self.live.append(fresh)
            moved.append(fresh)
        return {"set": moved, "gone": gone}

    def feed(self, message: Json) -> None:
        with self.changed:
            self.feeds.append({"type": "event", **message})
            self.changed.notify_all()


def _iso(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


def recording(duration_ms: int) -> bytes:
    """Mono, 8 kHz: a quiet tone that comes and goes."""
    out = io.BytesIO()
    with wave.open(out, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(8000)
        second = b"".join(
            struct.pack("<h", int(2000 * math.sin(i * 0.17) * math.sin(math.pi * i / 8000))) for i in range(8000)
        )
        whole = second * (duration_ms // 1000 + 1)
        wav.writeframes(whole[: duration_ms * 16])
    return out.getvalue()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: Fake

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        path = url.path
        if path == "/console":
            self._file(STATIC / "console.html")
        elif path.startswith("/static/"):
            self._file(STATIC / path.removeprefix("/static/"))
        elif not path.startswith("/api/"):
            self._plain(404, b"", "text/plain")
        elif not self._known():
            self._json({"detail": "sign in"}, 401)
        else:
            self._api(path, query)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        if path == "/api/login":
            self._login(json.loads(body))
        elif path == "/api/logout":
            self.fake.sessions.clear()
            self._json({})
        elif not self._known():
            self._json({"detail": "sign in"}, 401)
        elif found := re.fullmatch(r"/api/calls/([^/]+)/hangup", path):
            if self.fake.role == "viewer":
                self._json({"detail": "an operator's token is needed"}, 403)
                return
            self.fake.hung_up.append(found[1])
            self._json({})
        else:
            self._json({"detail": "no such thing"}, 404)

    def _login(self, body: Json) -> None:
        if body.get("token") != self.fake.token:
            self._json({"detail": "this token is not known"}, 401)
            return
        self.fake.sessions.add("s1")
        data = b"{}"
        self.send_response(200)
        self.send_header("Set-Cookie", "voicegate=s1; HttpOnly; SameSite=Strict; Path=/")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _known(self) -> bool:
        if not self.fake.token:
            return True
        return any(f"voicegate={session}" in self.headers.get("Cookie", "") for session in self.fake.sessions)

    def _api(self, path: str, query: dict[str, str]) -> None:
        fake = self.fake
        if path == "/api/me":
            self._json({"name": "desk", "role": fake.role, "flows": ["clinic", "refund"], "version": "0.1.0"})
        elif path == "/api/calls":
            self._json(fake.recorded(query))
        elif path == "/api/live":
            self._stream_live()
        elif path == "/api/flows":
            self._json(fake.flows())
        elif found := re.fullmatch(r"/api/flows/([^/]+)/graph\.svg", path):
            self._plain(200, GRAPH.format(name=found[1]).encode(), "image/svg+xml")
        elif found := re.fullmatch(r"/api/calls/([^/]+)(?:/([a-z]+))?", path):
            self._call(found[1], found[2] or "", query)
        else:
            self._json({"detail": "no such thing"}, 404)

    def _call(self, call: str, what: str, query: dict[str, str]) -> None:
        story = self.fake.story(call) if call != "missing" else None
        if story is None:
            self._json({"detail": "there is no such call"}, 404)
            return
        match what:
            case "":
                self._json(self._about(call, story))
            case "timeline":
                self._json(story.timeline(int(query.get("from_ms", 0)), int(query.get("to_ms", 1 << 60))))
            case "state":
                seq = int(query["seq"])
                self.fake.state_requests.append(seq)
                self._json(story.views[min(seq, len(story.views) - 1)])
            case "records":
                first, limit = int(query.get("from", 0)), int(query.get("limit", 100))
                self._json({"records": story.records[first : first + limit]})
            case "recording":
                self._ranged(recording(story.ms))
            case "download":
                self._plain(200, json.dumps(story.records).encode(), "application/json")
            case "events":
                self._stream_call()
            case _:
                self._json({"detail": "no such thing"}, 404)

    def _about(self, call: str, story: Story) -> Json:
        row = self.fake.row(call)
        cdr = None if row["state"] == "live" else {"cause": row["cause"], "barge_ins": 1, "listeners": ["desk"]}
        flow = {"name": row["flow"], "version": 1, "hash": "3f9a1c"}
        return {"row": row, "cdr": cdr, "flow": flow, "slots": SLOTS, "records": len(story.records)}

    # Streams

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, event: str, data: Json) -> None:
        name = f"event: {event}\n" if event else ""
        self.wfile.write(f"{name}data: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def _stream_live(self) -> None:
        self._stream()
        fake = self.fake
        try:
            self._send("all", {"calls": fake.live, "max_calls": fake.max_calls, "draining": fake.draining})
            while not fake.closing:
                time.sleep(1 / fake.changes_per_s if fake.changes_per_s else 0.1)
                if fake.changes_per_s:
                    self._send("change", fake.change())
        except OSError:
            pass

    def _stream_call(self) -> None:
        self._stream()
        fake, sent = self.fake, 0
        try:
            while not fake.closing:
                with fake.changed:
                    fake.changed.wait(0.2)
                    fresh, sent = fake.feeds[sent:], len(fake.feeds)
                for message in fresh:
                    self._send("", message)
        except OSError:
            pass

    # Answers

    def _json(self, value: Any, status: int = 200) -> None:
        self._plain(status, json.dumps(value).encode(), "application/json")

    def _file(self, file: Path) -> None:
        if not file.is_file() or STATIC not in file.resolve().parents:
            self._plain(404, b"", "text/plain")
            return
        self._plain(200, file.read_bytes(), TYPES.get(file.suffix, "application/octet-stream"))

    def _plain(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Security-Policy", CSP)
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        self.wfile.write(data)

    def _ranged(self, data: bytes) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(found[1]) if found else 0
        last = min(int(found[2]) if found and found[2] else len(data) - 1, len(data) - 1)
        part = data[first : last + 1]
        self.send_response(206 if found else 200)
        self.send_header("Content-Type", "audio/wav")
        self.send_header("Accept-Ranges", "bytes")
        if found:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


class Server:
    """`with Server(Fake()) as url:`"""

    def __init__(self, fake: Fake, port: int = 0) -> None:
        self.fake = fake
        handler = type("Bound", (Handler,), {"fake": fake})
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> str:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self.url

    def __exit__(self, *_: object) -> None:
        self.fake.closing = True
        self._http.shutdown()
        self._http.server_close()


if __name__ == "__main__":
    server = Server(Fake(live=int(sys.argv[1]) if len(sys.argv) > 1 else 40), 8765)
    with server as url:
        print(f"{url}/console")
        threading.Event().wait()
