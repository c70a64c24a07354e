#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Gather the results in benchmark/, show them, and fill them into messages.

results.py bench ARCH [DIR]  Write the results that bench.sh left in DIR to ARCH.json, and from
                             ARCH.json the plot, and the tables in ARCH.md and README.md.
results.py criu TAP...       Write the times in the results of the part criu to criu.json, all runs of each.
results.py fill              Copy stdin to stdout, and replace these with figures, up to a line "---":
                             "{lookup random, 1000, base:9 c:0}": of that name, with that
                             many entries, on each kernel, and the width of the column;
                             "{bytes of text, rust:0}"; "{CRIU dump same fd, 1000, base:9}",
                             the range of all runs; "{arm64 lookup random, 1000, c:9}";
                             "{clang}": a version. A missing figure becomes a question mark,
                             and the exit status is 1.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BENCHMARK = TOP / "benchmark"
SHOWN = tomllib.loads((BENCHMARK / "shown.toml").read_text())
KINDS = {"base": "unpatched", "kcmp": "1-kcmp", "epoll": "2-eventpoll", "c": "3-criu", "rust": "4-rust"}
# The last columns of the tables: one kernel divided by another.
RATIOS = [("rust", "base"), ("rust", "c")]
FIGURE = re.compile(r"{([a-z]+)}|{([a-zA-Z0-9_ ]+?)(?:, (\d+))?, ([a-z]+:[a-z0-9: ]+)}")
CRIU_TIMES = re.compile(r"# CRIU dumped (\d+) entries( [a-z ]+)? in ([\d.]+) s, and restored them in ([\d.]+) s")
CRIU_VERSION = re.compile(r"# Version: (\S+)")


def read(name):
    path = BENCHMARK / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def fill():
    versions, results, missing = {}, {}, []
    for name in "x86_64", "criu":
        versions |= read(name).get("versions", {})
        results |= read(name).get("results", {})
    results |= {f"arm64 {name}": values for name, values in read("arm64").get("results", {}).items()}

    def figure(match):
        tool, call, entries, columns = match.groups()
        filled = ""
        for column in (columns or "tool:0").split():
            kind, width = column.split(":")
            try:
                text = versions[tool] if tool else shown(results[call][entries or "0"][kind])
            except KeyError:
                missing.append(match[0])
                text = "?"
            filled += f"{text:>{width}}"
        return filled

    message, line, diff = sys.stdin.read().partition("\n---\n")
    print(FIGURE.sub(figure, message) + line + diff, end="")
    if missing:
        sys.exit(f"results.py: no results for {', '.join(missing)}")


def shown(value):
    """Format a number of instructions, or the range of some times in seconds."""
    if isinstance(value, list):
        return "-".join(f"{time:.2f}" for time in sorted({min(value), max(value)}))
    return f"{value:,.0f}"


def criu(*paths):
    """Write these times to criu.json, each run of the same dump one after the other."""
    results = {"versions": {}, "results": {}}
    for path in paths:
        kind = {"base.tap": "base", "epoll.tap": "epoll", "c.tap": "c"}.get(path.rsplit("-", 1)[1], "rust")
        text = Path(path).read_text()
        for match in CRIU_VERSION.finditer(text):
            results["versions"]["criu"] = match[1]
        for match in CRIU_TIMES.finditer(text):
            for what, time in ("dump", match[3]), ("restore", match[4]):
                of_name = results["results"].setdefault(f"CRIU {what}{' same fd' if match[2] else ''}", {})
                of_name.setdefault(match[1], {}).setdefault(kind, []).append(float(time))
    (BENCHMARK / "criu.json").write_text(json.dumps(results, indent=1) + "\n")


def gather(directory):
    """Read the results that bench.sh left in a directory."""
    results = {"versions": {}, "results": {}}
    for line in (directory / "versions").read_text().split():
        name, version = line.split("=")
        results["versions"][name] = version
    for kind in KINDS:
        for line in (directory / f"{kind}.tsv").read_text().splitlines():
            name, entries, value = line.split("\t")
            results["results"].setdefault(name, {}).setdefault(entries, {})[kind] = float(value)
    return results


def table(rows):
    """Return the lines of a Markdown table of rows (name, entries, values by kernel)."""
    ratios = [f"{KINDS[kind]} / {KINDS[against]}" for kind, against in RATIOS]
    lines = [f"| | entries | {' | '.join([*KINDS.values(), *ratios])} |", "|---" + "|--:" * (1 + len(KINDS) + len(RATIOS)) + "|"]
    for name, entries, values in rows:
        columns = [name + ", ops/s" * name.startswith("perf"), f"{int(entries):,}"] + [f"{values[k]:,.0f}" if k in values else "" for k in KINDS]
        columns += [f"{values[a] / values[b]:.3g}" if {a, b} <= values.keys() else "" for a, b in RATIOS]
        lines.append(f"| {' | '.join(columns)} |")
    return lines


def bars(results, arch):
    """Return the lines of a table of the limits in shown.toml, and whether each is met."""
    lines = ["| | at most | seen | |", "|---|--:|--:|---|"]
    for bar in SHOWN["bar"]:
        least, most = bar.get("entries", (0, 10**9))
        seen = []
        for name, by_entries in results.items():
            for entries, values in by_entries.items():
                under = results.get(bar.get("by", name), {}).get(entries, {}).get(bar.get("against"), 1)
                seen += [(values[kind] / under, name, int(entries), KINDS[kind]) for kind in bar["of"]
                         if name.startswith(tuple(bar["names"])) and least <= int(entries) <= most and kind in values]
        if arch in bar.get("archs", [arch]):
            ratio, name, entries, kind = max(seen, default=(0, "not measured", 0, ""))
            verdict = "met" if seen and ratio <= bar["at_most"] else "MISSED"
            lines.append(f"| {bar['what']} ({name}, {entries:,}, {kind}) | {bar['at_most']:.4g} | {ratio:.4g} | {verdict} |")
    return lines


def plot(results, path, arch):
    # The image is committed: the same results must give the same file.
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = arch
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for curve in SHOWN["curve"]:
        points = [(int(e), v[curve["kind"]]) for e, v in results.get(curve["name"], {}).items() if curve["kind"] in v]
        if points:
            axes.loglog(*zip(*points), label=curve["label"], **curve["style"])
    axes.set_xlabel("entries of the interest list")
    axes.set_ylabel("instructions per call")
    axes.set_title(f"KCMP_EPOLL_TFD, {arch}")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})


def bench(arch, directory=None):
    if directory:
        gathered = json.dumps(gather(Path(directory)), indent=1) + "\n"
        (BENCHMARK / f"{arch}.json").write_text(gathered)
    results, versions = read(arch)["results"], read(arch)["versions"]
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    plot(results, BENCHMARK / f"{arch}.svg", arch)

    full = [f"# Benchmark, {arch}", "", f"Instructions per call ({made}):", "",
            *table((name, e, values) for name, of_name in results.items() for e, values in of_name.items()),
            "", *bars(results, arch)]
    (BENCHMARK / f"{arch}.md").write_text("\n".join(full) + "\n")
    print("\n".join(full))

    short = table((r["label"], e, results.get(r["name"], {}).get(str(e), {})) for r in SHOWN["row"] for e in r["entries"])
    place = re.compile(rf"(<!-- benchmark {arch} begin[^\n]*-->\n).*?(<!-- benchmark {arch} end -->)", re.S)
    lines = "\n".join(["", f"Instructions per call, {arch} ({made}):", "", *short, "", ""])
    text, places = place.subn(lambda match: match[1] + lines + match[2], (TOP / "README.md").read_text())
    if not places:
        sys.exit(f"results.py: README.md has no place for benchmark {arch}")
    (TOP / "README.md").write_text(text)


{"fill": fill, "bench": bench, "criu": criu}[sys.argv[1]](*sys.argv[2:])
