"""`python3 -m tests.cluster`: bring the local cluster up and down, look at it, put images into it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from . import base_image, binaries, cache, kind, native, plan
from .plan import DEFAULT_NAME
from .shell import ClusterError, say


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code: 0, or 1 with one sentence about what is wrong."""
    options = _parser().parse_args(arguments)
    try:
        name = plan.check_name(options.name)
        return int(options.command(name, options) or 0)
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    except BrokenPipeError:
        # The reader of our output, `head` for instance, has seen enough; nothing is left to flush to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        say("interrupted; the same command again takes it from here")
        return 130


def _up(name: str, options: argparse.Namespace) -> None:
    # Nodes of kind have no folder in common, where volumes could be shared; what is native stays so.
    native_only = options.control_plane_only or (options.nodes or 1) > 1 or plan.load(name)
    if not native_only and kind.is_available():
        kind.up(name)
    else:
        native.up(name, options.control_plane_only, options.nodes)


def _down(name: str, options: argparse.Namespace) -> None:
    if _is_kind(name):
        kind.down(name, options.wipe)
    else:
        native.down(name, options.wipe)
    if options.all:
        for folder in (binaries.folder(), base_image.folder()):
            shutil.rmtree(folder, ignore_errors=True)
        say("programs and base images are gone too")


def _status(name: str, _: argparse.Namespace) -> int:
    if _is_kind(name):
        print(f"cluster '{name}' runs in kind: {' '.join(kind.nodes(name))}")
        return 0
    cluster = plan.load(name)
    if not cluster:
        print(f"there is no cluster '{name}'")
        return 1
    up = native.is_up(cluster)
    nodes = "node" if len(cluster.nodes) == 1 else f"{len(cluster.nodes)} nodes"
    mode = f"control plane and {nodes}" if cluster.nodes else "control plane only"
    print(f"cluster '{name}' is {'up' if up else 'not up'} ({mode}, {cluster.server})")
    print("\n".join(native.status(cluster)))
    print(f"kubeconfig  {cluster.kubeconfig}\nlogs        {cluster.logs}")
    return 0 if up else 1


def _load(name: str, options: argparse.Namespace) -> None:
    if _is_kind(name):
        kind.load(name, options.path, options.image)
    else:
        say(native.load(_existing(name), options.path, options.image))


def _kubeconfig(name: str, _: argparse.Namespace) -> None:
    print(kind.kubeconfig(name) if _is_kind(name) else _existing(name).kubeconfig)


def _env(name: str, _: argparse.Namespace) -> None:
    path = kind.kubeconfig(name) if _is_kind(name) else _existing(name).kubeconfig
    print(f"export KUBECONFIG={path}\nexport PATH={binaries.folder()}:$PATH")


def _base(_: str, __: argparse.Namespace) -> None:
    print(base_image.ensure_base())


def _lose(name: str, options: argparse.Namespace) -> None:
    native.lose(_existing(name), options.node, options.cut_off)
    say(
        f"node {options.node} is {'cut off' if options.cut_off else 'lost'}; `up --name {name}` brings it back"
    )


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= plan.MOST_NODES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {plan.MOST_NODES}")
    return int(text)


def _existing(name: str) -> plan.Cluster:
    cluster = plan.load(name)
    if not cluster:
        raise ClusterError(
            f"there is no cluster '{name}'; make it: `python3 -m tests.cluster up --name {name}`"
        )
    return cluster


def _is_kind(name: str) -> bool:
    return plan.load(name) is None and kind.is_available() and kind.exists(name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.cluster",
        description=f"{__doc__} Docker and kind are used where both are there; else the real components run "
        f"as processes. Everything is kept under {cache.root()} (set MODELYARD_CACHE to move it).",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default=DEFAULT_NAME, help="which cluster (default: %(default)s)")

    up = commands.add_parser("up", parents=[common], help="start the cluster, or finish an interrupted start")
    form = up.add_mutually_exclusive_group()
    form.add_argument("--control-plane-only", action="store_true", help="API server and controllers, no node")
    form.add_argument("--nodes", type=_count, help="how many nodes, fixed when it is made (default: 1)")
    up.set_defaults(command=_up)

    down = commands.add_parser("down", parents=[common], help="stop it and put the machine back as it was")
    down.add_argument("--wipe", action="store_true", help="also remove its objects, images and volumes")
    down.add_argument("--all", action="store_true", help="also remove the built programs and the base images")
    down.set_defaults(command=_down)

    lose = commands.add_parser("lose", parents=[common], help="take a node away, as a power failure does")
    lose.add_argument("node", help="the node's name")
    lose.add_argument("--cut-off", action="store_true", help="only pull its network out: its pods live on")
    lose.set_defaults(command=_lose)

    load = commands.add_parser("load", parents=[common], help="put an image into the nodes")
    load.add_argument("path", type=Path, help="an OCI layout folder, an OCI archive or a docker archive")
    load.add_argument("--image", metavar="NAME:TAG", help="the image's name, if the file does not carry it")
    load.set_defaults(command=_load)

    for name, command, text in (
        ("status", _status, "show what runs; the exit code is 0 when everything does"),
        ("kubeconfig", _kubeconfig, "print the path of the kubeconfig"),
        ("env", _env, 'print shell exports; use as: eval "$(python3 -m tests.cluster env)"'),
        ("base", _base, "make the base image without a cluster and print its layout folder"),
    ):
        commands.add_parser(name, parents=[common], help=text).set_defaults(command=command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
