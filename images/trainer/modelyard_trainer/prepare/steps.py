"""The prepare steps: what each one changes or removes."""

from __future__ import annotations

import hashlib
import unicodedata
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from modelyard.api.data import Filter, Normalize, PrepareStep
from modelyard_models.failure import Failure

from modelyard_trainer.prepare.rows import Item, Removals

CONTRADICTION = "contradiction"  # reason of rows whose text stands under another label already
CountTokens = Callable[[list[str]], list[int]]


@dataclass
class Step(ABC):
    """One step in action: takes a batch, gives what is left of it."""

    name: str
    removals: Removals
    changed: int = 0

    @abstractmethod
    def apply(self, batch: list[Item]) -> list[Item]:
        """The rows that stay, changed in place where the step changes text."""


@dataclass
class NormalizeStep(Step):
    """Repairs mojibake, then brings text into a Unicode normal form."""

    spec: Normalize = field(default_factory=Normalize)

    def apply(self, batch: list[Item]) -> list[Item]:
        """All rows; those that lose all their text are removed as emptyText."""
        kept = []
        for item in batch:
            try:
                text = normalize(item.text, self.spec)
            except Exception as error:  # whatever a text makes ftfy raise
                raise Failure(
                    "DataInvalid",
                    f"source {item.source}, row {item.number}: step {self.name} can't repair the text ({error}); "
                    "remove the row, or set fixMojibake: false",
                ) from error
            if text != item.text:
                self.changed += 1
            if text.strip():
                item.text = text
                kept.append(item)
            else:
                self.removals.add(self.name, "emptyText", item)
        return kept


def normalize(text: str, spec: Normalize) -> str:
    """One text, repaired and normalised."""
    if text.isascii():  # is normal in every form, and no mojibake
        return text
    if spec.fix_mojibake:
        import ftfy

        text = ftfy.fix_encoding(text)
    return text if spec.unicode == "None" else unicodedata.normalize(spec.unicode, text)


@dataclass
class FilterStep(Step):
    """Removes what is too short or too long."""

    spec: Filter = field(default_factory=Filter)
    count_tokens: CountTokens | None = None

    def apply(self, batch: list[Item]) -> list[Item]:
        """The rows within the bounds."""
        spec, kept = self.spec, []
        tokens = self._tokens(batch)
        for item, count in zip(batch, tokens, strict=True):
            reason = None
            if spec.min_characters is not None and len(item.text) < spec.min_characters:
                reason = "tooFewCharacters"
            elif spec.max_characters is not None and len(item.text) > spec.max_characters:
                reason = "tooManyCharacters"
            elif spec.min_tokens is not None and count < spec.min_tokens:
                reason = "tooFewTokens"
            elif spec.max_tokens is not None and count > spec.max_tokens:
                reason = "tooManyTokens"
            if reason:
                self.removals.add(self.name, reason, item)
            else:
                kept.append(item)
        return kept

    def _tokens(self, batch: list[Item]) -> list[int]:
        if self.spec.min_tokens is None and self.spec.max_tokens is None:
            return [0] * len(batch)
        if self.count_tokens is None:
            raise Failure(
                "DataInvalid",
                f"step {self.name} counts tokens, but model.config has its tokenizer trained after the "
                "steps; use "
                "minCharacters and maxCharacters",
            )
        return self.count_tokens([item.text for item in batch])


@dataclass
class DeduplicateStep(Step):
    """Removes rows whose text was seen before; the first stays. One under another label is no duplicate but a
    contradiction, and is counted as such.
    """

    # A text's place in the arrays, which hold what its first row was: a few bytes a row.
    seen: dict[bytes, int] = field(default_factory=dict)
    numbers: array[int] = field(default_factory=lambda: array("q"))
    sources: array[int] = field(default_factory=lambda: array("l"))
    labels: array[int] = field(default_factory=lambda: array("l"))
    words: list[str | None] = field(default_factory=list)
    codes: dict[str | None, int] = field(default_factory=dict)

    def apply(self, batch: list[Item]) -> list[Item]:
        """The first of each text. A removed row's sample names the row that it repeats or contradicts."""
        kept = []
        for item in batch:
            place = self.seen.setdefault(text_hash(item.text), len(self.numbers))
            if place == len(self.numbers):
                self.numbers.append(item.number)
                self.sources.append(self._code(item.source))
                self.labels.append(self._code(item.label))
                kept.append(item)
                continue
            label = self.words[self.labels[place]]
            reason = "duplicate" if label == item.label else CONTRADICTION
            first = {"source": self.words[self.sources[place]], "row": self.numbers[place]}
            self.removals.add(
                self.name, reason, item, first=first if label is None else first | {"label": label}
            )
        return kept

    def _code(self, word: str | None) -> int:
        code = self.codes.setdefault(word, len(self.words))
        if code == len(self.words):
            self.words.append(word)
        return code


def text_hash(text: str) -> bytes:
    """16 bytes that differ for different texts."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def make_steps(specs: list[PrepareStep], removals: Removals, count_tokens: CountTokens | None) -> list[Step]:
    """The steps of a job, named by their index and kind: 0.normalize, 1.deduplicate.exact."""
    steps: list[Step] = []
    for index, spec in enumerate(specs):
        if spec.normalize is not None:
            steps.append(NormalizeStep(f"{index}.normalize", removals, spec=spec.normalize))
        elif spec.filter is not None:
            steps.append(FilterStep(f"{index}.filter", removals, spec=spec.filter, count_tokens=count_tokens))
        elif spec.deduplicate is not None:
            steps.append(DeduplicateStep(f"{index}.deduplicate.{spec.deduplicate.method}", removals))
        else:
            raise Failure(
                "DataInvalid", f"data.prepare[{index}] is empty; set normalize, filter or deduplicate"
            )
    return steps


def run_steps(batches: Iterator[list[Item]], steps: list[Step]) -> Iterator[list[Item]]:
    """Batches that have passed all steps."""
    for batch in batches:
        for step in steps:
            batch = step.apply(batch)
        if batch:
            yield batch
