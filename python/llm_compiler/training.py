"""Running a training, with its progress on the terminal."""

from __future__ import annotations

import sys
import time
from os import PathLike
from typing import Any, Callable, Dict, Optional, TextIO, Union

from . import _native

#: What a progress callback gets: a dict with ``event`` and the values of that event.
ProgressEvent = Dict[str, Any]
Progress = Union[bool, None, Callable[[ProgressEvent], Any]]


class ProgressLine:
    """One line on a terminal that shows step, loss, speed and the time left."""

    def __init__(self, stream: TextIO, interval_s: float = 0.1) -> None:
        self._stream = stream
        self._interval_s = interval_s
        self._drawn = float("-inf")
        self._width = 0

    def __call__(self, event: ProgressEvent) -> None:
        kind = event["event"]
        if kind == "stage":
            self._draw(f"{event['name']}: {event['detail']}")
        elif kind == "step":
            is_last = event["step"] == event["max_steps"]
            if is_last or time.monotonic() - self._drawn >= self._interval_s:
                left = event["max_steps"] - event["step"]
                seconds = left * event["elapsed_s"] / max(event["step"], 1)
                self._draw(
                    f"step {event['step']}/{event['max_steps']}  loss {event['loss']:.4f}  "
                    f"{event['tokens_per_s']:,.0f} tokens/s  {seconds:.0f} s left"
                )

    def close(self) -> None:
        """Ends the line, if one was drawn."""
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0

    def _draw(self, text: str) -> None:
        self._stream.write("\r" + text.ljust(self._width))
        self._stream.flush()
        self._width = len(text)
        self._drawn = time.monotonic()


def run_training(
    training_ir: "_native.TrainingIR",
    model_ir: "_native.ModelIR",
    dataset_ir: "_native.DatasetIR",
    tokenizer_ir: "_native.TokenizerIR",
    output_root: Union[str, "PathLike[str]"] = "runs",
    progress: Progress = None,
    threads: Optional[int] = None,
) -> "_native.TrainingResult":
    """Trains, and writes a run directory below ``output_root``.

    The directory is named by the run's recipe: an interrupted run goes on when it is asked for
    again, a complete one is verified and returned as ``already_complete``. ``threads`` never
    changes a bit of the result. Other Python threads go on meanwhile.

    ``progress``: ``None`` or ``True`` shows a line on standard error where that is a terminal,
    ``False`` nothing; a callable gets a dict per event.

    Raises :class:`CompileError` with all diagnostics, also where a hash in the training is not
    that of the object passed, and ``ValueError`` for fewer than one thread. Ctrl-C writes a checkpoint and then raises ``KeyboardInterrupt``.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"`threads` is {threads}, but must be at least 1; None takes every core")
    line: Optional[ProgressLine] = None
    callback: Optional[Callable[[ProgressEvent], Any]] = None
    if callable(progress):
        callback = progress
    elif progress is not False and sys.stderr is not None and sys.stderr.isatty():
        callback = line = ProgressLine(sys.stderr)
    try:
        return _native.run_training(
            training_ir, model_ir, dataset_ir, tokenizer_ir, output_root, callback, threads
        )
    finally:
        if line is not None:
            line.close()


__all__ = ["Progress", "ProgressEvent", "ProgressLine", "run_training"]
