"""The Library tab: the clips that were made."""
