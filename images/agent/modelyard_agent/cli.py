"""The command line: agent.pyz prepare | train [-- command ...] | collect."""

import argparse
import os
from typing import List, Sequence, Tuple

from modelyard.contract import codes

from modelyard_agent import stages
from modelyard_agent.files import say
from modelyard_agent.processes import become_reaper
from modelyard_agent.settings import SettingsError, read_settings
from modelyard_agent.signals import StopSignal


def main(arguments: Sequence[str]) -> int:
    """Run one stage. Returns the pod's exit code; argparse ends the process with 2 on wrong usage."""
    stop = StopSignal()  # first: a signal that comes while we start counts
    own, command = _split(list(arguments))
    parser = argparse.ArgumentParser(prog="agent", description="Runs one stage of a TrainingJob in its pod.")
    parser.add_argument("stage", choices=("prepare", "train", "collect"))
    stage = parser.parse_args(own).stage
    if command and stage != "train":
        parser.error("only train takes a command")
    try:
        settings = read_settings(stage, os.environ)
    except SettingsError as error:
        say(str(error))
        return codes.EXIT_USER_ERROR
    become_reaper()
    if stage == "collect":
        return stages.collect(settings)
    pod = stages.Pod(settings, stop)
    return stages.prepare(pod) if stage == "prepare" else stages.train(pod, command)


def _split(arguments: List[str]) -> Tuple[List[str], List[str]]:
    if "--" not in arguments:
        return arguments, []
    index = arguments.index("--")
    return arguments[:index], arguments[index + 1 :]
