"""Streaming: the text of one response, piece by piece, each released only after the verdict on its tokens.

A request runs in a thread of its own. Behind the recording, in the list of stopping criteria, stands a `Releaser`: it
hands a token on when the recording has judged it, so what crossed is never on its way. A step copies two numbers to the
host: the token, and whether its row is over.
"""

from collections.abc import Callable, Sequence
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, Self, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import StoppingCriteria

from monitors.live.recorder import Recording
from probes.errors import CouldNotRun

__all__ = ["Pieces", "Releaser"]

T = TypeVar("T")


class Releaser(StoppingCriteria):
    """Hands tokens of a single row on once they were judged; stops where nobody wants them any more.

    Args:
        recording: of the same request; stands before it among the criteria.
        take: gets each token, and says whether it wants the next one.
        hold: whether a row that is over is withheld.
    """

    def __init__(self, recording: Recording, take: Callable[[int], bool], *, hold: bool):
        self._recording = recording
        self._take = take
        self._hold = hold

    def __call__(self, input_ids: Int[Tensor, "batch position"], scores: Tensor, **_: object) -> Bool[Tensor, "batch"]:
        over = self._recording.over.to(input_ids.device)
        token, held = torch.stack([input_ids[0, -1], over[0].to(input_ids.dtype)]).tolist()
        wanted = bool(held and self._hold) or self._take(token)
        return torch.full((1,), not wanted, dtype=torch.bool, device=input_ids.device)


class Pieces(Generic[T]):
    """The text of a response while it is made; an iterator, and a context that ends the response when it is left.

    Args:
        work: makes the response; gets a function that takes what is released, tokens or a text behind them, and says
            whether to go on.
        decode: turns token ids into text.
    """

    def __init__(self, work: Callable[[Callable[[int | str], bool]], T], decode: Callable[[Sequence[int]], str]):
        self._queue: SimpleQueue[int | str | None] = SimpleQueue()
        self._decode = decode
        self._ids: list[int] = []
        self._shown = self._before = 0  # tokens whose text is out, and those before the last piece
        self._closed = self._done = False
        self._made: T | None = None
        self._error: BaseException | None = None
        self._thread = Thread(target=copy_context().run, args=(self._run, work), daemon=True)
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        """Return the next piece of text.

        Raises:
            Whatever ended the request, once the pieces before it are out.
        """
        while not self._done:
            got = self._queue.get()
            if got is None:
                self._done = True
                self._thread.join()
            elif isinstance(got, int):
                self._ids.append(got)
            rest = got if isinstance(got, str) else ""
            if piece := self._piece(whole=not isinstance(got, int)) + rest:
                return piece
        if self._error is not None:
            raise self._error
        raise StopIteration

    @property
    def reply(self) -> T:
        """What came of the request; waits for its end.

        Raises:
            Whatever ended the request.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        if self._made is None:
            raise CouldNotRun("the request ended without a reply")
        return self._made

    def close(self) -> None:
        """End the response at the next token, and wait for its verdict."""
        self._closed = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _run(self, work: Callable[[Callable[[int | str], bool]], T]) -> None:
        try:
            self._made = work(self._take)
        except BaseException as error:  # noqa: BLE001 - raised again where the pieces are read
            self._error = error
        finally:
            self._queue.put(None)

    def _take(self, released: int | str) -> bool:
        self._queue.put(released)
        return not self._closed

    def _piece(self, *, whole: bool) -> str:
        """Return the text of tokens that are not out yet; nothing while it ends within a letter, unless all are there.

        It is what they add to the piece before them: a token alone may lose its space.
        """
        behind = self._decode(self._ids[self._before :])
        if behind.endswith("\ufffd") and not whole:
            return ""
        piece = behind[len(self._decode(self._ids[self._before : self._shown])) :]
        if piece:
            self._before, self._shown = self._shown, len(self._ids)
        return piece
