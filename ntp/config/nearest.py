"""The closest right value, for error messages."""

import difflib
from collections.abc import Iterable


def suggestion(wrong: str, right: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` with the nearest of ``right``, or the short list of all of them, or nothing."""
    candidates = sorted({str(one) for one in right})
    close = difflib.get_close_matches(str(wrong), candidates, n=1, cutoff=0.55)
    if close:
        return f" (did you mean '{close[0]}'?)"
    if 0 < len(candidates) <= 16:
        return f" (choose from: {', '.join(candidates)})"
    return ""
