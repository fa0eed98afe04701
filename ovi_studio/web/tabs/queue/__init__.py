"""The Queue tab: every job, in its order."""
