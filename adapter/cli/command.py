"""`python -m adapter ocr FILE…`: its arguments, and its exit code."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import httpx

from adapter.cli.errors import ServerAway, UsageError
from adapter.cli.folder import OutputFolder, Wanted
from adapter.cli.printed import Printed
from adapter.cli.progress import Progress
from adapter.cli.reading import Reading
from adapter.cli.server import OcrServer
from adapter.cli.sources import Source, find_sources

FAILED, STOPPED = 1, 130
KEY_VARIABLE = "OCR_API_KEY"
"""A key in the command line is there for everybody on the machine to see."""


def main(argv: Sequence[str]) -> int:
    """0: all was read; 1: something was not; 2 (raised by argparse): the command line is wrong; 130: stopped."""
    parser = _parser()
    arguments = parser.parse_intermixed_args(argv)
    try:
        _check(arguments)
        return asyncio.run(_read(arguments, find_sources(arguments.files, arguments.out)))
    except UsageError as error:
        parser.error(str(error))
    except ServerAway as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.stderr.write("stopped\n")
        return STOPPED
    except BrokenPipeError:  # as in `… | head`; Python would complain when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m adapter ocr",
        description="Read images and PDFs with a running server; print their text, or write it below --out.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="an image, a PDF, or a folder of them")
    output = parser.add_argument_group("what to make")
    output.add_argument("--markdown", action="store_true", help="NAME.md and its figures, rather than NAME.txt")
    output.add_argument("--blocks", action="store_true", help="NAME.blocks.json: each block's type, text and boxes")
    output.add_argument("--annotate", action="store_true", help="NAME/page-1.annotated.png: boxes drawn on the page")
    output.add_argument("--out", type=Path, metavar="DIR", help="the folder for the results, made where it is missing")
    output.add_argument("--force", action="store_true", help="overwrite results; else whole ones are kept")
    request = parser.add_argument_group("how to read")
    request.add_argument("--pages", metavar="1-3,7", help="which pages of each document")
    request.add_argument("--frames", choices=["first", "all"], help="which frames of an animation or multi-page TIFF")
    request.add_argument("--mode", choices=["tiny", "small", "base", "large", "gundam"], help="resolution")
    request.add_argument(
        "--prompt",
        metavar="NAME|TEXT",
        help="free, markdown, grounding, describe, figure, locate, or your own; markdown where there are "
        "--markdown, --blocks or --annotate, locate where there is --object, else free",
    )
    request.add_argument("--object", metavar="TEXT", help="what to locate")
    request.add_argument("--dpi", type=_positive, metavar="N", help="resolution that PDF pages are rendered at")
    request.add_argument("--max-tokens", type=_positive, metavar="N", help="most tokens per page")
    request.add_argument("--model", metavar="ID", help="one of the server's /v1/models")
    run = parser.add_argument_group("how to run")
    run.add_argument("--url", type=_url, default="http://localhost:8000", help="the server (default: %(default)s)")
    own_key = os.environ.get(KEY_VARIABLE)
    run.add_argument("--api-key", default=own_key, metavar="KEY", help=f"if it asks for one (default: {KEY_VARIABLE})")
    run.add_argument("--jobs", type=_positive, default=4, metavar="N", help="files at once (default: %(default)s)")
    run.add_argument("--progress", action=argparse.BooleanOptionalAction, help="a bar; by default on a terminal")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    if arguments.out is None:
        if arguments.annotate or (arguments.markdown and arguments.blocks):
            raise UsageError("more than text can't be printed: give a folder with --out")
    elif arguments.out.exists() and not arguments.out.is_dir():
        raise UsageError(f"--out: {arguments.out} is not a folder")
    elif (arguments.markdown or arguments.annotate) and os.path.abspath(arguments.out) in map(
        os.path.abspath, arguments.files
    ):
        raise UsageError(f"--out: pictures in {arguments.out} would be read the next time; give another folder")


async def _read(arguments: argparse.Namespace, sources: Sequence[Source]) -> int:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with Progress(len(sources), arguments.progress) as progress:
        destination = _destination(arguments, sources, progress)
        server = OcrServer(arguments.url, _fields(arguments, destination.parts), arguments.api_key)
        reading = Reading(server, destination, progress)
        try:
            await reading.run(sources, arguments.jobs)
        finally:
            await server.close()
    return FAILED if reading.failed else 0


def _destination(
    arguments: argparse.Namespace, sources: Sequence[Source], progress: Progress
) -> OutputFolder | Printed:
    if arguments.out is not None:
        wanted = Wanted(arguments.markdown, arguments.blocks, arguments.annotate)
        return OutputFolder(arguments.out, wanted, arguments.force)
    part: Literal["text", "markdown", "blocks"] = "text"
    if arguments.markdown or arguments.blocks:
        part = "markdown" if arguments.markdown else "blocks"
    return Printed(sources, part, progress.print)


def _fields(arguments: argparse.Namespace, parts: list[str]) -> dict[str, str | list[str]]:
    """The form's fields; what the user leaves open is left to the server."""
    prompt = arguments.prompt
    if prompt is None and arguments.object is not None:
        prompt = "locate"
    elif prompt is None and (arguments.markdown or arguments.blocks or arguments.annotate):
        prompt = "markdown"  # the model names boxes and types only where it is asked to
    given = {"prompt": prompt} | {
        name: getattr(arguments, name) for name in ("object", "pages", "frames", "mode", "dpi", "max_tokens", "model")
    }
    return {"output": parts} | {name: str(value) for name, value in given.items() if value is not None}


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as http://localhost:8000")
    return text.rstrip("/")
