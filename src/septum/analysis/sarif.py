"""Results as SARIF 2.1.0 (OASIS), which code scanning takes: one result for each goal that does not hold."""

from collections.abc import Sequence
from typing import Any, Final

from septum import __version__
from septum.analysis.goals import Result

__all__ = ["sarif"]

_LEVELS: Final = {"violated": "error", "unknown": "warning"}


def sarif(results: Sequence[Result], path: str) -> dict[str, Any]:
    """The log of one run.

    Args:
        results: of `septum.analysis.check`.
        path: of the goals' file, which results point into.
    """
    return {
        "version": "2.1.0",
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "septum",
                        "version": __version__,
                        "rules": [
                            {"id": verdict, "shortDescription": {"text": f"a goal is {verdict}"}} for verdict in _LEVELS
                        ],
                    }
                },
                "results": [_result(result, path) for result in results if result.verdict in _LEVELS],
            }
        ],
    }


def _result(result: Result, path: str) -> dict[str, Any]:
    steps = [f"{hop.source} -> {hop.target}: {edge.rule}" for hop in result.witness for edge in hop.edges[:1]]
    what = [f"{result.goal} is {result.verdict}", *steps]
    if result.unknown:
        what.append("of unknown direction: " + ", ".join(result.unknown))
    return {
        "ruleId": result.verdict,
        "level": _LEVELS[result.verdict],
        "message": {"text": "\n".join(what)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": path},
                    "region": {"startLine": max(1, result.goal.line)},
                }
            }
        ],
    }
