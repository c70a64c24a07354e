#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Gather the results of guest/tests.sh.

tap.py [--notes|--brief] NAME=FILE...: print a line for each program of the guest NAME, the
tests that failed, and the totals; with --notes, also the numbers of calls, steps and so on
that the programs print; with --brief, only the programs that failed. Exits 1 if a test failed.

A program that exits early, with an error, or without the results that it planned fails, and
so does a guest that did not run every program. Each block of a replayed stream must have
the same results in all guests.
"""

import re
import sys
from collections import Counter

RESULT = re.compile(r"(ok|not ok) \d+ ?-? ?(.*)")
BLOCK = re.compile(r"# (block \d+ [0-9a-f]+)$")
NOTE = re.compile(r"# (\|.*|.*\b\d+ (?:calls|operations|rounds|steps|entries|s)\b.*)")
PLAN = re.compile(r"1\.\.(\d+)( # SKIP.*)?$")
# kcmp_test prints no result lines, only the totals: passed, failed, xfail, xpass, skip, error.
TOTALS = re.compile(r"# Totals: pass:(\d+) fail:(\d+) xfail:(\d+) xpass:(\d+) skip:(\d+) error:(\d+)")


class Program:
    def __init__(self, name):
        self.name = name
        self.plan = self.totals = None
        self.counts = Counter()
        self.failures, self.blocks, self.notes = [], [], []

    def fail(self, what, times=1):
        self.counts["failed"] += times
        self.failures += [what] * times

    def line(self, text):
        if match := PLAN.match(text):
            self.plan = int(match[1])
            self.counts["skipped"] += bool(match[2])
        elif match := BLOCK.match(text):
            self.blocks.append(match[1])
        elif match := TOTALS.match(text):
            self.totals = [int(number) for number in match.groups()]
        elif match := NOTE.match(text):
            self.notes.append(match[1])
        elif match := RESULT.match(text):
            if match[1] == "not ok":
                self.fail(match[2])
            else:
                self.counts["skipped" if "# SKIP" in match[2] else "passed"] += 1

    def end(self, status):
        if not self.counts.total() and self.totals:
            passed, failed, xfail, xpass, skipped, error = self.totals
            self.counts.update(passed=passed + xfail, skipped=skipped)
            self.fail("see its output", failed + xpass + error)
        if self.plan is None:
            self.fail("planned no test")
        elif self.counts.total() < self.plan:
            self.fail(f"only {self.counts.total()} of {self.plan} tests reported")
        # 4 is KSFT_SKIP, the exit status of a program that skipped all tests.
        if status not in ("0", "4") and not self.failures:
            self.fail(f"exit status {status}")
        return self


def read_guest(path):
    """Yield the programs of one guest."""
    program, complete = None, False
    for text in open(path, encoding="utf-8", errors="replace"):
        match text.split():
            case ["#", "begin", name]:
                program = Program(name)
            case ["#", "end", name, status] if program and name == program.name:
                yield program.end(status)
                program = None
            case ["#", "end", "of", "all", "tests"]:
                complete = True
            case _ if program:
                program.line(text.rstrip("\r\n"))
    if not complete:
        program = program or Program("guest")
        program.fail("did not end")
        yield program


def summary(counts):
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    return f"{counts['passed']} passed, {counts['failed']} failed{skipped}"


total, first = Counter(), {}
options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
for argument in sys.argv[1 + len(options):]:
    guest, path = argument.split("=", 1)
    for program in read_guest(path):
        # Streams of the same length have the same operations.
        other, blocks = first.setdefault((program.name, len(program.blocks)), (guest, program.blocks))
        for block in [a for a, b in zip(program.blocks, blocks) if a != b][:1]:
            program.fail(f"{block} is not as in {other}")
        total.update(program.counts)
        if "--brief" not in options or program.failures:
            print(f"{guest:<14} {program.name:<22} {summary(program.counts)}")
            notes = program.notes if "--notes" in options else []
            for line in notes + [f"FAILED: {failure}" for failure in program.failures]:
                print(f"{'':14}   {line}")
print(summary(total))
sys.exit(1 if total["failed"] or not total["passed"] else 0)
