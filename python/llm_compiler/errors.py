"""Errors that carry the diagnostics of the command line."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence


class CompileError(ValueError):
    """What is wrong with a spec, a run or its data: every problem that was found.

    ``diagnostics`` is a list of dicts with ``code``, ``severity``, ``message``, ``file``, ``line``,
    ``column``, ``help``, ``field`` (the path of the spec field that it is about) and ``labels`` (each
    with ``file``, ``line``, ``column``, ``start``, ``end`` and ``text``); ``str`` of the error shows
    them all.
    """

    diagnostics: List[Dict[str, Any]]

    def __init__(self, diagnostics: Sequence[Dict[str, Any]]) -> None:
        self.diagnostics = list(diagnostics)
        super().__init__("\n".join(_text(d) for d in self.diagnostics))

    def __reduce__(self) -> Any:
        return (type(self), (self.diagnostics,))


class UnknownFieldError(CompileError, TypeError):
    """A keyword that a spec does not have; the nearest name is in the help."""


def _text(diagnostic: Dict[str, Any]) -> str:
    place = ""
    if diagnostic.get("file"):
        place = str(diagnostic["file"])
        if diagnostic.get("line"):
            place += f":{diagnostic['line']}:{diagnostic['column']}"
        place += ": "
    text = f"{place}{diagnostic['severity']}[{diagnostic['code']}]: {diagnostic['message']}"
    if diagnostic.get("help"):
        text += f"\n  help: {diagnostic['help']}"
    return text


__all__ = ["CompileError", "UnknownFieldError"]
