"""Where text comes from. Each class is an option of ``data``; see ``conf/data``."""

from ntp.data.corpora.base import Corpus, Split
from ntp.data.corpora.docstrings import Docstrings
from ntp.data.corpora.files import Files
from ntp.data.corpora.hub import Hub
from ntp.data.corpora.python import Python
from ntp.data.corpora.speeches import Speeches

__all__ = ["Corpus", "Docstrings", "Files", "Hub", "Python", "Speeches", "Split"]
