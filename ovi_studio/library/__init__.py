"""The library of clips: every mp4 of this app in the output folder, no matter how it got there. Imports no torch."""

from ovi_studio.library.clips import MAX_PAGE, LibraryClip, Page, Query, TrashedClip
from ovi_studio.library.library import Library

__all__ = ["MAX_PAGE", "Library", "LibraryClip", "Page", "Query", "TrashedClip"]
