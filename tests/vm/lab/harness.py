# SPDX-License-Identifier: MIT
"""How the lab's tests run kvick, look at a console, and report."""
import fnmatch
import functools
import json
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time

KVICK = os.path.abspath("build/kvick")
GUEST = os.path.abspath("build/tests/vm/lab/lab-guest")  # our tool, as it runs on the host
LONG = os.environ.get("KVICK_TEST_LONG") == "1"
WORKERS = 2
LIMIT = 240  # seconds after which a test is given up, far above what any takes

cases = []


class Failed(Exception):
    """A test's reason not to be content."""


class Skipped(Exception):
    """Why a test cannot be run here."""


def case(name, alone=False):
    """Makes a function a test. `alone`: nothing else runs beside it."""
    def register(function):
        cases.append((name, function, alone))
        return function
    return register


def on_both(name):
    """Makes a function a test on each transport of which it is told."""
    def register(function):
        for transport in ("mmio", "pci"):
            case(f"{name}-{transport}")(functools.partial(function, transport=transport))
        return function
    return register


def check(condition, text):
    if not condition:
        raise Failed(text)


def check_status(result, want):
    check(result.status == want, f"status {result.status}, not {want}: {tail(result.err)}")


def check_says(result, text):
    check(text in result.err, f"stderr lacks \"{text}\": {tail(result.err)}")


def tail(text, length=2000):
    return repr(text[-length:])


class Lab:
    """What the tests are given: kernels, roots, and a place for VMs' directories."""

    def __init__(self, cloud, minimal, work, backport):
        self.cloud, self.minimal_dir, self.backport = cloud, minimal, backport
        self.minimal = os.path.join(minimal, "vmlinux")
        self.root = os.path.join(work, "root")
        self.initrd = os.path.join(work, "initrd")
        self.debian = os.path.join(work, "debian.ext4")
        self.fio = os.path.join(work, "fio.ext4")
        self.net = os.path.join(work, "net.ext4")
        self.scratch = tempfile.mkdtemp(prefix="kvick-lab.", dir="/run")
        self.vms = os.path.join(self.scratch, "vms")
        self.boot_seconds = 10.0  # until a first guest was seen to start
        os.environ["KVICK_RUNTIME_DIR"] = self.vms

    def file(self, suffix):
        fd, path = tempfile.mkstemp(suffix=suffix, dir=self.scratch)
        os.close(fd)
        return path

    def run_args(self, *options, command, kernel=None):
        """`kvick run` with the minimal kernel and the small root, unless options say otherwise."""
        return [KVICK, "run", "--kernel", kernel or self.minimal, "--rootfs", self.root,
                *options, "--", *command]

    def run(self, *options, command, kernel=None, **more):
        return finish(self.run_args(*options, command=command, kernel=kernel), self, **more)


class Result:
    def __init__(self, status, out, err, stats, seconds):
        self.status, self.bytes, self.err = status, out, err.decode(errors="replace")
        self.out = out.decode(errors="replace")
        self.stats, self.seconds = stats, seconds

    def ran_seconds(self):
        """From the command's start to its end, by the host's clock."""
        return (self.stats["run_ns"]["ended"] - self.stats["run_ns"]["started"]) / 1e9


def status_of(process):
    """As a shell has it."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def finish(args, lab, stdin=b"", stdout=subprocess.PIPE, limit=None):
    """Runs kvick to its end, in `limit` seconds if not LIMIT."""
    limit = limit or LIMIT
    stats = lab.file(".stats")
    args = [*args[:2], "--stats", stats, *args[2:]]
    start = time.monotonic()
    with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=stdout,
                          stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(stdin, timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Failed(f"no end within {limit} s: {' '.join(args[1:])}") from None
    with open(stats, encoding="utf-8") as f:
        text = f.read()
    os.unlink(stats)
    return Result(status_of(process), out or b"", err, json.loads(text) if text else {},
                  time.monotonic() - start)


class Console:
    """A running kvick whose stdout is read as it comes; stdin is there to be written to."""

    def __init__(self, args):
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.text, self.at, self.errors = "", 0, b""
        self.changed = threading.Condition()
        self.over = False
        self.threads = [threading.Thread(target=self._read), threading.Thread(target=self._err)]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:  # the test has failed: what is left is not to be its second
            self.process.kill()
            self.process.wait()
            verb("ps")
        for thread in self.threads:
            thread.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except BrokenPipeError:
                pass

    def _read(self):
        while True:
            piece = self.process.stdout.read1(65536)
            with self.changed:
                self.text += piece.decode(errors="replace")
                self.over = not piece
                self.changed.notify_all()
            if not piece:
                return

    def _err(self):
        self.errors = self.process.stderr.read()

    def expect(self, pattern, limit=LIMIT):
        """Waits for a match behind the last one and returns it."""
        end = time.monotonic() + limit
        with self.changed:
            while True:
                match = re.compile(pattern, re.M).search(self.text, self.at)
                if match:
                    self.at = match.end()
                    return match
                left = end - time.monotonic()
                if self.over:
                    raise Failed(f"ended before \"{pattern}\": {self._last_words()}")
                check(left > 0, f"no \"{pattern}\" within {limit} s: {tail(self.text)}")
                self.changed.wait(left)

    def _last_words(self):
        """Of one whose stdout has ended."""
        self.threads[1].join()
        return tail(self.text) + " " + tail(self.errors.decode(errors="replace"))

    def send(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def signal(self, number):
        self.process.send_signal(number)

    def ends(self, status, limit=LIMIT):
        """The process ends by itself with that status. Returns its stderr."""
        try:
            self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise Failed(f"no end within {limit} s: {tail(self.text)}") from None
        for thread in self.threads:
            thread.join()
        err = self.errors.decode(errors="replace")
        got = status_of(self.process)
        check(got == status, f"status {got}, not {status}: {tail(err)} {tail(self.text)}")
        return err


def verb(*words):
    """One of kvick's commands on a running VM."""
    return subprocess.run([KVICK, *words], capture_output=True, text=True, timeout=LIMIT,
                          check=False)


def check_verb(*words):
    done = verb(*words)
    check(done.returncode == 0, f"kvick {' '.join(words)}: {tail(done.stderr)}")
    return done.stdout


def program_of(pid):
    """The name of the file that a process runs; helpers have another in comm."""
    return os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")


# ---- running the tests ----

print_lock = threading.Lock()


def say(text):
    with print_lock:
        print(text.replace("\n", " "), flush=True)


def attempt(lab, name, function):
    """Runs one test and says how it went. Returns whether it held, as far as it could be run."""
    start = time.monotonic()
    try:
        note = function(lab)
    except Skipped as e:
        say(f"skip {name} {e}")
        return True
    except Failed as e:
        say(f"not ok {name} {e}")
        return False
    except Exception as e:  # a fault of the test's own is a failure, and the others go on
        say(f"not ok {name} {type(e).__name__}: {e} (line {e.__traceback__.tb_next.tb_lineno})")
        return False
    say(f"ok {name} {time.monotonic() - start:.1f}" + (f" ({note})" if note else ""))
    return True


def work_off(lab, todo):
    """Runs tests on WORKERS threads. Returns how many failed."""
    waiting, failed = queue.SimpleQueue(), []
    for entry in todo:
        waiting.put(entry)

    def work():
        while True:
            try:
                name, function, _ = waiting.get_nowait()
            except queue.Empty:
                return
            if not attempt(lab, name, function):
                failed.append(name)

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(failed)


def run_all(lab, patterns, done):
    """The lonely ones first, in order; then the others, two at a time. Returns how many failed."""
    chosen = [c for c in cases if c[0] not in done
              and (not patterns or any(fnmatch.fnmatch(c[0], p) for p in patterns))]
    failed = sum(not attempt(lab, name, function) for name, function, alone in chosen if alone)
    return failed + work_off(lab, [c for c in chosen if not c[2]])


SIGTERM = signal.SIGTERM
