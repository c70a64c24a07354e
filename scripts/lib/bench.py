#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Gather the results of bench.sh, and show them.

bench.py ARCH RESULTS   read what bench.sh left in the directory RESULTS, write
                        benchmark/ARCH.json, and all that is made from it: the
                        plot, and the table in README.md. Print the table.
bench.py ARCH           only make the latter again from benchmark/ARCH.json.
"""

import json
import re
import statistics
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
KINDS = {
    "base": "unpatched",
    "c": "series, C",
    "rust": "series, Rust",
}

# What goes through the lookup: all but the floor.
LOOKUPS = ("lookup random", "lookup first", "lookup last", "lookup absent", "toff")

# What the series has to show. Each compares two results: of which kind, of what,
# with how many targets, and how large the first may be in terms of the second.
BARS = [
    ("Rust, lookup at 100,000 targets, of KCMP_FILE",
     ("rust", "lookup random", 100_000), ("rust", "lookup floor", 100_000), 1.25),
    ("Rust, lookup at 100,000 targets, of unpatched",
     ("rust", "lookup random", 100_000), ("base", "lookup random", 100_000), 1 / 1000),
    ("Rust, lookup at 1,000,000 targets, of KCMP_FILE",
     ("rust", "lookup random", 1_000_000), ("rust", "lookup floor", 1_000_000), 1.30),
    ("Rust, lookup at 1 target, of unpatched",
     ("rust", "lookup random", 1), ("base", "lookup random", 1), 1.00),
    # The lock is held for a part of the call: no longer than all of it.
    ("Rust, whole lookup at 1,000,000 targets, of the longest wait unpatched",
     ("rust", "lookup absent", 1_000_000), ("base", "hold", 1_000_000), 1 / 10_000),
]


def read_results(directory):
    """Gather the files that bench.sh left in a directory."""
    results = {"versions": {}, "sizes": {}, "instructions": {}, "nanoseconds": {}}
    for line in (directory / "versions").read_text().split():
        name, version = line.split("=", 1)
        results["versions"][name] = version
    for line in (directory / "sizes.tsv").read_text().splitlines():
        kind, symbol, size = line.split("\t")
        results["sizes"].setdefault(kind, {})[symbol] = int(size)
    for unit in ("instructions", "nanoseconds"):
        for kind in KINDS:
            rounds = {}
            for path in sorted(directory.glob(f"{unit}-{kind}*.tsv")):
                for line in path.read_text().splitlines():
                    name, targets, value = line.split("\t")
                    rounds.setdefault((name, targets), []).append(float(value))
            for (name, targets), values in rounds.items():
                of_name = results[unit].setdefault(name, {})
                of_name.setdefault(targets, {})[kind] = round(statistics.median(values), 1)
    if not results["nanoseconds"]:
        del results["nanoseconds"]
    return results


def number(value):
    return f"{value:,.0f}"


def table(by_name):
    """The lines of a table in Markdown: a row for each measurement and size."""
    lines = [
        f"| | targets | {' | '.join(KINDS.values())} | Rust / unpatched |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, by_targets in by_name.items():
        for targets, values in by_targets.items():
            if any(kind not in values for kind in KINDS):
                continue
            ratio = values["rust"] / values["base"]
            lines.append(
                f"| {name} | {number(int(targets))} | "
                + " | ".join(number(values[kind]) for kind in KINDS)
                + f" | {ratio:.3g} |"
            )
    return lines


def bars(instructions):
    """Lines that tell for each bar whether it is met."""

    def value(kind, name, targets):
        return instructions[name][str(targets)][kind]

    def line(what, ratio, bar):
        verdict = "met" if ratio <= bar else "MISSED"
        return f"| {what} | {bar:.4g} | {ratio:.4g} | {verdict} |"

    lines = ["| | at most | seen | |", "|---|--:|--:|---|"]
    for what, of, against, bar in BARS:
        try:
            lines.append(line(what, value(*of) / value(*against), bar))
        except KeyError:
            lines.append(f"| {what} | {bar:.4g} | not measured | |")

    def worst(names, of, against):
        return max(
            (values[of] / values[against], name, targets)
            for name, by_targets in instructions.items()
            if name.startswith(names)
            for targets, values in by_targets.items()
            if of in values and against in values
        )

    ratio, name, targets = worst(LOOKUPS, "rust", "c")
    lines.append(line(f"Rust of C, worst lookup ({name}, {number(int(targets))})", ratio, 1.00))
    for kind in ("c", "rust"):
        # Two runs of one kernel differ by as much: see "Benchmark" in README.md.
        ratio, name, targets = worst("ctl", kind, "base")
        what = f"{KINDS[kind]}, worst {name} ({number(int(targets))}), of unpatched"
        lines.append(line(what, ratio, 1.005))
    return lines


def sizes(by_kind):
    lines = ["| | functions | bytes of text |", "|---|---|--:|"]
    for kind, symbols in by_kind.items():
        names = ", ".join(f"`{re.sub(r'.*::', '', name)}` {size}" for name, size in symbols.items())
        lines.append(f"| {KINDS[kind]} | {names} | {sum(symbols.values()):,} |")
    return lines


def plot(instructions, path, arch):
    """Instructions of a lookup against the number of targets."""
    # The image is committed: the same results have to give the same file.
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = arch
    from matplotlib import pyplot

    curves = [
        ("lookup random", "base", "unpatched", "o"),
        ("lookup random", "c", "series, C", "s"),
        ("lookup random", "rust", "series, Rust", "^"),
        ("lookup floor", "rust", "KCMP_FILE: the floor", None),
    ]
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name, kind, label, marker in curves:
        points = [(int(t), v[kind]) for t, v in instructions[name].items() if kind in v]
        axes.loglog(*zip(*points), label=label, marker=marker,
                    linestyle="-" if marker else "--")
    axes.set_xlabel("targets in the epoll set")
    axes.set_ylabel("instructions a call")
    axes.set_title(f"KCMP_EPOLL_TFD, random target, {arch}")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})


def fill(text, mark, lines):
    """Replace what stands between the marks in README.md."""
    pattern = re.compile(rf"(<!-- {mark} begin[^\n]*-->\n).*?(<!-- {mark} end -->)", re.S)
    if not pattern.search(text):
        sys.exit(f"bench.py: README.md has no place for {mark}")
    return pattern.sub(lambda m: m[1] + "\n" + "\n".join(lines) + "\n\n" + m[2], text)


def main():
    arch = sys.argv[1]
    path = TOP / "benchmark" / f"{arch}.json"
    if len(sys.argv) > 2:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(read_results(Path(sys.argv[2])), indent=1) + "\n")
    results = json.loads(path.read_text())
    instructions = results["instructions"]

    made = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    command = "make bench" if arch == "x86_64" else f"ARCH={arch} make bench"
    full = [f"Instructions a call (`{command}`; {made}):", ""] + table(instructions)
    if "nanoseconds" in results:
        full += ["", "Nanoseconds a call, under KVM:", ""] + table(results["nanoseconds"])
    full += ["", "Bytes of text:", ""] + sizes(results["sizes"])
    judged = bars(instructions)
    (path.parent / f"{arch}.md").write_text(
        "\n".join([f"# Benchmark, {arch}", "", *full, "", *judged]) + "\n")
    plot(instructions, path.parent / f"{arch}.svg", arch)

    readme = TOP / "README.md"
    short = {
        name: {t: v for t, v in by_targets.items() if int(t) in (1, 1000, 100_000, 1_000_000)}
        for name, by_targets in instructions.items()
        if name in ("lookup random", "lookup floor")
        or (name.startswith("ctl") and "descending" not in name)
    }
    for by_targets in short.values():
        by_targets.pop("1000", None) if len(by_targets) > 3 else None
    text = fill(readme.read_text(), f"benchmark {arch}",
                [f"`{command}` with {made}:", ""] + table(short) + ["", *judged])
    readme.write_text(text)
    print("\n".join(full + ["", *judged]))


main()
