"""The Create tab: the form, which other tabs fill, and the latest clip."""
