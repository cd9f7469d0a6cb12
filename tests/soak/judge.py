"""The conditions that must hold at the end, and the table of their results."""

import math
import time

# How long the nodes may take to agree after the last word.
SETTLE = 180
JOIN = 90
# A process grows while its log, its peers and its allocator's arenas grow to their final size:
# most of that in its first quarter of an hour, the last of it in half an hour more.
WARM_UP = 40 * 60
# A slope over less than this says more about the last allocation than about a leak.
MIN_SPAN = 15 * 60
# Growth of a node's memory after its log is full, in MiB an hour, for runs of at least this number of minutes.
MAX_SLOPE = 1.0
JUDGED_FROM = 60
MIN_SAMPLES = 30
STAYED_UP = ["steady", "clock", "disk", "partition"]


def fit(samples):
    """The slope of a straight line through samples of (s, MiB), in MiB an hour, and its standard error."""
    n = len(samples)
    mean_t = sum(t for t, _ in samples) / n
    mean_m = sum(m for _, m in samples) / n
    square = sum((t - mean_t) ** 2 for t, _ in samples)
    slope = sum((t - mean_t) * (m - mean_m) for t, m in samples) / square
    rest = sum((m - mean_m - slope * (t - mean_t)) ** 2 for t, m in samples)
    error = math.sqrt(rest / max(1, n - 2) / square)
    return slope * 3600, error * 3600


class Verdict:
    def __init__(self, soak, minutes, seconds, say):
        self.nodes, self.shared, self.say, self.soak = soak.nodes, soak.shared, say, soak
        self.minutes, self.seconds = minutes, seconds
        self.cpu = {node.name: node.cpu() for node in self.nodes.values()}
        self.ended = time.monotonic()
        self.lost, self.untold, self.held, self.joiner_lacks = {}, {}, {}, None

    def look(self):
        with self.shared.lock:
            sent = dict(self.shared.sent)
        for node in self.nodes.values():
            self.held[node.name] = held = node.held()
            node.look()
            self.lost[node.name] = [
                key for key in sent if key not in held and key[0] not in node.had
            ]
            self.untold[node.name] = [
                key for key, (by, _) in sent.items() if by != node.name and key not in node.told
            ]
        self.sent = sent

    def settle(self):
        """Waits until every log has every message and every reader has received it, or the timeout expires."""
        until = time.monotonic() + SETTLE
        while True:
            self.look()
            untold = sum(len(self.untold[name]) for name in STAYED_UP)
            lost = sum(map(len, self.lost.values()))
            if lost == 0 and untold == 0:
                return self.say("all logs have everything, and all readers were told")
            if time.monotonic() > until:
                return self.say(f"after {SETTLE} s: {lost} are not in a log, {untold} were not told")
            time.sleep(5)

    def join(self):
        wanted = self.held["steady"]
        joiner = self.soak.join()
        until = time.monotonic() + JOIN
        try:
            while True:
                told = [line for line in joiner.lines() if line["type"] == "message"]
                keys = [(line["id"], line["seq"]) for line in told]
                self.joiner_lacks = len(wanted - set(keys))
                if self.joiner_lacks == 0 or time.monotonic() > until:
                    break
                time.sleep(2)
        finally:
            joiner.end(15)
        if len(keys) != len(set(keys)):
            self.shared.fault(f"the joiner was told {len(keys) - len(set(keys))} messages twice")
        self.say(f"a newcomer's file has {len(wanted) - self.joiner_lacks} of {len(wanted)} messages")

    def slope(self, node):
        """MiB an hour and its error, or None when there is too little to say."""
        begin = node.since + WARM_UP
        if node.log_full_at is not None:
            begin = max(begin, node.log_full_at)
        samples = [sample for sample in node.samples if begin <= sample[0] <= self.ended]
        if len(samples) < MIN_SAMPLES or samples[-1][0] - samples[0][0] < MIN_SPAN:
            return None
        return fit(samples)

    def tell(self):
        heads = "node        starts   sent  refused   told  untold  twice  in log   lost  full  RSS MiB      MiB/h      cores"
        print(f"\n{heads}")
        good = True
        for node in self.nodes.values():
            good &= self.row(node)
        cores = sum(self.cpu.values()) / self.seconds
        print(f"\n{len(self.sent)} messages were sent in {self.minutes} minutes, with {cores:.2f} cores in all.")
        for node in self.nodes.values():
            print(f"{node.name:10} RSS in MiB by the minutes since its start: {self.curve(node)}")
        for node in self.nodes.values():
            for line in node.panics():
                self.shared.fault(f"{node.name}: {line}")
        self.tell_when()
        faults = self.shared.faults
        for text in faults:
            print(f"FAULT: {text}")
        good &= not faults and self.joiner_lacks == 0 and len(self.sent) > 0
        print("good" if good else "NOT good")
        return good

    def curve(self, node):
        """Ten samples, evenly spread: they show better than a slope whether memory still grows at the end."""
        samples = [sample for sample in node.samples if sample[0] <= self.ended]
        steps = samples[:: max(1, len(samples) // 10)]
        return " ".join(f"{(t - node.since) / 60:.0f}:{rss:.1f}" for t, rss in steps)

    def tell_when(self):
        """Lists missing messages by author and node, with the time when they were sent."""
        for what, missing in (("not in the log of", self.lost), ("not told by", self.untold)):
            for name, keys in missing.items():
                if what == "not told by" and name not in STAYED_UP:
                    continue
                by = {}
                for key in keys:
                    author, at = self.sent[key]
                    by.setdefault((author, int(at // 5) * 5), []).append(key)
                for (author, at), keys in sorted(by.items(), key=lambda item: item[0][1]):
                    print(f"{what} {name}: {len(keys)} of {author}, sent from {at / 60:.2f} min on")

    def row(self, node):
        name = node.name
        twice = sum(1 for count in node.told.values() if count > 1)
        untold = len(self.untold[name])
        sent = sum(1 for by, _ in self.sent.values() if by == name)
        slope = self.slope(node)
        first, last = (node.samples[0][1], node.samples[-1][1]) if node.samples else (0.0, 0.0)
        grows = "        -" if slope is None else f"{slope[0]:5.2f}±{slope[1]:.2f}"
        # A killed node may have stored messages that it had not printed yet.
        shown = str(untold) if name in STAYED_UP else f"({untold})"
        print(
            f"{name:10} {node.starts:7} {sent:6} {node.refused:8} {len(node.told):6} {shown:>7} {twice:6} "
            f"{len(self.held[name]):7} {len(self.lost[name]):6}  {'yes' if node.log_full_at else 'no ':3} "
            f"{first:5.1f}-{last:<5.1f} {grows:>10} {self.cpu[name] / self.seconds:10.3f}"
        )
        good = twice == 0 and not self.lost[name] and (untold == 0 or name not in STAYED_UP)
        # Nodes that the run restarts again and again are not up for long enough to tell growth from warming up.
        if self.minutes >= JUDGED_FROM and (slope is not None or name in STAYED_UP):
            good &= slope is not None and slope[0] <= MAX_SLOPE
        return good
