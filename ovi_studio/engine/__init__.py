"""The engine, a separate process that takes jobs from the store and makes their clips, and its supervisor.

Nothing here imports torch before a clip is made.
"""
