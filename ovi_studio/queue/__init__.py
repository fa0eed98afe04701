"""The durable queue: jobs in SQLite, who works on them, and what happens when somebody dies. Imports no torch.

`Store` is the page's side, `EngineSession` an engine's, `recovery` what both do about an engine that is gone.
"""
