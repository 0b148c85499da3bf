"""What an objective makes of real rows, for a person to look at.

`explaining` turns an objective and rows into an `Explanation`: plain values and nothing to draw with. `terminal`,
`html` and `png` each draw it.
"""

from ntp.explain.explaining import explain
from ntp.explain.explanation import Explanation
from ntp.explain.source import Source, text_source, training_source, validation_source

__all__ = ["Explanation", "Source", "explain", "text_source", "training_source", "validation_source"]
