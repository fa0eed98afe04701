"""The clips that were made: every mp4 of this app in the output folder, whoever made it. Imports no torch."""

from ovi_studio.library.clips import MAX_PAGE, LibraryClip, Page, Query, TrashedClip
from ovi_studio.library.library import Library

__all__ = ["MAX_PAGE", "Library", "LibraryClip", "Page", "Query", "TrashedClip"]
