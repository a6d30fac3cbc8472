"""Instructions per element that the block codec takes, compared with those that are committed.

    python bench/instructions.py [--update]

Counts with crates/weightzip/benches/instructions.rs, at AVX2, and exits with 1 if a count is more than
5 % above bench/instructions.json; --update writes that file anew. Needs valgrind, and gungraun-runner
in the version of Cargo.lock, in PATH or named by GUNGRAUN_RUNNER. Standard library only.
"""

import argparse
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "bench/instructions.json"
# Elements per block, as in crates/weightzip/benches/common/mod.rs.
ELEMENTS = 1 << 16
TOLERANCE = 0.05

# Encode and decode, each by kind of data.
Counts = dict[str, dict[str, float]]


def count() -> Counts:
    command = "cargo bench --quiet --locked -p weightzip --bench instructions -- --output-format=json"
    run = subprocess.run(command.split(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        raise SystemExit(f"`{command}` failed")
    counts: Counts = {}
    for line in run.stdout.splitlines():
        bench = json.loads(line)
        instructions = bench["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"]
        kinds = counts.setdefault(bench["function_name"], {})
        kinds[bench["id"]] = round(instructions / ELEMENTS, 3)
    return counts


def compare(found: Counts, committed: Counts) -> bool:
    """Prints a line per count; whether all are there and within the tolerance."""
    fine = True
    for name in sorted({*found, *committed}):
        old_kinds, new_kinds = committed.get(name, {}), found.get(name, {})
        for kind in {**old_kinds, **new_kinds}:
            old, new = old_kinds.get(kind), new_kinds.get(kind)
            if old is None or new is None:
                verdict = f"{new:9.3f}, not committed" if old is None else "is no longer counted"
                fine = False
            else:
                change = new / old - 1
                verdict = f"{old:9.3f} -> {new:9.3f}  {change:+7.1%}"
                if change > TOLERANCE:
                    verdict += "  more than allowed"
                    fine = False
                elif change < -TOLERANCE:
                    verdict += "  less: please commit it"
            print(f"{name}  {kind:12} {verdict}")
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description="Instructions per element, compared with those committed.")
    parser.add_argument("--update", action="store_true", help=f"write {COMMITTED.name} anew")
    args = parser.parse_args()
    found = count()
    committed = json.loads(COMMITTED.read_text()) if COMMITTED.exists() else {}
    fine = compare(found, committed)
    if args.update:
        COMMITTED.write_text(json.dumps(found, indent=2) + "\n")
    elif not fine:
        print("if that is meant: python bench/instructions.py --update")
    return 0 if fine or args.update else 1


if __name__ == "__main__":
    raise SystemExit(main())
