"""The one kind of error that is meant for people.

A `JobError` says in one sentence what is wrong and what to do about it. It fails the job at hand and nothing else;
every other exception is a defect and ends the process loudly.
"""


class JobError(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


class Stopped(Exception):
    """Somebody asked for the run to end; raised by a step callback and passed through unchanged."""
