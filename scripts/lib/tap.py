#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Gather the results of in-guest.sh.

tap.py [--notes|--brief] NAME=FILE...: FILE is what in-guest.sh printed in the guest
NAME. Prints a line for each program, what failed, and the sum as the last line; with
--notes, also what the programs say of how much they have tried; with --brief, only
the programs that failed. Exits 1 if something failed.

A program that ends early, with an error, or without the results that it planned
counts as failed, and so does a guest that did not run all programs. What happened
in each block of a replayed stream has to be the same in all guests.
"""

import re
import sys
from collections import Counter

RESULT = re.compile(r"(ok|not ok) \d+ ?-? ?(.*)")
BLOCK = re.compile(r"# (block \d+ [0-9a-f]+)$")
NOTE = re.compile(r"# (.*\b\d+ (?:calls|operations|rounds|steps|targets|s) .*)")
PLAN = re.compile(r"1\.\.(\d+)( # SKIP.*)?$")
# kcmp_test prints no result lines, only the sum.
TOTALS = re.compile(r"# Totals: pass:(\d+) fail:(\d+) xfail:(\d+) xpass:(\d+) skip:(\d+) error:(\d+)")


class Program:
    """What one program printed."""

    def __init__(self, name):
        self.name = name
        self.plan = None
        self.totals = None
        self.counts = Counter()
        self.failures = []
        self.blocks = []
        self.notes = []

    def fail(self, what):
        self.counts["failed"] += 1
        self.failures.append(what)

    def line(self, text):
        if match := PLAN.match(text):
            self.plan = int(match[1])
            if match[2]:
                self.counts["skipped"] += 1
        elif match := BLOCK.match(text):
            self.blocks.append(match[1])
        elif match := NOTE.match(text):
            self.notes.append(match[1])
        elif match := TOTALS.match(text):
            self.totals = [int(number) for number in match.groups()]
        elif match := RESULT.match(text):
            if match[1] == "not ok":
                self.fail(match[2])
            elif "# SKIP" in match[2]:
                self.counts["skipped"] += 1
            else:
                self.counts["passed"] += 1

    def compare(self, name, other):
        """Fail where this program's stream did not go as in another guest."""
        if self.blocks == other.blocks:
            return
        pairs = zip(self.blocks, other.blocks)
        differ = [a for a, b in pairs if a != b] or ["the number of blocks"]
        self.fail(f"{differ[0]} is not as in {name}")

    def end(self, status):
        if not self.counts and self.totals:
            passed, failed, xfail, xpass, skipped, error = self.totals
            self.counts.update(passed=passed + xfail, skipped=skipped)
            for _ in range(failed + xpass + error):
                self.fail("see its output")
        seen = sum(self.counts.values())
        if self.plan is None:
            self.fail("planned no test")
        elif seen < self.plan:
            self.fail(f"only {seen} of {self.plan} tests reported")
        # 4 is kselftest's exit status of a program that skipped all.
        if status not in ("0", "4") and not self.failures:
            self.fail(f"exit status {status}")


def read_guest(path):
    """Yield the programs of one guest."""
    program, complete = None, False
    with open(path, encoding="utf-8", errors="replace") as lines:
        for text in lines:
            words = text.split()
            if words[:2] == ["#", "begin"]:
                program = Program(words[2])
            elif words[:2] == ["#", "end"] and program and words[2] == program.name:
                program.end(words[3])
                yield program
                program = None
            elif words == "# end of all tests".split():
                complete = True
            elif program:
                program.line(text.rstrip("\r\n"))
    if program:
        program.fail("did not end")
        yield program
    if not complete:
        guest = Program("the guest")
        guest.fail("did not run all programs")
        yield guest


def plural(counts):
    words = [f"{counts['passed']} passed", f"{counts['failed']} failed"]
    if counts["skipped"]:
        words.append(f"{counts['skipped']} skipped")
    return ", ".join(words)


def main():
    total = Counter()
    first = {}
    options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    for argument in sys.argv[1 + len(options):]:
        name, path = argument.split("=", 1)
        for program in read_guest(path):
            if program.blocks:
                program.compare(*first.setdefault(program.name, (name, program)))
            total.update(program.counts)
            if "--brief" in options and not program.failures:
                continue
            print(f"{name:<14} {program.name:<22} {plural(program.counts)}")
            for note in program.notes if "--notes" in options else []:
                print(f"{'':14}   {note}")
            for failure in program.failures:
                print(f"{'':14}   FAILED: {failure}")
    print(plural(total))
    sys.exit(1 if total["failed"] or not total["passed"] else 0)


main()
