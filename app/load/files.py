"""The files that a run is asked to leave: JSON, a report with its recordings, JUnit XML."""

from collections.abc import Iterable, Sequence
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
            if path.is_dir():
                raise BadOption(f"{path} is a folder, and no file")
            if not path.parent.is_dir():
                raise BadOption(f"{path}: there is no folder {path.parent}")
        names = [path.resolve() for path in self._all()]
        if len(set(names)) < len(names):
            raise BadOption("--json, --html and --junit need a file each")

    def clear(self) -> None:
        """Recordings of a run before would be taken for this one's."""
        if self.recordings is not None and self.recordings.is_dir():
            for old in self.recordings.glob("call-*.wav"):
                old.unlink(missing_ok=True)

    def write(self, made: Record, changes: Sequence[Change], old: str) -> list[Path]:
        """Which were written. Raises `OSError`."""
        if self.json is not None:
            self.json.write_bytes(record.to_json(made))
        if self.html is not None:
            self.html.write_text(report.html(made, changes, old), encoding="utf-8")
        if self.junit is not None:
            self.junit.write_bytes(junit.xml(made))
        return list(self._all())

    def _all(self) -> Iterable[Path]:
        return [path for path in (self.json, self.html, self.junit) if path is not None]
