"""The kinds of the command line. One more is one more line."""

from __future__ import annotations

from modelyard.cli import modeldeployment, trainingjob
from modelyard.cli.errors import CommandError
from modelyard.cli.kind import Kind

# A NAME alone is one of the first kind.
KINDS: tuple[Kind, ...] = (trainingjob.KIND, modeldeployment.KIND)
# How one is named, for help and errors.
FORMS = " or ".join(("NAME", *(f"{kind.short}/NAME (a {kind.name})" for kind in KINDS)))
STAGES: tuple[str, ...] = tuple(stage.name for kind in KINDS for stage in kind.stages)


def parse(target: str) -> tuple[Kind, str]:
    """Kind and name of NAME or KIND/NAME; the kind as kubectl takes it and as it prints it. Raises CommandError."""
    word, slash, name = target.rpartition("/")
    if not slash and name:
        return KINDS[0], name
    wanted = word.lower()
    for kind in KINDS:
        singular = kind.name.lower()
        names = (kind.short, singular, kind.resource.plural, f"{singular}.{kind.resource.group}", kind.query)
        if wanted in names and name:
            return kind, name
    raise CommandError(f"{target!r} is not {FORMS}")
