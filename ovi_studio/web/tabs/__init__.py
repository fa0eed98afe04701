"""The tabs of the page, one folder each; `registry` lists them in order."""

CREATE_TAB = "create"
"""The tab that other tabs switch to after filling its form."""
