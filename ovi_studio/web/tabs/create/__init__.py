"""The Create tab: the form that other tabs fill, and the clip that is made."""
