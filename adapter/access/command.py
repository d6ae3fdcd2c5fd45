"""`python -m adapter keys create|list|revoke`: API keys of a server that may be running."""

import argparse
import sqlite3
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from adapter.access.database import KeyStoreError
from adapter.access.keys import NAME, Key, KeyLimits, configured, digest_of, new_key
from adapter.access.store import KeyStore, NameTaken
from adapter.settings import Settings, SettingsError, load_settings

FAILED = 1

_COLUMNS = ("NAME", "MADE", "STATE", "SPENT", "BUDGET", "REQUESTS/MIN", "TOKENS/MIN", "AT ONCE")


def main(argv: Sequence[str]) -> int:
    """0: done; 1: it can't be done; 2 (raised by argparse): the command line is wrong."""
    arguments = _parser().parse_args(argv)
    run: Callable[[KeyStore, argparse.Namespace, Settings], None] = arguments.run
    try:
        settings = load_settings()
        store = KeyStore(Path(settings.keys_db))
        try:
            run(store, arguments, settings)
        finally:
            store.close()
    except (SettingsError, KeyStoreError, _Refused) as error:
        sys.stderr.write(f"keys: {error}\n")
        return FAILED
    except sqlite3.Error as error:
        sys.stderr.write(f"keys: the database can't be used: {error}\n")
        return FAILED
    return 0


class _Refused(Exception):
    """The text is one sentence for the operator."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m adapter keys",
        description="Make, list and revoke API keys. A running server follows within a second; once there is a key, "
        "it lets in nobody without one.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    create = commands.add_parser("create", help="make a key and print it, this once")
    create.add_argument("--name", type=_name, required=True, help="what the key is called in logs and lists")
    limits = create.add_argument_group("its own limits, instead of the settings'")
    limits.add_argument("--budget-tokens", type=_positive, metavar="N", help="tokens that it may use in all")
    limits.add_argument("--requests-per-minute", type=_positive, metavar="N")
    limits.add_argument("--tokens-per-minute", type=_positive, metavar="N")
    limits.add_argument("--max-concurrent", type=_positive, metavar="N", help="requests that run at once")
    create.set_defaults(run=_create)
    list_ = commands.add_parser("list", help="show all keys and what they have used")
    list_.set_defaults(run=_list)
    revoke = commands.add_parser("revoke", help="let a key in no more")
    revoke.add_argument("name")
    revoke.set_defaults(run=_revoke)
    return parser


def _create(store: KeyStore, arguments: argparse.Namespace, settings: Settings) -> None:
    key = new_key()
    limits = KeyLimits(
        arguments.budget_tokens,
        arguments.requests_per_minute,
        arguments.tokens_per_minute,
        arguments.max_concurrent,
    )
    try:
        store.add(Key(arguments.name, digest_of(key), limits))
    except NameTaken:
        raise _Refused(f"there is a key named {arguments.name}; revoke it first, or choose another name") from None
    # Alone on standard output, for a script to take.
    sys.stdout.write(f"{key}\n")
    sys.stderr.write("Keep it: it is not stored, and can't be shown again.\n")
    sys.stderr.write(f"Its hash is in {Path(settings.keys_db).absolute()}, for servers with that as ADAPTER_KEYS_DB.\n")


def _list(store: KeyStore, arguments: argparse.Namespace, settings: Settings) -> None:
    rows: list[tuple[str, ...]] = [_COLUMNS]
    rows += [_row(key, "settings", "", store, settings) for key in configured(settings.api_key or ())]
    rows += [
        _row(stored.key, _date(stored.created_s), "" if stored.revoked_s is None else "revoked", store, settings)
        for stored in store.all_keys()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(f"{line.rstrip()}\n")


def _revoke(store: KeyStore, arguments: argparse.Namespace, settings: Settings) -> None:
    if not store.revoke(arguments.name):
        raise _Refused(f"there is no key named {arguments.name} to revoke; `keys list` shows them")
    sys.stdout.write(f"{arguments.name} is revoked.\n")


def _row(key: Key, made: str, state: str, store: KeyStore, settings: Settings) -> tuple[str, ...]:
    limits = key.limits.over(settings.key_limits)
    numbers = (
        limits.budget_tokens,
        limits.requests_per_minute,
        limits.tokens_per_minute,
        limits.max_concurrent_requests,
    )
    shown = ("-" if number is None else str(number) for number in numbers)
    return (key.name, made, state or "valid", str(store.spent(key.id)), *shown)


def _date(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, timezone.utc).strftime("%Y-%m-%d")


def _name(text: str) -> str:
    if NAME.fullmatch(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} must be 1 to 64 letters, digits, dots, dashes or underscores")
    return text


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
