"""Waiting for node 0 before torchrun is started: pods of one Job don't start together."""

import socket
import time
from typing import Optional

from modelyard_agent.files import say
from modelyard_agent.settings import Settings
from modelyard_agent.signals import StopSignal

RETRY_SECONDS = 0.5
SAY_EVERY_SECONDS = 30.0


class MeetingError(Exception):
    """Node 0 was not there in time; the message says what to look at."""


def wait_for_master(settings: Settings, stop: StopSignal) -> bool:
    """Wait until node 0's name resolves and, elsewhere than there, its rendezvous port is open.

    False if asked to stop meanwhile. Raises MeetingError after `join_seconds`.
    """
    if settings.num_nodes == 1:
        return not stop.received
    started = time.monotonic()
    say_at = started + SAY_EVERY_SECONDS
    while not stop.received:
        problem = _find_problem(settings)
        now = time.monotonic()
        if problem is None:
            return True
        if now - started >= settings.join_seconds:
            raise MeetingError("{} after {:.0f} s: is pod 0 running?".format(problem, settings.join_seconds))
        if now >= say_at:
            say_at = now + SAY_EVERY_SECONDS
            say("waiting for node 0: {}".format(problem))
        stop.wait(RETRY_SECONDS)
    return False


def _find_problem(settings: Settings) -> Optional[str]:
    try:
        socket.getaddrinfo(settings.master_addr, settings.rdzv_port, type=socket.SOCK_STREAM)
    except OSError as error:
        return "the name {} does not resolve ({})".format(settings.master_addr, error)
    if settings.node == 0:
        return None
    try:
        with socket.create_connection((settings.master_addr, settings.rdzv_port), timeout=5.0):
            return None
    except OSError as error:
        return "{}:{} does not answer ({})".format(settings.master_addr, settings.rdzv_port, error)
