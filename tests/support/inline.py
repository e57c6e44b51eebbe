"""A journal's writer for virtual clocks."""

from concurrent.futures import Future

from app.ports import Journal, StoreError, Written
from app.runtime.journal import JournalWriter, _Item, _Step


class InlineJournalWriter(JournalWriter):
    """Without thread or timer: each write is committed before its method returns."""

    async def load(self, call: str) -> Journal:
        return self._store.load(call)

    async def close(self) -> None:
        self._closed = True
        self._start()
        self._end()

    def _schedule(self, *, urgent: bool) -> None:
        self._start()

    def _keep(self, batch: list[_Item], error: StoreError) -> None:
        super()._keep(batch, error)
        if self._alarm:
            self._alarm.cancel()  # the next write is the next try
            self._alarm = None

    def _commit(self, batch: list[_Item], steps: list[_Step]) -> None:
        result: Future[list[Written]] = Future()
        try:
            result.set_result(self._store.commit([write for _, write in steps]))
        except StoreError as error:
            result.set_exception(error)
        self._committed(batch, steps, result)
