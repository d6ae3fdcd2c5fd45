"""What a job's key pays for while one process reads the job."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from adapter.access.accounts import Accounts
from adapter.access.store import Charge
from adapter.documents.page import Document, Page
from adapter.jobs.records import NewJob
from adapter.ocr.tally import Tally
from adapter.tensors import Usage


class Bill:
    """Pages are charged as they are kept; at the end what was generated for pages that are not."""

    def __init__(self, accounts: Accounts, job: NewJob) -> None:
        self.tally = Tally()
        """Of all that is generated for the job."""
        self._accounts = accounts
        self._job = job
        self._kept = Usage()

    async def check(self) -> None:
        """Raises as `Accounts.check` does; a job without a key may go on."""
        if self._job.key_id is not None:
            await self._accounts.check(self._job.key_id)

    @contextmanager
    def keeping(self, usage: Usage) -> Iterator[None]:
        """Around what keeps a page. One that is cancelled in it may be kept: the next process charges it then."""
        self._kept += usage
        try:
            yield
        except Exception:
            self._kept -= usage
            raise

    async def charge(self, usages: Mapping[int, Usage]) -> None:
        """By page number; a page that was charged is not charged again."""
        if self._job.key_id is not None:
            key_id, job_id = self._job.key_id, self._job.id
            await self._accounts.charge([Charge(key_id, job_id, usage, page) for page, usage in usages.items()])

    async def charge_rest(self) -> None:
        """Of pages that were cancelled, that failed, or that were read once more."""
        rest = self.tally.total - self._kept
        if self._job.key_id is not None and rest != Usage():
            await self._accounts.charge([Charge(self._job.key_id, self._job.id, rest)])


class PaidDocument:
    """A document of which no page is opened that nobody pays for; raises as `Bill.check` does."""

    def __init__(self, document: Document, bill: Bill) -> None:
        self.numbers: Sequence[int] = document.numbers
        self.dpi = document.dpi
        self._document = document
        self._bill = bill

    async def page(self, number: int) -> Page:
        await self._bill.check()
        return await self._document.page(number)

    async def close(self) -> None:
        await self._document.close()
