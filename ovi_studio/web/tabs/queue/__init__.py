"""The Queue tab: all jobs, in order."""
