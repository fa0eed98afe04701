"""A pytest plugin that reports and kills processes that tests left running, and fails the run."""

import pytest
from processes import end_what_is_left, mark_processes

_LEFT = pytest.StashKey[list[str]]()


def pytest_configure() -> None:
    mark_processes()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return  # a worker of xdist; who started it looks after them all
    session.config.stash[_LEFT] = left = end_what_is_left(mark_processes())
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left := config.stash.get(_LEFT, []):
        terminalreporter.section("Left behind by tests, and killed")
        terminalreporter.write_line("\n".join(left))
