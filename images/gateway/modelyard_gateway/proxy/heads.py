"""Heads of answers, as callers get them. Each says whether the connection goes on after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelyard_gateway.wire.refusal import Refusal, start_line

if TYPE_CHECKING:
    from modelyard_gateway.proxy.exchange import Exchange
    from modelyard_gateway.wire.response import ResponseHead


def pass_on(exchange: Exchange, head: ResponseHead, keep: bool) -> tuple[bytes, bool]:
    """Of a server's answer. keep: whether the connection may go on."""
    keep = keep and exchange.whole
    if keep and head.length >= 0 and not exchange.cached and exchange.head.modern:  # as nearly always
        return b"%b%bx-request-id: %b\r\n\r\n" % (head.prefix, head.framing, exchange.id), True
    begin = b"%b%bx-request-id: %b\r\n%b" % (head.prefix, head.framing, exchange.id, _cache_field(exchange))
    if head.length < 0 and exchange.head.method != "HEAD":
        if exchange.head.modern:
            begin += b"transfer-encoding: chunked\r\n"
        else:
            keep = False  # its end is the connection's
    return begin + _end(exchange, keep), keep


def own(exchange: Exchange, status: int, fields: bytes, size: int, keep: bool) -> tuple[bytes, bool]:
    """Of an answer of the gateway's own. fields: lines that say what the body is; size: its bytes."""
    keep = keep and exchange.whole
    begin = b"%b%b%bcontent-length: %d\r\nx-request-id: %b\r\n" % (
        start_line(status),
        fields,
        _cache_field(exchange),
        size,
        exchange.id,
    )
    return begin + _end(exchange, keep), keep


def rejection(refusal: Refusal) -> bytes:
    """The whole answer to what isn't a request; it ends the connection."""
    body = refusal.body("")
    return b"%b%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        start_line(refusal.status),
        refusal.fields(),
        len(body),
        body,
    )


def _cache_field(exchange: Exchange) -> bytes:
    return b"x-modelyard-cache: %b\r\n" % exchange.cached.encode() if exchange.cached else b""


def _end(exchange: Exchange, keep: bool) -> bytes:
    if not keep:
        return b"connection: close\r\n\r\n"
    return b"\r\n" if exchange.head.modern else b"connection: keep-alive\r\n\r\n"
