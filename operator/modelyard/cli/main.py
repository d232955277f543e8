"""The `modelyard` command: `render` needs no cluster; `status` and `watch` ask it through kubectl."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from modelyard import __version__
from modelyard.cli import kinds, render, watch
from modelyard.cli.errors import CommandError
from modelyard.cli.kubectl import Kubectl

EXIT_USAGE = 2


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="modelyard",
        description=f"Look at {' and '.join(f'{kind.name}s' for kind in kinds.KINDS)}: before they run, and while"
        " they do.",
    )
    parser.add_argument("--version", action="version", version=f"modelyard {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    rendering = commands.add_parser(
        "render", help="print the objects that a manifest leads to; needs no cluster"
    )
    rendering.add_argument("-f", "--filename", required=True, help="a manifest, or - for standard input")
    rendering.add_argument(
        "--stage", choices=kinds.STAGES, help="the stage whose objects are printed; default: the first"
    )
    rendering.add_argument(
        "--profiles",
        type=Path,
        metavar="FILE",
        help="profiles as the chart renders them; default: one of defaults",
    )
    rendering.add_argument("-n", "--namespace", default="default", help="where the manifest names none")

    for name, text in (
        ("status", "print how one of them stands"),
        ("watch", "the same, live, until a job has ended or what a deployment asks for serves"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("target", metavar="KIND/NAME", help=kinds.FORMS)
        command.add_argument("-n", "--namespace", help="default: kubectl's")
        command.add_argument("--context", help="kubectl's context")
        command.add_argument("--kubeconfig", help="kubectl's configuration")
        if name == "watch":
            command.add_argument(
                "--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks"
            )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. 0: done, and well; 1: what is looked at has failed; 2: it can't be carried out."""
    options = build_parser().parse_args(argv)
    try:
        if options.command == "render":
            return render.run(options.filename, options.stage, options.profiles, options.namespace)
        kind, name = kinds.parse(options.target)
        kubectl = Kubectl(options.namespace, options.context, options.kubeconfig)
        read = partial(kubectl.get, kind.query, name)
        if options.command == "status":
            return watch.show(read, kind.look, sys.stdout)
        return watch.run(read, kind.look, options.target, sys.stdout, options.interval)
    except CommandError as error:
        print(f"modelyard: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        # It goes on; only the watching ends.
        return 130
    except BrokenPipeError:
        # `modelyard … | head`: nobody reads on. Python would complain once more while it flushes at exit.
        sys.stdout = None
        return 0
