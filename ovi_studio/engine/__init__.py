"""The engine: a process of its own that takes jobs from the store and makes their clips, and who keeps it alive.

Nothing here imports torch until a clip is to be made.
"""
