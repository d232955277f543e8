"""For how long a caller may keep a connection, with and without a request on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelyard_gateway.telemetry import metrics as outcomes
from modelyard_gateway.wire.refusal import Refusal

if TYPE_CHECKING:
    from modelyard_gateway.proxy.client import Client
    from modelyard_gateway.proxy.exchange import Exchange

HEAD_SECONDS = 10.0  # from a head's first byte to its last
# Of a connection between two requests: longer than load balancers keep theirs (Google's 600 s, Envoy an hour), so that
# it isn't closed when they are just using it.
IDLE_SECONDS = 3720.0
LINGER_SECONDS = 2.0  # after a refusal, in which the caller may still be sending what nobody reads
STALL_SECONDS = 10.0  # without a byte of a body that a server waits for
UNREAD_SECONDS = 30.0  # without a byte of an answer that the caller reads, once it is whole

_SLOW_HEAD = Refusal(408, "the request's head did not come in time")
_SLOW_BODY = Refusal(408, "the request's body did not come in time")


class Patience:
    """With one caller."""

    __slots__ = ("_read", "_unread")

    def __init__(self) -> None:
        self._unread, self._read = 0, 0.0  # bytes that were written, and since when they are as many

    def sweep(self, client: Client, now: float, deadline: float) -> None:
        """Ends what took too long. now: monotonic seconds. deadline: requests that began before it are over."""
        unread = client.transport.get_write_buffer_size()
        if unread != self._unread:
            self._unread, self._read = unread, now
        silence = now - client.since
        if client.exchange is not None:
            self._sweep_exchange(client, client.exchange, now, deadline)
        elif unread:
            if now - self._read > UNREAD_SECONDS:
                client.transport.abort()  # to close would be to wait for the caller to read
        elif client.lingering:
            if silence > LINGER_SECONDS:
                client.transport.abort()
        elif client.ahead:
            if silence > HEAD_SECONDS:
                client.reject(_SLOW_HEAD)
        elif silence > IDLE_SECONDS:
            client.transport.close()

    def _sweep_exchange(self, client: Client, exchange: Exchange, now: float, deadline: float) -> None:
        """A stream may last for as long as it moves; all else has its time."""
        if exchange.streaming:
            if exchange.moved or self._read == now:
                exchange.moved, client.since = False, now
            elif client.since < deadline:
                client.cut(exchange, outcomes.GONE if self._unread else outcomes.TIMEOUT)
            return
        # What the caller may not send at the moment it doesn't owe.
        uploads = not exchange.whole and not client.paused
        if exchange.began < deadline:
            if uploads:
                client.stop(exchange, _SLOW_BODY)
            elif exchange.status and client.congested:
                client.cut(exchange, outcomes.GONE)
            else:
                client.expire(exchange)
        elif exchange.upstream is not None:
            if uploads and now - client.since > STALL_SECONDS:
                client.stop(exchange, _SLOW_BODY)
            else:
                exchange.upstream.sweep(exchange, now)
