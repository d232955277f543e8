"""Servers whose node has vanished say nothing: what the kernel knows of them."""

from __future__ import annotations

import asyncio
import socket
import struct

# Seconds in which nothing was confirmed of what a server was sent, though the kernel sent it again and again.
VANISHED_SECONDS = 10.0
# Of Linux' struct tcp_info: retransmissions in a row, segments not confirmed, milliseconds since anything was.
_INFO = struct.Struct("=2xB21xI28xI")


def watch(transport: asyncio.Transport) -> None:
    """Where all that was sent is confirmed, the kernel asks whether the peer is there, and finds out in about 25 s.

    Not by TCP_USER_TIMEOUT: to Linux a server that only doesn't read for so long is one that has vanished, too.
    """
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def has_vanished(transport: asyncio.Transport) -> bool:
    """Whether the peer has confirmed nothing for long of what it was sent.

    The kernel doesn't ask then as above, and goes on sending for a quarter of an hour. One that doesn't read is told
    from one that isn't there: it has confirmed all that it had room for.
    """
    connection = transport.get_extra_info("socket")
    if connection is None:
        return False
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    again, unconfirmed, silence = _INFO.unpack(told)
    return bool(again and unconfirmed and silence >= VANISHED_SECONDS * 1000)
