#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Fill the results of the benchmark and of CRIU into a text, from stdin to stdout.

"{lookup random, 1000}" stands for four columns, the instructions of that call with so
many entries on each kernel; "{lookup random, 1000, base:9 c:0}" for columns of these
kernels only, so many characters wide; "{bytes of text}" for the size of the code that
answers; "{criu dump, 1000, base:9}" for seconds; "{clang}" for the version of a tool.
The results are those of benchmark/x86_64.json and benchmark/criu.json. A missing one
becomes a question mark, and the exit status 1.
"""

import json
import re
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmark"
COLUMNS = "base:12 kcmp:12 c:12 rust:12"
FIGURE = re.compile(r"{([a-z]+)}|{([a-zA-Z0-9 ,]+?)(?:, (\d+))?(?:, ([a-z]+:[a-z0-9: ]+))?}")


def read(name):
    path = BENCHMARK / name
    return json.loads(path.read_text()) if path.exists() else {}


def main():
    results, criu = read("x86_64.json"), read("criu.json")
    versions = results.get("versions", {}) | criu.get("versions", {})
    missing = []

    def value(kind, call, entries):
        if call == "bytes of text":
            return f"{sum(results['sizes'][kind].values()):,.0f}"
        if call.startswith("criu "):
            return f"{criu['seconds'][call.removeprefix('criu ')][entries][kind]:,.1f}"
        return f"{results['instructions'][call][entries][kind]:,.0f}"

    def figure(match):
        tool, call, entries, columns = match.groups()
        filled = ""
        for column in ["tool:0"] if tool else (columns or COLUMNS).split():
            kind, width = column.split(":")
            try:
                text = versions[tool] if tool else value(kind, call, entries)
            except KeyError:
                missing.append(match[0])
                text = "?"
            filled += f"{text:>{width}}"
        return filled

    print(FIGURE.sub(figure, sys.stdin.read()), end="")
    if missing:
        sys.exit(f"figures.py: no results for {', '.join(missing)}")


main()
