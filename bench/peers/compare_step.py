"""Times resgen and PyTorch on the reference network in one interleaved run; prints their ratios.

    compare_step.py [--program build/resgen] [--spec specs/resnet18_cifar.lua] [--rounds N]
                    [--count N] [--config NAME=OPTIONS]... [--peer NAME=OPTIONS]... [--patience S]
                    [--json FILE]

A round times PyTorch `count` times, then each configuration of resgen by
`resgen bench SPEC --step --json OPTIONS`, which prints an object with lists step_ms and eval_ms.
PyTorch's process lives for the whole run and sleeps while resgen works. The order turns round
every other round, so that nobody always follows the other's heat. Without --config there is one
configuration without options. --peer: PyTorch by torch_step.py with these options, several times
where they differ (as in --peer="eager bf16=--device=cuda --precision=bf16"). Without it: PyTorch on
the processor. Peers get warm one after the other (a compiling one takes long); one that ends,
cannot be started, answers other than by times in JSON or does not answer within --patience seconds
is left out, and standard error says so; where every configuration of resgen is, the exit status is
1. Speedups are told against the first PyTorch that is left, and name it; where none is, the table
has times alone.
"""

import argparse
import itertools
import json
import os
import select
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
    parser.add_argument("--patience", type=float, default=600, help="seconds for an answer")
    parser.add_argument("--json", metavar="FILE", help="write all times")
    return parser.parse_args()


class Gone(Exception):
    """A peer that does not answer, or not by times in JSON."""


def parsed(text):
    try:
        return json.loads(text)
    except ValueError as why:
        raise Gone("its answer is not JSON: %s" % why)


def times_in(answer, what):
    numbers = isinstance(answer, list) and all(isinstance(ms, (int, float)) for ms in answer)
    if not numbers or not answer:
        raise Gone("its answer has no times '%s'" % what)
    return answer


class Torch:
    def __init__(self, args, peer):
        self.name, _, options = peer.partition("=")
        self.count, self.patience = args.count, args.patience
        command = [sys.executable, os.path.join(FOLDER, "torch_step.py"), "--serve"]
        self.process = subprocess.Popen(
            command + ["--threads=%d" % args.threads] + shlex.split(options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            universal_newlines=True,
        )

    def warm_up(self):
        self.answer()

    def answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], self.patience)
        if not ready:
            raise Gone("no answer after %.0f s" % self.patience)
        line = self.process.stdout.readline()
        if not line:
            raise Gone("torch_step.py ended with status %d" % self.process.wait())
        return parsed(line)

    def ask(self, what):
        try:
            self.process.stdin.write("%s %d\n" % (what, self.count))
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # its status says more
        return self.answer()

    def times(self):
        return {key: times_in(self.ask(key[: -len("_ms")]), key) for key in KEYS}

    def close(self):
        self.process.kill()
        self.process.wait()


class Resgen:
    def __init__(self, name, command, patience):
        self.name, self.command, self.patience = name, command, patience

    def times(self):
        try:
            done = subprocess.run(
                self.command, stdout=subprocess.PIPE, check=True, timeout=self.patience
            )
        except (OSError, subprocess.SubprocessError) as why:
            raise Gone(why)
        result = parsed(done.stdout)
        if not isinstance(result, dict):
            raise Gone("its answer is no object")
        return {key: times_in(result.get(key), key) for key in KEYS}

    def warm_up(self):
        self.times()  # fills the cache of built kernels

    def close(self):
        pass


def torches(args):
    for peer in args.peer or ["PyTorch="]:
        yield Torch(args, peer)


def configurations(args):
    base = [os.path.abspath(args.program), "bench", os.path.abspath(args.spec), "--step", "--json"]
    base += ["--threads=%d" % args.threads]
    for config in args.config or ["resgen="]:
        name, _, options = config.partition("=")
        yield Resgen(name, base + shlex.split(options), args.patience)


def leave_out(peer, peers, why):
    print("compare_step: %s is left out: %s" % (peer.name, why), file=sys.stderr)
    peer.close()
    peers.remove(peer)


def need_resgen(peers):
    if not any(isinstance(peer, Resgen) for peer in peers):
        sys.exit("compare_step: no configuration of resgen is left: nothing to compare")


def measure(peers, rounds):
    """{name: {"step_ms": [[a round's], ...], "eval_ms": ...}}"""
    result = {peer.name: {key: [] for key in KEYS} for peer in peers}
    for index in range(rounds):
        for peer in list(peers) if index % 2 == 0 else list(reversed(peers)):
            try:
                for key, times in peer.times().items():
                    result[peer.name][key].append(times)
            except Gone as why:
                leave_out(peer, peers, why)
                del result[peer.name]
        print("round %d of %d" % (index + 1, rounds), file=sys.stderr)
    return result


def speed_ups(result, torch, name, key):
    """PyTorch's median over this one's, in each round."""
    rounds = zip(result[torch][key], result[name][key])
    return [statistics.median(theirs) / statistics.median(ours) for theirs, ours in rounds]


def row(name, times, baseline):
    line = "%-24s" % name
    for key in KEYS:
        all_times = sum(times[key], [])
        median = statistics.median(all_times)
        line += "%8.2f%7.2f" % (median, min(all_times))
        if baseline:
            line += "%8.2fx" % (statistics.median(sum(baseline[key], [])) / median)
        else:
            line += "%9s" % "-"
    return line


def table(result, torch):
    """torch: the name of the one that speedups are told against, or None."""
    print("%-24s %23s %23s" % ("", "step, batch 64", "evaluation, batch 128"))
    print("%-24s" % "" + 2 * "  median    min speedup")
    for name, times in result.items():
        print(row(name, times, result.get(torch)))
    if torch is None:
        print("no PyTorch is left to tell speedups against")
        return
    print("speedups are against %s" % torch)
    for name in result:
        if name != torch:
            each = [" ".join("%.2f" % g for g in speed_ups(result, torch, name, k)) for k in KEYS]
            print("%s by round: step %s; evaluation %s" % (name, *each))


def main():
    args = arguments()
    peers = []
    try:
        for peer in itertools.chain(torches(args), configurations(args)):
            peers.append(peer)
            try:
                peer.warm_up()
            except Gone as why:
                leave_out(peer, peers, why)
        need_resgen(peers)
        result = measure(peers, args.rounds)
        need_resgen(peers)
    finally:
        for peer in peers:
            peer.close()
    table(result, next((peer.name for peer in peers if isinstance(peer, Torch)), None))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file)


if __name__ == "__main__":
    main()
