"""Times resgen and PyTorch on the reference network in one interleaved run; prints their ratios.

    compare_step.py [--program build/resgen] [--spec specs/resnet18_cifar.lua] [--rounds N]
                    [--count N] [--config NAME=OPTIONS]... [--peer NAME=OPTIONS]... [--json FILE]

A round times PyTorch `count` times, then each configuration of resgen by
`resgen bench SPEC --step --json OPTIONS`, which prints an object with lists step_ms and eval_ms.
PyTorch's process lives for the whole run and sleeps while resgen works. The order turns round
every other round, so that nobody always follows the other's heat. Without --config there is one
configuration without options. --peer: PyTorch by torch_step.py with these options, several times
where they differ (as in --peer="eager bf16=--device=cuda --precision=bf16"); the first is the one
that speedups are told against. Without it: PyTorch on the processor.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
KEYS = ("step_ms", "eval_ms")
ROOT = os.path.normpath(os.path.join(FOLDER, "..", ".."))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "resgen"))
    parser.add_argument("--spec", default=os.path.join(ROOT, "specs", "resnet18_cifar.lua"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=10, help="PyTorch's steps in a round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--config", action="append", metavar="NAME=OPTIONS")
    parser.add_argument("--peer", action="append", metavar="NAME=OPTIONS")
    parser.add_argument("--json", metavar="FILE", help="write all times")
    return parser.parse_args()


class Torch:
    def __init__(self, threads, count, peer):
        self.name, _, options = peer.partition("=")
        self.count = count
        self.process = subprocess.Popen(
            [
                sys.executable,
                os.path.join(FOLDER, "torch_step.py"),
                "--serve",
                "--threads=%d" % threads,
            ]
            + shlex.split(options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            universal_newlines=True,
        )

    def ask(self, what, count):
        self.process.stdin.write("%s %d\n" % (what, count))
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("compare_step: torch_step.py ended; is python3-torch installed?")
        return json.loads(line)

    def times(self):
        self.ask("step", 1)  # awake again
        return {"step_ms": self.ask("step", self.count), "eval_ms": self.ask("eval", self.count)}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Resgen:
    def __init__(self, name, command):
        self.name, self.command = name, command

    def times(self):
        done = subprocess.run(
            self.command, stdout=subprocess.PIPE, universal_newlines=True, check=True, cwd=ROOT
        )
        result = json.loads(done.stdout)
        return {key: [float(ms) for ms in result[key]] for key in KEYS}


def configurations(args):
    base = [os.path.abspath(args.program), "bench", os.path.abspath(args.spec), "--step", "--json"]
    base += ["--threads=%d" % args.threads]
    for config in args.config or ["resgen="]:
        name, _, options = config.partition("=")
        yield Resgen(name, base + shlex.split(options))


def measure(args, peers):
    """{name: {"step_ms": [[a round's], ...], "eval_ms": ...}}"""
    result = {peer.name: {"step_ms": [], "eval_ms": []} for peer in peers}
    for index in range(args.rounds):
        order = list(peers)
        for peer in order if index % 2 == 0 else reversed(order):
            for key, times in peer.times().items():
                result[peer.name][key].append(times)
        print("round %d of %d" % (index + 1, args.rounds), file=sys.stderr)
    return result


def speed_ups(result, torch, name, key):
    """PyTorch's median over this one's, in each round."""
    rounds = zip(result[torch][key], result[name][key])
    return [statistics.median(theirs) / statistics.median(ours) for theirs, ours in rounds]


def table(result, torch):
    print("%-24s %23s %23s" % ("", "step, batch 64", "evaluation, batch 128"))
    print("%-24s" % "" + 2 * "  median    min speedup")
    for name, times in result.items():
        line = "%-24s" % name
        for key in KEYS:
            all_times = sum(times[key], [])
            median = statistics.median(all_times)
            gain = statistics.median(sum(result[torch][key], [])) / median
            line += "%8.2f%7.2f%8.2fx" % (median, min(all_times), gain)
        print(line)
    for name in result:
        if name != torch:
            each = [" ".join("%.2f" % g for g in speed_ups(result, torch, name, k)) for k in KEYS]
            print("%s by round: step %s; evaluation %s" % (name, *each))


def main():
    args = arguments()
    ours = list(configurations(args))
    torch = []
    try:
        for peer in args.peer or ["PyTorch="]:
            torch.append(Torch(args.threads, args.count, peer))
        for peer in ours:
            peer.times()  # fills the cache of built kernels
        result = measure(args, torch + ours)
    finally:
        for peer in torch:
            peer.close()
    table(result, torch[0].name)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file)


if __name__ == "__main__":
    main()
