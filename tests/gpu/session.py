"""A run of chosen checks from the first one to the table and the file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpu.check import Check, Rig
from gpu.report import machine, table, write_json
from gpu.runner import Result, Verdict, run_checks, watchdog

PATIENCE = 180.0
"""Seconds that the check at hand may go on when the time is over."""
OUT_OF_TIME = "out of time"


@dataclass
class Session:
    """What is to be run, and what was found so far."""

    rig: Rig
    checks: Sequence[Check]
    path: Path
    """Of the JSON file."""
    results: list[Result] = field(default_factory=list)

    def run(self, limit: float) -> int:
        """Run the checks, of which none begins after `limit` seconds; 1 if one failed, else 0."""
        with watchdog(limit + PATIENCE, self._give_up):
            for result in run_checks(self.checks, self.rig, limit, self._announce):
                self.results.append(result)
                print(f"  {result.verdict} in {result.seconds:.1f} s. {result.reason}".rstrip(), flush=True)
        return self.report()

    def report(self) -> int:
        """Print the table, write the file; 1 if a check failed, else 0."""
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
        """Report what there is and end the process: what hangs may never let the interpreter end."""
        stuck, *rest = self.checks[len(self.results) :]
        reason = f"It had not ended {PATIENCE:.0f} seconds after the time was over."
        self.results.append(Result(stuck.name, stuck.shows, Verdict.FAILED, reason))
        self.results.extend(Result(check.name, check.shows, Verdict.NOT_RUN, OUT_OF_TIME) for check in rest)
        self.report()
        os._exit(1)
