"""A run of the selected checks, with its table and result file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpu.check import Check, Rig
from gpu.report import machine, table, write_json
from gpu.runner import Result, Verdict, run_checks, watchdog

PATIENCE = 180.0
"""Seconds that the current check may continue after the time limit."""
OUT_OF_TIME = "out of time"


@dataclass
class Session:
    """The checks to run, and their results so far."""

    rig: Rig
    checks: Sequence[Check]
    path: Path
    """Path of the JSON file."""
    results: list[Result] = field(default_factory=list)

    def run(self, limit: float) -> int:
        """Run the checks, starting none after `limit` seconds; returns 1 if one failed, else 0."""
        with watchdog(limit + PATIENCE, self._give_up):
            for result in run_checks(self.checks, self.rig, limit, self._announce):
                self.results.append(result)
                print(f"  {result.verdict} in {result.seconds:.1f} s. {result.reason}".rstrip(), flush=True)
        return self.report()

    def report(self) -> int:
        """Print the table and write the file; returns 1 if a check failed, else 0."""
        found = machine(self.rig)
        write_json(self.path, found, self.results)
        verdicts = [str(result.verdict) for result in self.results]
        counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
        print(f"\n{table(self.results)}\n")
        print(f"{counts} on {found['device']}; the figures are in {self.path}.", flush=True)
        return 1 if Verdict.FAILED in verdicts else 0

    def _announce(self, check: Check) -> None:
        print(f"{check.name}: {check.shows}", flush=True)

    def _give_up(self) -> None:
        """Report the results so far and end the process: the hanging check may keep the interpreter from exiting."""
        stuck, *rest = self.checks[len(self.results) :]
        reason = f"It had not finished {PATIENCE:.0f} seconds after the time limit."
        self.results.append(Result(stuck.name, stuck.shows, Verdict.FAILED, reason))
        self.results.extend(Result(check.name, check.shows, Verdict.NOT_RUN, OUT_OF_TIME) for check in rest)
        self.report()
        os._exit(1)
