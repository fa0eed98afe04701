"""How text is compared: without case and accents."""

import unicodedata


def fold(text: str) -> str:
    """Remove case and accents for comparison."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()
