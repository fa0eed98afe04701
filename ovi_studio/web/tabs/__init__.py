"""The tabs of the page, a folder each; `registry` says which there are, and in which order."""

CREATE_TAB = "create"
"""The tab that others turn to after they have filled its form."""
