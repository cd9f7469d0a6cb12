"""The run itself: the traffic, the schedule of faults, and the conditions at the end.

Six nodes speak in turn, one message a second each. `steady` is left alone; `killed` and `stopped` end and restart, until
three fifths of the run are over, so that their memory can be measured after that; `clock` lives with jumps of its clock;
`disk` has its log on a small tmpfs that is filled and freed; `partition` is stopped and goes on, and its stderr is full.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from judge import Verdict
from nodes import CONTINUE, KILL, STOP, TERMINATE, Joiner, Node, Shared

MINUTES = int(sys.argv[1])
# The log is full after about a third of the run: each node takes in some 0.35 MiB a minute.
KEEP = f"{max(2, MINUTES // 10)}M"
# The log, its WAL and SQLite's temporary files.
TMPFS_MIB = 48
# Each fault occurs once in each round, which ends with a time without faults.
ROUND = min(300, MINUTES * 60 // 3)
# At the end of the run nothing is done, so that all can agree.
REST = min(180, MINUTES * 60 // 6)
# How long the clock is wrong, and by how much, one after the other.
JUMP = 10
JUMPS = ["+40d", "+1h", "-1h", "+10m"]
NAMES = ["steady", "killed", "stopped", "clock", "disk", "partition"]
SAMPLE_EVERY = 10
# A message stays in a full log for longer than this.
LOOK_EVERY = 15


def say(text):
    print(f"{(time.monotonic() - BEGUN) / 60:6.1f} min  {text}", flush=True)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Soak:
    def __init__(self, folder):
        self.folder = folder
        self.shared = Shared()
        self.tmpfs = f"{folder}/small"
        os.mkdir(self.tmpfs)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MIB}m", "tmpfs", self.tmpfs], check=True)
        self.clock_file = f"{folder}/clock.offset"
        self.set_clock("+0")
        self.ports = free_ports(len(NAMES) + 1)
        self.nodes = {name: self.node(name, port) for name, port in zip(NAMES, self.ports)}

    def node(self, name, port):
        # All enter through the first two.
        dial = [other for other in self.ports[:2] if other != port]
        folder = f"{self.tmpfs}/disk" if name == "disk" else f"{self.folder}/{name}"
        env, redirect = {}, ""
        if name == "clock":
            env = {
                "LD_PRELOAD": os.environ["FAKETIME_LIBRARY"],
                "FAKETIME_TIMESTAMP_FILE": self.clock_file,
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        if name == "partition":
            env, redirect = {"RUST_LOG": "info"}, "2>/dev/full"
        if name == "stopped":
            redirect = "2>&-"
        made = Node(self.shared, name, folder, port, dial, KEEP, env, redirect)
        # Not on the disk that is filled.
        made.errors = f"{self.folder}/{name}.stderr"
        return made

    def set_clock(self, offset):
        with open(self.clock_file + ".new", "w") as file:
            file.write(offset + "\n")
        os.replace(self.clock_file + ".new", self.clock_file)

    def fill(self):
        block = b"x" * 65536
        with open(f"{self.tmpfs}/ballast", "ab", buffering=0) as file:
            for size in (65536, 4096):
                try:
                    while file.write(block[:size]):
                        pass
                except OSError:
                    continue

    def free(self):
        os.remove(f"{self.tmpfs}/ballast")

    def plan(self):
        """The schedule of faults, in seconds from the beginning."""
        node, plan = self.nodes, []
        end = MINUTES * 60 - REST
        for number in range(int(end // ROUND) + 1):
            begin, jump = number * ROUND, JUMPS[number % len(JUMPS)]
            at = lambda part: begin + part * ROUND
            done = [
                (at(0.55), lambda: self.fill(), at(0.65), lambda: self.free(), "disk: its tmpfs is full"),
                (at(0.75), lambda: node["partition"].signal(STOP), at(0.87), lambda: node["partition"].signal(CONTINUE), "partition: SIGSTOP"),
                (at(0.40), lambda jump=jump: self.set_clock(jump), at(0.40) + JUMP, lambda: self.set_clock("+0"), f"clock: {jump}"),
            ]
            if at(0.4) < 0.6 * MINUTES * 60:
                done += [
                    (at(0.10), lambda: node["killed"].end(KILL), at(0.15), lambda: node["killed"].start(), "killed: kill -9"),
                    (at(0.25), lambda: node["stopped"].end(TERMINATE), at(0.35), lambda: node["stopped"].start(), "stopped: SIGTERM"),
                ]
            for since, do, until, undo, text in done:
                if until < end:
                    plan += [(since, do, text), (until, undo, text.split(":")[0] + ": goes on")]
        return sorted(plan, key=lambda step: step[0])

    def run(self):
        for node in self.nodes.values():
            node.start()
        for node in self.nodes.values():
            if not node.is_online.wait(30):
                sys.exit(f"error: {node.name} is not online after 30 s")
        plan, turn, sampled, looked = self.plan(), 0, 0.0, 0.0
        while (passed := time.monotonic() - BEGUN) < MINUTES * 60:
            while plan and plan[0][0] <= passed:
                _, do, text = plan.pop(0)
                say(text)
                do()
            names = list(self.nodes)
            self.nodes[names[turn % len(names)]].say()
            turn += 1
            for node in self.nodes.values():
                node.check()
            if passed - sampled >= SAMPLE_EVERY:
                sampled = passed
                for node in self.nodes.values():
                    node.sample()
            if passed - looked >= LOOK_EVERY:
                looked = passed
                for node in self.nodes.values():
                    node.look()
            time.sleep(max(0.0, turn / len(names) - (time.monotonic() - BEGUN)))
        say("nobody speaks any more")

    def join(self):
        """A newcomer with a file as its stdout."""
        port = self.ports[-1]
        joiner = Joiner(self.shared, "joiner", f"{self.folder}/joiner", port, self.ports[:2], KEEP)
        joiner.start()
        return joiner

    def clean_up(self):
        for node in self.nodes.values():
            if node.process and node.process.poll() is None:
                node.process.kill()
                node.process.wait()
        subprocess.run(["umount", "-l", self.tmpfs])


def main():
    folder = tempfile.mkdtemp(prefix="diatribe-soak-", dir="/var/tmp")
    soak = Soak(folder)
    good = False
    try:
        say(f"six nodes of {os.environ['DIATRIBE_BIN']}, logs of {KEEP}, below {folder}, for {MINUTES} minutes")
        soak.run()
        verdict = Verdict(soak, MINUTES, time.monotonic() - BEGUN, say)
        verdict.settle()
        verdict.join()
        good = verdict.tell()
    finally:
        soak.clean_up()
        if good and not os.environ.get("KEEP_FILES"):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"the nodes' files are below {folder}")
    return 0 if good else 1


BEGUN = time.monotonic()
if __name__ == "__main__":
    sys.exit(main())
