"""Tokens to text while they come, and its end where a stop string is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_HALF = "�"  # what decoding makes of bytes that are no character, or not yet
_CONTEXT = 64  # tokens that may wait for a character to become whole; then they are no text, and are given as they are


class Detokenizer:
    """The text of tokens, piece by piece. The pieces together are the text of all, but for half a character at its end.

    `before` are tokens that this text continues; without them it is a text of its own. Tokenizers treat the first token
    otherwise (no space before it) and make a character of several: so the last tokens are always decoded with those
    before them.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], before: Sequence[int] = ()) -> None:
        self._decode = decode
        self._tokens = list(before)  # those that were given last, and those that are not all given
        self._given = len(self._tokens)  # of the first, how many
        self._sent = len(decode(self._tokens))  # characters of their text that were given

    def push(self, token: int) -> str:
        """What the token adds; empty while a character is not whole."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        long = len(self._tokens) - self._given > _CONTEXT
        whole = text if long else text.rstrip(_HALF)
        piece = whole[self._sent :]
        self._sent += len(piece)
        if len(whole) == len(text):
            last = self._tokens[self._given :]
            # Tokens without a text of their own (special ones, a lone space) tell nothing of where they stand.
            if (alone := self._decode(last)) or long:
                self._tokens, self._given, self._sent = last, len(last), len(alone)
        return piece


class StopFinder:
    """Lets text through up to the first of the strings, and never a part of one.

    The first is the one that ends first, so that it doesn't matter in which pieces the text comes.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._held = ""  # the end of the text, if a string could begin with it
        self.found = False

    def push(self, piece: str) -> str:
        """What may be given by now."""
        text = self._held + piece
        ends = [(at + len(s), at) for s in self._strings if (at := text.find(s)) >= 0]
        if ends:
            self.found, self._held = True, ""
            return text[: min(ends)[1]]
        longest = max(map(len, self._strings), default=1) - 1
        for begin in range(max(0, len(text) - longest), len(text)):
            if any(s.startswith(text[begin:]) for s in self._strings):
                self._held = text[begin:]
                return text[:begin]
        self._held = ""
        return text

    def flush(self) -> str:
        """At the end of the text: what was held back, as no string has come of it."""
        held, self._held = self._held, ""
        return held
