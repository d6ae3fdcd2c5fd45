"""Reads many files, several at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing

from adapter.cli.errors import FileFailed
from adapter.cli.events import Page, PageFailed, PageResult, RestFailed, Start
from adapter.cli.folder import OutputFolder
from adapter.cli.printed import Printed
from adapter.cli.progress import Progress
from adapter.cli.server import OcrServer
from adapter.cli.sources import Source

CUT_SHORT = {
    "length": "it is cut short: the model came to its limit of tokens",
    "repetition": "it is cut short: the model began to repeat itself",
}


class Reading:
    """One run of the command."""

    def __init__(self, server: OcrServer, destination: OutputFolder | Printed, progress: Progress) -> None:
        self._server = server
        self._destination = destination
        self._progress = progress
        self.failed = False
        """Whether anything was not read: a file, or a page of one."""

    async def run(self, sources: Sequence[Source], max_files: int) -> None:
        """`max_files` at once; one that fails is reported, and the others go on.

        Raises:
            ServerAway: nothing answers; what was read before is kept.
        """
        waiting = iter(sources)
        workers = [asyncio.create_task(self._work(waiting)) for _ in range(min(max_files, len(sources)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, waiting: Iterator[Source]) -> None:
        for source in waiting:
            await self._attempt(source)
            self._progress.file_done()

    async def _attempt(self, source: Source) -> None:
        try:
            if (existing := self._destination.existing(source)) is not None:
                self._progress.say(f"{source.path}: skipped, {existing} exists (--force overwrites it)")
            else:
                await self._read(source)
        except FileFailed as error:
            self._fail(str(source.path), str(error))
        except BrokenPipeError:  # nobody reads what is printed: not this file's failure
            raise
        except OSError as error:
            what = f"{error.filename}: " if error.filename not in (None, str(source.path)) else ""
            self._fail(str(source.path), what + (error.strerror or str(error)))

    async def _read(self, source: Source) -> None:
        num_expected = num_pages = num_read = 0
        # The disk is written to on the event loop: a thread could not be stopped before its files are cleared away.
        with self._destination.open(source) as result:
            try:
                async with aclosing(self._server.read(source.path)) as events:
                    async for event in events:
                        if isinstance(event, Start):
                            num_expected = num_pages = event.pages
                            self._progress.expect(num_pages)
                            continue
                        self._report(source, event, num_pages)
                        result.add(event)
                        if not isinstance(event, RestFailed):
                            num_expected -= 1
                            num_read += isinstance(event, PageResult)
                            self._progress.page_done()
            finally:
                self._progress.expect(-num_expected)
            if num_read:
                result.commit()

    def _report(self, source: Source, page: Page, num_pages: int) -> None:
        if isinstance(page, RestFailed):
            self._fail(f"{source.path}: after page {page.last_page}", page.message)
            return
        where = f"{source.path}: page {page.page}" if num_pages > 1 else str(source.path)
        if isinstance(page, PageFailed):
            self._fail(where, page.error.message)
        elif page.finish_reason in CUT_SHORT:
            self._progress.say(f"{where}: {CUT_SHORT[page.finish_reason]}")

    def _fail(self, where: str, message: str) -> None:
        self.failed = True
        self._progress.say(f"{where}: {' '.join(message.split())}")
