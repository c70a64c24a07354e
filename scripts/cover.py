#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Fill the results of the benchmark into the cover letter.

cover.py LETTER RESULTS   print the file LETTER without its head. RESULTS is what
                          bench.py wrote: a JSON file.

In the letter, "{lookup random, 1000}" stands for three columns, the instructions of
that call with so many targets on each kernel; "{bytes of text}" for such columns
with the size of the code that answers; "{clang}" for the version of a tool.
"""

import json
import re
import sys
from pathlib import Path

KINDS = ("base", "c", "rust")


def columns(values):
    return "".join(f"{values[kind]:>13,.0f}" for kind in KINDS)


def result(results, name):
    """What stands for {name}."""
    if name in results["versions"]:
        return results["versions"][name]
    if name == "bytes of text":
        return columns({kind: sum(of.values()) for kind, of in results["sizes"].items()})
    call, targets = name.split(", ")
    return columns(results["instructions"][call][targets])


def main():
    letter, results = (Path(name) for name in sys.argv[1:])
    body = letter.read_text().split("\n\n", 1)[1]
    known = json.loads(results.read_text())
    try:
        print(re.sub(r"{(.*?)}", lambda match: result(known, match[1]), body), end="")
    except (KeyError, ValueError) as missing:
        sys.exit(f"cover.py: {results} has no {missing}, which {letter} asks for")


main()
