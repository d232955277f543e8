"""CEL expressions about fields that may be absent, which is most of them: defaults are not stored."""

from __future__ import annotations


def has(path: str, root: str = "self") -> str:
    """Whether `path` below `root` is present, parents included: `has(self.a) && has(self.a.b)`."""
    names = path.split(".")
    return " && ".join(f"has({root}.{'.'.join(names[: i + 1])})" for i in range(len(names)))


def unchanged(path: str) -> str:
    """Whether `path` is equal in `self` and `oldSelf`, or absent in both."""
    new, old = has(path), has(path, "oldSelf")
    return f"({new}) == ({old}) && (!({new}) || self.{path} == oldSelf.{path})"
