"""Nodes of the real program: started, spoken through, read, measured and ended."""

import collections
import json
import os
import re
import signal
import sqlite3
import subprocess
import threading
import time

BIN = os.environ["DIATRIBE_BIN"]
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
# The length of a text: with the signature and the log's own bytes a message takes about a KiB of the log.
TEXT_BYTES = 500
# Batches that made room of which even the smallest log keeps the ids.
MIN_REMOVED = 256 - 64


class Shared:
    """The messages that all nodes have sent, and the observed faults."""

    def __init__(self):
        self.lock = threading.Lock()
        # (batch id, seq) -> (name of the author's node, seconds since the beginning)
        self.sent = {}
        self.faults = []
        self.begun = time.monotonic()

    def fault(self, text):
        with self.lock:
            self.faults.append(text)
        print(f"  FAULT: {text}", flush=True)


class Node:
    def __init__(self, shared, name, folder, port, dial, keep, env=None, redirect=""):
        self.shared, self.name, self.folder, self.port = shared, name, folder, port
        self.dial, self.keep, self.env, self.redirect = dial, keep, env or {}, redirect
        self.errors = folder + ".stderr"
        self.process = None
        self.expected_up = False
        self.starts = 0
        self.said = 0
        self.refused = 0
        self.pending = collections.deque()
        self.told = collections.Counter()
        self.missed = 0
        self.samples = []
        self.cpu_before = 0.0
        self.log_full_at = None
        # Ids of batches that the log had at some time, and when it was looked at last.
        self.had, self.last_had = set(), set()
        self.log_forgets = False
        self.is_online = threading.Event()

    def start(self):
        command = [BIN, "node", "--json", "--exempt-loopback", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--data-dir", self.folder, "--keep-bytes", self.keep]
        for port in self.dial:
            command += ["--dial", f"127.0.0.1:{port}"]
        # The shell gives way to the program, so that its process is the program's.
        shell = ["sh", "-c", f'exec "$@" {self.redirect or "2>>" + self.errors}', "sh"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("DIATRIBE_")}
        env.update(self.env)
        self.is_online.clear()
        self.process = subprocess.Popen(
            shell + command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
        )
        os.set_blocking(self.process.stdin.fileno(), False)
        self.pending = collections.deque()
        self.expected_up = True
        self.starts += 1
        self.since = time.monotonic()
        self.samples = []
        reader = threading.Thread(target=self.read, args=(self.process, self.pending), daemon=True)
        reader.start()

    def end(self, by):
        self.expected_up = False
        self.cpu_before += self.cpu_now()
        self.process.send_signal(by)
        self.process.wait(timeout=20)

    def signal(self, by):
        self.process.send_signal(by)

    def check(self):
        """A node that has ended by itself is a fault; the run goes on with it."""
        if self.expected_up and self.process.poll() is not None:
            self.shared.fault(f"{self.name} ended by itself with exit code {self.process.returncode}")
            self.start()

    def say(self):
        if not self.expected_up or not self.is_online.is_set():
            return
        text = f"{self.name} {self.said} ".ljust(TEXT_BYTES, ".")
        line = json.dumps({"text": text}).encode() + b"\n"
        self.pending.append(self.said)
        try:
            os.write(self.process.stdin.fileno(), line)
            self.said += 1
        except (BlockingIOError, BrokenPipeError):
            # It is stopped and its pipe is full, or it has just ended.
            self.pending.pop()

    def read(self, process, pending):
        for line in process.stdout:
            try:
                value = json.loads(line)
            except ValueError:
                # A node that is killed may leave half a line.
                continue
            self.on_line(value, pending)

    def on_line(self, value, pending):
        kind = value["type"]
        if kind == "message":
            self.told[(value["id"], value["seq"])] += 1
        elif kind == "sent":
            pending.popleft()
            with self.shared.lock:
                self.shared.sent[(value["id"], value["seq"])] = (self.name, time.monotonic() - self.shared.begun)
        elif kind == "online":
            self.is_online.set()
        elif kind == "error":
            self.on_error(value, pending)

    def on_error(self, value, pending):
        if "missed" in value:
            self.missed += value["missed"]
            self.shared.fault(f"{self.name}: {value['reason']}")
        elif "room" in value:
            pending.popleft()
            self.refused += 1
        else:
            print(f"  {self.name} says: {value['reason'][:200]}", flush=True)

    def cpu_now(self):
        """Seconds of the processor that the process has used."""
        try:
            with open(f"/proc/{self.process.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / TICKS
        except (OSError, IndexError):
            return 0.0

    def cpu(self):
        return self.cpu_before + (self.cpu_now() if self.expected_up else 0.0)

    def sample(self):
        if not self.expected_up:
            return
        try:
            with open(f"/proc/{self.process.pid}/statm") as file:
                rss = int(file.read().split()[1]) * PAGE
        except (OSError, IndexError):
            return
        self.samples.append((time.monotonic(), rss / (1 << 20)))

    def held(self):
        """The messages in the log, as the program shows them."""
        command = [BIN, "log", "show", "--json", "--data-dir", self.folder]
        shown = subprocess.run(command, capture_output=True, timeout=120)
        if shown.returncode != 0:
            self.shared.fault(f"{self.name}: log show fails: {shown.stderr.decode()[-300:]}")
            return set()
        lines = map(json.loads, shown.stdout.splitlines())
        return {(line["id"], line["seq"]) for line in lines if line["type"] == "message"}

    def look(self):
        """Notes which batches the log has, and which were removed: one that is in it now may be removed before the end."""
        if not self.expected_up or not self.is_online.is_set():
            return
        try:
            log = sqlite3.connect(f"file:{self.folder}/log.sqlite3?mode=ro", uri=True, timeout=1)
            try:
                had = [bytes(row[0]).hex() for row in log.execute("SELECT id FROM batch")]
                removed = [bytes(row[0]).hex() for row in log.execute("SELECT id FROM removed")]
            finally:
                log.close()
        except sqlite3.Error:
            # It is looked again soon, and in the end by the program itself.
            return
        # Forgotten only when there are too many: until then a batch of the log is still there, or is known to be removed.
        if not self.log_forgets:
            gone = self.last_had.difference(had, removed)
            self.log_forgets = len(removed) >= MIN_REMOVED
            if gone and not self.log_forgets:
                self.shared.fault(f"{self.name}: {len(gone)} batches have vanished from its log")
        self.last_had = set(had)
        self.had.update(had)
        self.had.update(removed)
        if removed and self.log_full_at is None:
            self.log_full_at = time.monotonic()

    def panics(self):
        try:
            with open(self.errors, errors="replace") as file:
                return re.findall(r".*panicked.*", file.read())
        except OSError:
            return []


class Joiner(Node):
    """A node that starts at the end and writes to a file: every line must be there."""

    def lines(self):
        with open(self.folder + ".stdout", errors="replace") as file:
            whole = [line for line in file if line.endswith("\n")]
        return [json.loads(line) for line in whole]

    def start(self):
        command = [BIN, "node", "--json", "--exempt-loopback", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--data-dir", self.folder, "--no-input"]
        for port in self.dial:
            command += ["--dial", f"127.0.0.1:{port}"]
        with open(self.folder + ".stdout", "wb") as out, open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(command, stdout=out, stderr=errors)
        self.expected_up = True


STOP, CONTINUE, TERMINATE, KILL = signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM, signal.SIGKILL
