"""The classes of labelled data: their order, and what looks wrong about them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from modelyard_models.failure import Failure, shorten

from modelyard_trainer.prepare.warnings import Suspicions

_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)
MANY = 20  # classes: above it, fractions are a quantity and no names
_FIX = "give each class a name, or few steps of the scale one (round or bin the numbers)"


def sort_labels(labels: Sequence[str]) -> list[str]:
    """Labels in the order of their ids: by number if all are whole numbers, else by text."""
    if all(_WHOLE.fullmatch(label) for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def check_classes(names: Sequence[str], counts: Sequence[int], suspicions: Suspicions) -> None:
    """Refuses what can't be classes, and warns of what may not be meant. `counts` are rows by name.

    Raises Failure (DataInvalid).
    """
    rows = int(sum(counts))
    if len(names) < 2:
        raise Failure(
            "DataInvalid",
            f"classification needs at least 2 classes, the data have only {shorten(names)}; "
            "check data.sources[].columns.label",
        )
    fractions = all(_NUMBER.fullmatch(n) for n in names) and not all(_WHOLE.fullmatch(n) for n in names)
    if fractions and len(names) > MANY:
        raise Failure(
            "DataInvalid",
            f"the labels are {len(names)} different numbers ({shorten(names, 4)}), a quantity to be predicted "
            f"(regression) and no classes; {_FIX}, or name another column in data.sources[].columns.label",
        )
    if len(names) == rows:
        raise Failure(
            "DataInvalid",
            f"each of the {rows} rows has a label of its own ({shorten(names, 4)}), so nothing can be learnt "
            "of any class; name the column of the classes in data.sources[].columns.label",
        )
    if fractions or _is_scattered(names):
        suspicions.add(
            "NumbersAsClasses",
            f"the {len(names)} classes are numbers ({shorten(names, 4)}), and the model will not know that they "
            f"have an order; if they are a quantity, {_FIX}",
            len(names),
            names,
        )
    _tell_near_equal(names, counts, suspicions)


def tell_coverage(names: Sequence[str], counts: Mapping[str, Any], suspicions: Suspicions) -> None:
    """Warns of classes that a split lacks. `counts` are rows by class, for each split."""
    train = counts["train"]
    fix = "add rows, merge or remove the classes, or set data.split.stratifyBy: label"
    _tell_classes("UntrainedClasses", np.flatnonzero(train == 0), names, train, suspicions,
                  "have no row in the training split, so the model can't learn them", fix)  # fmt: skip
    _tell_classes("OneRowClasses", np.flatnonzero(train == 1), names, train, suspicions,
                  "have a single row in the training split", fix)  # fmt: skip
    for split, reason in (("validation", "UnvalidatedClasses"), ("test", "UntestedClasses")):
        found = counts[split]
        if found.sum():
            _tell_classes(reason, np.flatnonzero(found == 0), names, train, suspicions,
                          f"have no row in the {split} split, so its metrics say nothing of them",
                          f"raise data.split.{split}, add rows, or set data.split.stratifyBy: label")  # fmt: skip


def _tell_classes(
    reason: str, places: Any, names: Sequence[str], train: Any, suspicions: Suspicions, what: str, fix: str
) -> None:
    if len(places):
        listed = [names[i] for i in places]
        verb = what if len(listed) > 1 else what.replace("have ", "has ", 1)
        subject = f"{len(listed)} of {len(names)} classes ({shorten(listed, 4)})"
        samples = [{"label": names[i], "trainRows": int(train[i])} for i in places]
        suspicions.add(reason, f"{subject} {verb}; {fix}", len(listed), samples)


def _is_scattered(names: Sequence[str]) -> bool:
    """Whether many whole numbers are no ids, which count from 0 or 1 without gaps."""
    if len(names) <= MANY or not all(_WHOLE.fullmatch(n) for n in names):
        return False
    numbers = sorted(map(int, names))
    return numbers[0] not in (0, 1) or numbers[-1] - numbers[0] != len(numbers) - 1


def _tell_near_equal(names: Sequence[str], counts: Sequence[int], suspicions: Suspicions) -> None:
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(_fold(name), []).append(place)
    near = [group for group in groups.values() if len(group) > 1]
    if not near:
        return
    shown = "; ".join(" and ".join(repr(names[i]) for i in group[:4]) for group in near[:3])
    suspicions.add(
        "NearEqualLabels",
        f"{sum(map(len, near))} classes differ from another by case, space or the spelling of a number only "
        f"({shown}); if they are one class, write them alike in the data",
        sum(map(len, near)),
        [{"labels": {names[i]: int(counts[i]) for i in group}} for group in near],
    )


def _fold(name: str) -> str:
    """What labels have in common that look the same to people."""
    shown = (c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    text = " ".join("".join(shown).casefold().split())
    return repr(float(text)) if _NUMBER.fullmatch(text) and len(text) < 16 else text
