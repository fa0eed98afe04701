"""The durable queue: jobs in SQLite, who works on them, and what happens when somebody dies. Imports no torch.

`Store` is the side of the page, `Work` the side of an engine, `recovery` what both do about an engine that is gone.
"""
