"""Feeds: a response that says what many requests said costs as much as one that says what one of them did.

The client's side is `adapter/feed.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from engine.errors import FeedLost, InvalidRequest
from engine.response import NO_COUNTS, Counts

logger = logging.getLogger(__name__)

_MAX_FEEDS = 256
"""Each is a request that Triton waits for; a client needs one."""
_SILENCE_S = 2.0
"""After which a feed says that it is there: one that is silent for longer may be of a model that is there no more."""
_MAX_POLLS = 10
"""Feeds that are asked at a time, as requests are."""


class Fed(NamedTuple):
    """What a request says on a feed, where it has this number."""

    number: int
    text: str
    reasoning: str = ""
    counts: Counts = NO_COUNTS
    """Where every response is to have them."""


class FeedReply(Protocol):
    """The way back to the client of a feed."""

    def send(self, pieces: Sequence[Fed]) -> None:
        """Send what some requests said."""

    def end(self) -> None:
        """Nothing follows."""

    def is_cancelled(self) -> bool:
        """Whether the client has gone."""


class Feed:
    """Collects what requests say until it is sent. Used by the sender's thread alone."""

    def __init__(self, reply: FeedReply) -> None:
        self._reply = reply
        self._pieces: list[Fed] = []
        self._silent_until_s = 0.0
        """On the monotonic clock."""
        self.is_open = True

    def add(self, piece: Fed) -> None:
        """Raises `FeedLost`."""
        self.check()
        self._pieces.append(piece)

    def check(self) -> None:
        """Raises `FeedLost` where something that was added may not have been sent."""
        if not self.is_open:
            raise FeedLost

    def flush(self) -> int:
        """Send what was added, at first and now and then also nothing; return how many pieces were sent.

        A feed that can't is closed.
        """
        now_s = time.monotonic()
        if not self.is_open or not (self._pieces or now_s >= self._silent_until_s):
            return 0
        pieces, self._pieces = self._pieces, []
        self._silent_until_s = now_s + _SILENCE_S
        try:
            self._reply.send(pieces)
        except Exception:
            logger.exception("a feed could not be sent; its requests are ended with an error")
            self.close()
            return 0
        return len(pieces)

    def close(self) -> None:
        """End it; what it carried of requests that go on is lost."""
        if self.is_open:
            self.is_open = False
            try:
                self._reply.end()
            except Exception:
                logger.exception("a feed could not be ended")

    @property
    def is_of_use(self) -> bool:
        """Whether it is open, and its client there."""
        try:
            return self.is_open and not self._reply.is_cancelled()
        except Exception:
            logger.exception("a feed could not be asked whether its client has gone")
            return False


class Feeds:
    """Those that are open, by name. `open` and `get` are for any thread, the others for the sender's."""

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        self._turn = 0
        self.num_sent = 0
        """Pieces, on all that there ever were."""

    def __len__(self) -> int:
        return len(self._feeds)

    def open(self, name: str, reply: FeedReply) -> None:
        """
        Raises:
            InvalidRequest: there is one of that name, or there are too many.
        """
        if len(self._feeds) >= _MAX_FEEDS:
            raise InvalidRequest("feed", f"{_MAX_FEEDS} are open; end one of them")
        feed = Feed(reply)
        if self._feeds.setdefault(name, feed) is not feed:  # two threads may be here
            raise InvalidRequest("feed", "there is a feed of this name; choose another")

    def get(self, name: str) -> Feed | None:
        """None where there is none that is open."""
        feed = self._feeds.get(name)
        return feed if feed is not None and feed.is_open else None

    def flush(self) -> None:
        for feed in list(self._feeds.values()):
            self.num_sent += feed.flush()

    def drop_abandoned(self) -> None:
        """Close some of those whose clients have gone; the others are looked at next."""
        names = list(self._feeds)
        self._turn = self._turn + _MAX_POLLS if self._turn + _MAX_POLLS < len(names) else 0
        for name in names[self._turn : self._turn + _MAX_POLLS]:
            if not self._feeds[name].is_of_use:
                self._feeds.pop(name).close()

    def close(self) -> None:
        """End all of them."""
        for feed in list(self._feeds.values()):
            feed.close()
