#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Fill the results of the benchmark into a text.

figures.py TEXT   print the file TEXT ("-" for standard input), with the results of
                  benchmark/x86_64.json in it.

"{lookup random, 1000}" stands for three columns, the instructions of that call with so
many targets on each kernel; "{lookup random, 1000, base:9 c:0}" for columns of these
kernels only, so many characters wide; "{bytes of text}" for the size of the code that
answers; "{clang}" for the version of a tool. What was not measured becomes a question
mark, and the exit status 1.
"""

import json
import re
import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "benchmark" / "x86_64.json"
COLUMNS = "base:13 c:13 rust:13"
FIGURE = re.compile(r"{([a-z]+)}|{([a-zA-Z0-9 ]+?)(?:, (\d+))?(?:, ([a-z0-9: ]+))?}")


def main():
    path = sys.argv[1]
    text = sys.stdin.read() if path == "-" else Path(path).read_text()
    results = json.loads(RESULTS.read_text())
    missing = []

    def value(kind, call, targets):
        if call == "bytes of text":
            return sum(results["sizes"][kind].values())
        return results["instructions"][call][targets][kind]

    def figure(match):
        tool, call, targets, columns = match.groups()
        if tool:
            return results["versions"][tool]
        filled = ""
        for column in (columns or COLUMNS).split():
            kind, width = column.split(":")
            try:
                filled += f"{value(kind, call, targets):>{width},.0f}"
            except KeyError:
                missing.append(match[0])
                filled += f"{'?':>{width}}"
        return filled

    print(FIGURE.sub(figure, text), end="")
    if missing:
        sys.exit(f"figures.py: {RESULTS.name} has no results for {', '.join(missing)}")


main()
