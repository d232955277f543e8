"""Waiting for node 0: pods of one Job don't start together."""

import socket
import time
from typing import Callable, Optional

from modelyard_agent.files import say
from modelyard_agent.settings import Settings
from modelyard_agent.signals import StopSignal

RETRY_SECONDS = 0.5
SAY_EVERY_SECONDS = 30.0
CONNECT_SECONDS = 5.0


class MeetingError(Exception):
    """Node 0 was not there in time; the message says what to look at."""


def wait_for_master(settings: Settings, stop: StopSignal, listening: bool) -> bool:
    """Wait until node 0's name resolves and, if it shall be `listening`, its rendezvous port is open.

    False if asked to stop meanwhile. Raises MeetingError after `join_seconds`.
    """
    if settings.num_nodes == 1:
        return not stop.received

    def find_problem() -> Optional[str]:
        try:
            socket.getaddrinfo(settings.master_addr, settings.rdzv_port, type=socket.SOCK_STREAM)
        except OSError as error:
            return "the name {} does not resolve ({})".format(settings.master_addr, error)
        if settings.node == 0 or not listening:
            return None
        return find_closed(settings.master_addr, settings.rdzv_port)

    return wait_until_solved(find_problem, settings.join_seconds, stop.wait)


def find_closed(host: str, port: int) -> Optional[str]:
    """Why nobody can be reached there, or None."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            return None
    except OSError as error:
        return "{}:{} does not answer ({})".format(host, port, error)


def wait_until_solved(
    find_problem: Callable[[], Optional[str]], seconds: float, wait: Callable[[float], bool]
) -> bool:
    """Try again and again, and say every 30 s what is waited for. `wait` rests so many seconds, and is true if asked
    to stop; then this is false. Raises MeetingError with the problem that there still is after `seconds`.
    """
    started = time.monotonic()
    say_at = started + SAY_EVERY_SECONDS
    stopped = wait(0)
    while not stopped:
        problem = find_problem()
        now = time.monotonic()
        if problem is None:
            return True
        if now - started >= seconds:
            raise MeetingError("{} after {:.0f} s: is pod 0 running?".format(problem, seconds))
        if now >= say_at:
            say_at = now + SAY_EVERY_SECONDS
            say("waiting for node 0: {}".format(problem))
        stopped = wait(RETRY_SECONDS)
    return False
