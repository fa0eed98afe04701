"""The durable queue: jobs in SQLite, the engines that work on them, and crash recovery. Imports no torch.

`Store` is the page's interface, `EngineSession` the engine's; both use `recovery` for engines that have died.
"""
