"""Render processes: each may die, hang or be stopped without harm to what the others do."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from adapter.documents.render_pool import RenderCrashed, RenderPool, RenderTimedOut
from adapter.documents.rendering import BrokenPdf, CountPages, RenderPage
from adapter.errors import Cancelled, InternalError
from tests.adapter.documents_data import Allocate, Crash, Hang, ProcessIds, one_page_pdf, pdf, pdf_of, swollen_stream

MEMORY_BYTES = 256 << 20


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[RenderPool]:
    pool = RenderPool(2, 60, MEMORY_BYTES)
    yield pool
    await pool.stop()


async def test_a_pdf_without_pages_is_told_from_a_broken_one_before_it(pool: RenderPool, tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"%PDF-1.7")
    (tmp_path / "empty").write_bytes(
        pdf_of([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [] /Count 0 >>"])
    )
    for name, reason in (("broken", "damaged"), ("empty", "no pages"), ("broken", "damaged")):
        with pytest.raises(BrokenPdf, match=reason):
            await pool.run(CountPages(str(tmp_path / name)))


async def test_a_process_that_dies_takes_its_own_task_and_no_other(pool: RenderPool, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(pdf(3))
    count = CountPages(str(tmp_path / "good"))
    results = await asyncio.gather(
        *(pool.run(task) for task in (count, Crash(), count, count, Crash(), Crash(), count)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [
        *(int, RenderCrashed, int, int),
        *(RenderCrashed, RenderCrashed, int),
    ]


async def test_a_process_that_dies_idle_takes_no_task(tmp_path: Path) -> None:
    pool = RenderPool(1, 60, MEMORY_BYTES)
    first, _ = await pool.run(ProcessIds())
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    second, _ = await pool.run(ProcessIds())
    assert second != first
    await pool.stop()


async def test_processes_are_used_again_and_hear_no_ctrl_c() -> None:
    pool = RenderPool(1, 60, MEMORY_BYTES)
    first = await pool.run(ProcessIds())
    assert await pool.run(ProcessIds()) == first
    assert first[1] != os.getpgid(0)
    await pool.stop()


async def test_a_task_that_hangs_is_killed_and_its_place_is_free(tmp_path: Path) -> None:
    pool = RenderPool(1, 0.2, MEMORY_BYTES)
    fifo = make_fifo(tmp_path)
    hung = asyncio.create_task(pool.run(Hang(fifo)))
    await asyncio.to_thread(wait_for_the_end, fifo)
    with pytest.raises(RenderTimedOut):
        await hung
    await pool.run(ProcessIds())
    await pool.stop()


async def test_a_cancelled_task_leaves_its_place_free(tmp_path: Path) -> None:
    pool = RenderPool(1, 0.5, MEMORY_BYTES)
    fifo = make_fifo(tmp_path)
    tasks = [asyncio.create_task(pool.run(task)) for task in (Hang(fifo), ProcessIds())]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks)
    await pool.run(ProcessIds())
    await pool.stop()


async def test_too_little_memory_is_not_the_pdf_s_fault() -> None:
    pool = RenderPool(1, 60, MEMORY_BYTES)
    first = await pool.run(ProcessIds())
    with pytest.raises(InternalError) as failure:
        await pool.run(Allocate(MEMORY_BYTES))
    assert "MemoryError" in (failure.value.cause or "")
    assert await pool.run(ProcessIds()) != first, "whatever holds the memory is gone"
    await pool.stop()


async def test_a_process_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*_: object) -> None:
        raise BlockingIOError("no more processes")

    pool = RenderPool(1, 60, MEMORY_BYTES)
    with monkeypatch.context() as patched:
        patched.setattr("multiprocessing.util.spawnv_passfds", no_more)
        with pytest.raises(InternalError) as failure:
            await pool.run(ProcessIds())
    assert "no more processes" in (failure.value.cause or "")
    await pool.run(ProcessIds())
    await pool.stop()


async def test_a_pdf_that_takes_all_memory_takes_its_process_only(tmp_path: Path) -> None:
    pool = RenderPool(1, 60, MEMORY_BYTES)
    bomb, good = tmp_path / "bomb", tmp_path / "good"
    bomb.write_bytes(one_page_pdf(b"/MediaBox [0 0 9 9] /Contents 4 0 R", swollen_stream(MEMORY_BYTES)))
    good.write_bytes(pdf(1))
    with pytest.raises(RenderCrashed):
        await pool.run(RenderPage(str(bomb), 1, 72, 1000, 1000))
    assert (await pool.run(RenderPage(str(good), 1, 72, 20_000, 1000))).width == 72
    await pool.stop()


async def test_stop_ends_what_is_being_done(tmp_path: Path) -> None:
    pool = RenderPool(1, 60, MEMORY_BYTES)
    fifo = make_fifo(tmp_path)
    tasks = [asyncio.create_task(pool.run(task)) for task in (Hang(fifo), ProcessIds())]
    with await asyncio.to_thread(open, fifo) as pipe:  # it opens when the task does
        await pool.stop()
        assert pipe.read() == ""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [Cancelled, Cancelled]
    with pytest.raises(Cancelled):
        await pool.run(ProcessIds())


def test_a_process_ends_with_the_adapter(tmp_path: Path) -> None:
    fifo = make_fifo(tmp_path)
    program = f"""
import asyncio
from adapter.documents.render_pool import RenderPool
from tests.adapter.documents_data import Hang
if __name__ == "__main__":
    asyncio.run(RenderPool(1, 60, {MEMORY_BYTES}).run(Hang({fifo!r})))
"""
    adapter = subprocess.Popen([sys.executable, "-c", program])
    with open(fifo) as pipe:
        adapter.kill()
        adapter.wait()
        assert pipe.read() == ""


def test_a_render_process_loads_no_web_server() -> None:
    program = "import sys, adapter.documents.rendering; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"fastapi", "grpc", "pydantic", "numpy", "torch"} & set(loaded)


def make_fifo(folder: Path) -> str:
    path = str(folder / "fifo")
    os.mkfifo(path)
    return path


def wait_for_the_end(fifo: str) -> None:
    with open(fifo) as pipe:
        assert pipe.read() == ""
