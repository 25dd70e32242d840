#!/usr/bin/env python3
"""Measures how many small faults (mutants) in the sources the unit tests notice.

    tests/mutants/run.py --seed 1 --count 150 --modules pick,eval,coords,star,preprocess,labels

Needs python3, cargo and LIBTORCH as for a build. A copy of the repository in a temporary folder
gets all sampled mutants at once, each behind `if crate::mutant(N)`, and is built once. The
environment variable MUTANT then selects the one that is active in a run of the unit tests. A
mutant is caught if a test fails, crashes or does not end. Only tests that execute the mutated
place are run: the others cannot be affected.

A module is a file or folder below src/, by default all that compute picks and figures. The sample
is drawn over all mutants of the modules that compile; it depends on the seed and on the sources
without their tests, so that it stays the same when tests are added.
"""

import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULES = "pick,eval,coords,star,preprocess,labels,micrograph"
# Mutants that do not compile are replaced from this surplus.
SURPLUS = 1.4
SLOW_S = 1.0

TEST = re.compile(rb"#\[test\]\s*fn (\w+)\(.*?\{$", re.MULTILINE | re.DOTALL)
SELECT = """
use std::sync::atomic::{AtomicBool, Ordering};

static SEEN: [AtomicBool; %(ids)d] = [const { AtomicBool::new(false) }; %(ids)d];

fn mutant_note(text: &str) {
    if let Ok(path) = std::env::var("MUTANTS_SEEN") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    }
}

#[inline(never)]
fn mutant_seen(id: usize) {
    if !SEEN[id].load(Ordering::Relaxed) && !SEEN[id].swap(true, Ordering::Relaxed) {
        mutant_note(&format!("{id}\\n"));
    }
}

pub fn mutant_test(module: &str, name: &str) {
    static CURRENT: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());
    let mut current = CURRENT.lock().unwrap();
    let test = format!("{}::{name}", module.split_once("::").unwrap().1);
    if *current != test {
        SEEN.iter().for_each(|seen| seen.store(false, Ordering::Relaxed));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        mutant_note(&format!("{test} {}\\n", now.as_secs_f64()));
        *current = test;
    }
}

#[inline(always)]
pub fn mutant(id: usize) -> bool {
    static ACTIVE: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    let active = *ACTIVE.get_or_init(|| {
        std::env::var("MUTANT").ok().and_then(|id| id.parse().ok()).unwrap_or(usize::MAX)
    });
    if active == usize::MAX {
        mutant_seen(id);
    }
    active == id
}
"""


class Mutant:
    def __init__(self, found):
        self.file = found["file"]
        self.function = found["function"]
        self.line = found["line"]
        self.outer = tuple(found["outer"])
        self.edit = found["edit"]
        self.body = found["body"]
        self.what = found["what"]
        self.spans = []
        self.id = None
        self.caught = None

    def module(self):
        return pathlib.PurePath(self.file).relative_to("src").parts[0].removesuffix(".rs")

    def __str__(self):
        return f"{self.file}:{self.line}  {self.function}: {self.what}"


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


def candidates(copy, modules, target):
    manifest = ROOT / "tests/mutants/Cargo.toml"
    build = ["cargo", "build", "--release", "--quiet", "--manifest-path", manifest]
    subprocess.run(build, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    files = []
    for module in modules:
        single = copy / "src" / f"{module}.rs"
        folder = copy / "src" / module
        here = [single] if single.is_file() else []
        here += sorted(folder.rglob("*.rs"))
        if not here:
            sys.exit(f"no such module: src/{module}.rs or src/{module}/")
        files += [str(file.relative_to(copy)) for file in here if file.name != "tests.rs"]
    finder = target / "release" / "find-mutants"
    lines = subprocess.run(
        [finder, *files], cwd=copy, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return [Mutant(json.loads(line)) for line in lines]


def shuffled(mutants, seed):
    """In an order that depends on each mutant's place and nature, not on the line it is on."""
    seen = collections.Counter()
    keyed = []
    for mutant in mutants:
        name = (mutant.file, mutant.function, mutant.what)
        seen[name] += 1
        key = "|".join([str(seed), *name, str(seen[name])])
        keyed.append((hashlib.sha256(key.encode()).digest(), mutant))
    return [mutant for _, mutant in sorted(keyed, key=lambda pair: pair[0])]


def rewrite(source, mutants):
    """The text of a file with all these mutants in it; notes where each mutant ended up."""
    groups = collections.defaultdict(list)
    inserts = collections.defaultdict(list)
    for mutant in mutants:
        mutant.spans = []
        if mutant.body:
            inserts[mutant.edit[0]].append(mutant)
        else:
            groups[mutant.outer].append(mutant)
    out = bytearray()
    ordered = sorted(groups, key=lambda span: (span[0], -span[1]))

    def put(mutant, text):
        start = len(out)
        out.extend(text)
        mutant.spans.append((start, len(out)))

    def emit(start, end, inner):
        """Copies a range, in which `inner` are the groups that it holds, outermost first."""
        at = start
        index = 0
        while index < len(inner):
            span = inner[index]
            nested = [other for other in inner[index + 1 :] if other[1] <= span[1]]
            copy(at, span[0])
            first = True
            for mutant in groups[span]:
                a, b, text = mutant.edit
                out.extend(b"(if " if first else b" else if ")
                first = False
                put(
                    mutant,
                    b"crate::mutant(%d) { (" % mutant.id
                    + source[span[0] : a] + text.encode() + source[b : span[1]]
                    + b") }",
                )
            out.extend(b" else { (")
            emit(span[0], span[1], nested)
            out.extend(b") })")
            at = span[1]
            index += 1 + len(nested)
        copy(at, end)

    def copy(start, end):
        for at in sorted(at for at in inserts if start <= at < end):
            out.extend(source[start:at])
            for mutant in inserts[at]:
                put(mutant, b" if crate::mutant(%d) { %s } " % (mutant.id, mutant.edit[2].encode()))
            start = at
        out.extend(source[start:end])

    emit(0, len(source), ordered)
    return bytes(out)


def culprits(message, mutants):
    """The mutants to which a compiler error belongs."""
    spans = [span for span in message["spans"] if span["is_primary"]] or message["spans"]
    blamed = []
    for span in spans:
        here = [m for m in mutants if m.file == span["file_name"]]
        start, end = span["byte_start"], span["byte_end"]
        inside = [m for m in here if any(a <= start and end <= b for a, b in m.spans)]
        blamed += inside
    if blamed or not spans:
        return blamed
    here = [m for m in mutants if m.file == spans[0]["file_name"]]
    at = spans[0]["byte_start"]
    distance = lambda m: min(min(abs(a - at), abs(b - at)) for a, b in m.spans)
    return sorted(here, key=distance)[:1]


def build(copy, mutants, environment):
    """Builds with all mutants that compile: (the test program, those mutants)."""
    pristine = {m.file: (copy / m.file).read_bytes() for m in mutants}
    lib = copy / "src/lib.rs"
    plain_lib = lib.read_text()
    lib.write_text(
        "#![allow(warnings, clippy::all, arithmetic_overflow, unconditional_panic)] "
        + plain_lib
        + SELECT % {"ids": len(mutants)}
    )
    command = ["cargo", "test", "--release", "--lib", "--no-run", "--message-format=json"]
    while True:
        for file, source in pristine.items():
            text = rewrite(source, [m for m in mutants if m.file == file])
            (copy / file).write_bytes(text)
        done = run(command, cwd=copy, env=environment)
        messages = [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]
        if done.returncode == 0:
            programs = [
                m["executable"]
                for m in messages
                if m["reason"] == "compiler-artifact" and m["executable"] and "lib" in m["target"]["kind"]
            ]
            return programs[-1], mutants
        errors = [
            m["message"]
            for m in messages
            if m["reason"] == "compiler-message" and m["message"]["level"] == "error"
        ]
        blamed = {m for error in errors for m in culprits(error, mutants)}
        if not blamed:
            sys.exit("the copy does not compile:\n" + "\n".join(e["rendered"] for e in errors) + done.stderr)
        say(f"{len(blamed)} mutants do not compile")
        mutants = [m for m in mutants if m not in blamed]


def name_tests(copy):
    """Lets each unit test note its name when it starts."""
    for file in (copy / "src").rglob("*.rs"):
        text = file.read_bytes()
        note = rb' crate::mutant_test(module_path!(), "\1");'
        marked = TEST.sub(lambda found: found[0] + found.expand(note), text)
        if marked != text:
            file.write_bytes(marked)


class Tests:
    def __init__(self, program, copy, environment, longest_s):
        self.program, self.copy, self.environment = program, copy, environment
        self.longest_s = longest_s
        self.seconds = {}
        self.reached = collections.defaultdict(list)

    def call(self, names, cpu_s, **environment):
        def limit():
            # Memory too: a loop that does not end must not take the machine down.
            resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s), int(cpu_s) + 5))
            resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        command = [self.program, "--quiet", "--test-threads=1"]
        command += ["--exact", *names] if names else []
        try:
            return run(
                command,
                cwd=self.copy,
                env={**self.environment, **environment},
                preexec_fn=limit,
                timeout=20 * cpu_s,
            )
        except subprocess.TimeoutExpired:
            return None

    def baseline(self):
        """Runs all tests without a mutant: how long each takes and which mutants it meets."""
        seen = self.copy.parent / "seen"
        done = self.call([], 3600, MUTANTS_SEEN=str(seen))
        if done is None or not seen.exists():
            sys.exit("the unit tests do not end")
        self.learn(seen.read_text(), time.time())
        failed = re.findall(r"^    (\S+)$", done.stdout.rpartition("\nfailures:\n")[2], re.M)
        if done.returncode != 0 and not failed:
            sys.exit(f"the unit tests fail without any mutant:\n{done.stdout}{done.stderr}")
        for name in failed:
            say(f"left out: {name} fails without any mutant")
            self.seconds[name] = float("inf")

    def learn(self, seen, end):
        name, start = None, 0.0
        for line in [*seen.splitlines(), f"end {end}"]:
            words = line.split()
            if len(words) == 1:
                self.reached[int(words[0])].append(name)
                continue
            if name:
                self.seconds[name] = float(words[1]) - start
            name, start = words[0], float(words[1])

    def notice(self, mutant):
        names = [name for name in self.reached[mutant.id] if self.seconds[name] <= self.longest_s]
        names.sort(key=self.seconds.get)
        fast = [name for name in names if self.seconds[name] < SLOW_S]
        for some in [fast, names[len(fast) :]]:
            if some:
                cpu_s = 10 + 5 * sum(self.seconds[name] for name in some)
                done = self.call(some, cpu_s, MUTANT=str(mutant.id))
                if done is None or done.returncode != 0:
                    return True
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=150, help="0 takes all mutants")
    parser.add_argument("--modules", default=MODULES, help="separated by commas")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    parser.add_argument("--longest", type=float, default=5, help="leave out tests of more seconds")
    parser.add_argument("--at-least", type=float, default=0, help="exit with 1 below this share, in %%")
    arguments = parser.parse_args()

    folder = pathlib.Path(tempfile.mkdtemp(prefix="picker-mutants-"))
    try:
        measure(arguments, folder)
    finally:
        shutil.rmtree(folder)


def measure(arguments, folder):
    copy = folder / "picker"
    tracked = run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True).stdout
    for name in tracked.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    # The built dependencies are used again. With a version of its own, the copy gets file names of
    # its own, so that no test program with mutants is taken for one of the repository.
    manifest = copy / "Cargo.toml"
    text = manifest.read_text()
    manifest.write_text(re.sub(r'^version = "(.*)"', r'version = "\1+mutants"', text, count=1, flags=re.M))
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}

    name_tests(copy)
    found = candidates(copy, arguments.modules.split(","), target / "find-mutants")
    order = shuffled(found, arguments.seed)
    count = arguments.count or len(order)
    order = order[: int(count * SURPLUS)]
    for id, mutant in enumerate(order):
        mutant.id = id
    program, viable = build(copy, order, environment)
    sample = viable[:count]
    say(f"{len(found)} candidates; {len(sample)} sampled of those that compile")

    tests = Tests(program, copy, environment, arguments.longest)
    tests.baseline()
    slowest = sorted(tests.seconds.items(), key=lambda pair: -pair[1])[:10]
    say(f"{len(tests.seconds)} tests pass without mutants; slowest: {slowest}")
    judge(sample, tests, arguments)


def judge(sample, tests, arguments):
    """Runs the tests on each mutant and prints the table and the survivors."""
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for mutant, caught in zip(sample, pool.map(tests.notice, sample)):
            mutant.caught = caught
            say(f"{'caught  ' if caught else 'SURVIVED'} {mutant}")

    print(f"{'module':12} {'sampled':>8} {'caught':>8} {'survived':>9} {'share':>7}")
    by_module = collections.defaultdict(list)
    for mutant in sample:
        by_module[mutant.module()].append(mutant)
    for name, mutants in [*sorted(by_module.items()), ("all", sample)]:
        caught = sum(mutant.caught for mutant in mutants)
        share = 100 * caught / max(1, len(mutants))
        print(f"{name:12} {len(mutants):8} {caught:8} {len(mutants) - caught:9} {share:6.1f}%")
    survivors = sorted((m for m in sample if not m.caught), key=lambda m: (m.file, m.line))
    for mutant in survivors:
        print(f"{mutant}{'' if tests.reached[mutant.id] else '  (no test gets there)'}")
    if 100 * (len(sample) - len(survivors)) < arguments.at_least * len(sample):
        sys.exit(1)


if __name__ == "__main__":
    main()
