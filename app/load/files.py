"""The files that a run is asked to leave: JSON, a report with its recordings, JUnit XML."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from app.load import junit, record, report
from app.load.figures import Change
from app.load.options import BadOption
from app.load.record import Record


@dataclass(frozen=True, slots=True)
class Files:
    json: Path | None = None
    html: Path | None = None
    junit: Path | None = None

    @property
    def recordings(self) -> Path | None:
        """A folder beside the report."""
        return self.html.with_name(self.html.stem + "-calls") if self.html is not None else None

    def check(self) -> None:
        """Before a long run rather than after it. Raises `BadOption`."""
        for path in self._all():
            with _told(path):
                if path.is_dir():
                    raise BadOption(f"{path} is a folder, and no file")
                if not path.parent.is_dir():
                    raise BadOption(f"{path}: there is no folder {path.parent}")
                save(path, b"", keep=True)
        if self.recordings is not None and self.recordings.exists() and not self.recordings.is_dir():
            raise BadOption(f"{self.recordings} is in the way of the recordings: it is no folder")
        names = [path.resolve() for path in self._all()]
        if len(set(names)) < len(names):
            raise BadOption("--json, --html and --junit need a file each")

    def clear(self) -> None:
        """Recordings of a run before would be taken for this one's. Raises `BadOption`."""
        if self.recordings is not None and self.recordings.is_dir():
            for old in self.recordings.glob("call-*.wav"):
                with _told(old):
                    old.unlink(missing_ok=True)

    def write(self, made: Record, changes: Sequence[Change], old: str) -> tuple[list[Path], list[str]]:
        """Which were written, each of them whole, and what was in the way of others."""
        written: list[Path] = []
        troubles: list[str] = []
        makers: list[tuple[Path | None, Callable[[], bytes]]] = [
            (self.json, lambda: record.to_json(made)),
            (self.html, lambda: report.html(made, changes, old).encode()),
            (self.junit, lambda: junit.xml(made)),
        ]
        for path, make in makers:
            if path is None:
                continue
            try:
                save(path, make())
            except OSError as error:
                troubles.append(f"{path}: cannot be written: {error.strerror}")
            else:
                written.append(path)
        return written, troubles

    def _all(self) -> Iterable[Path]:
        return [path for path in (self.json, self.html, self.junit) if path is not None]


def save(path: Path, data: bytes, *, keep: bool = False) -> None:
    """All of it, or nothing: then what was there stays. With `keep` it is only tried. Raises `OSError`."""
    if path.exists() and not path.is_file():  # a pipe, a terminal
        path.write_bytes(data)
        return
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        if not keep:
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadOption(f"{path}: cannot be written: {error.strerror}") from None
