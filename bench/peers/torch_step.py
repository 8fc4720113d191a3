"""Times PyTorch on the reference network: a training step at batch 64, evaluation at batch 128.

    torch_step.py [--threads N] [--steps N] [--json] [--device cpu|cuda]
                  [--precision f32|tf32|bf16] [--compile]
    torch_step.py --serve         answers each line "step N" or "eval N" on standard input by a JSON
                                  list of milliseconds (compare_step.py uses this)

channels_last, threads bound, zero_grad(set_to_none=True), Adam with foreach=True (on CUDA fused and
capturable), evaluation under no_grad. The images are made up and already in memory, so the input
pipeline is not timed. tf32 and bf16 (autocast) are for CUDA. --compile: forward and backward by
torch.compile(mode="max-autotune"), which also makes CUDA graphs of them. Times on CUDA are from
call to synchronisation, as resgen's are.
"""

import argparse
import json
import os
import statistics
import sys
import time

FOLDER = os.path.dirname(os.path.abspath(__file__))
TRAIN_BATCH, EVAL_BATCH, WARM_UP = 64, 128, 3


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="f32", choices=("f32", "tf32", "bf16"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--serve", action="store_true")
    return parser.parse_args()


def bind_threads(threads):
    """OpenMP reads its variables when it is loaded: the program starts itself again with them."""
    want = {"OMP_NUM_THREADS": str(threads), "OMP_PROC_BIND": "close", "OMP_PLACES": "threads"}
    if any(os.environ.get(name) != value for name, value in want.items()):
        os.environ.update(want)
        os.execv(sys.executable, [sys.executable] + sys.argv)


class Peer:
    def __init__(self, args):
        import torch

        sys.path.insert(0, os.path.join(FOLDER, "..", "..", "tests", "golden"))
        import notebook

        torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        tf32 = args.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        self.torch, self.args, last = torch, args, torch.channels_last
        self.model = notebook.Notebook().to(args.device, memory_format=last)
        self.adam = self.make_adam()
        self.image, self.label = (
            [
                torch.randn(n, 3, 96, 96).to(args.device, memory_format=last)
                for n in (TRAIN_BATCH, EVAL_BATCH)
            ],
            [torch.randint(0, 10, (n,)).to(args.device) for n in (TRAIN_BATCH, EVAL_BATCH)],
        )
        self.loss = self.loss_of
        if args.compile:
            self.loss = torch.compile(self.loss_of, mode="max-autotune")

    def make_adam(self):
        parameters, make = self.model.parameters(), self.torch.optim.Adam
        if self.args.device == "cpu":
            return make(parameters, lr=1e-3, foreach=True)
        return make(parameters, lr=1e-3, fused=True, capturable=True)

    def loss_of(self, image, label):
        half = self.args.precision == "bf16"
        with self.torch.autocast(self.args.device, self.torch.bfloat16, enabled=half):
            return self.torch.nn.functional.cross_entropy(self.model(image), label)

    def step(self):
        self.model.train()
        self.adam.zero_grad(set_to_none=True)
        self.loss(self.image[0], self.label[0]).backward()
        self.adam.step()

    def eval(self):
        self.model.eval()
        with self.torch.no_grad():
            self.loss(self.image[1], self.label[1])

    def wait(self):
        if self.args.device == "cuda":
            self.torch.cuda.synchronize()

    def time(self, what, count):
        """Milliseconds of each of `count` runs of "step" or "eval"."""
        run, times = {"step": self.step, "eval": self.eval}[what], []
        self.wait()
        for _ in range(count):
            start = time.perf_counter()
            run()
            self.wait()
            times.append(1e3 * (time.perf_counter() - start))
        return times


def serve(peer):
    for line in sys.stdin:
        what, count = line.split()
        print(json.dumps(peer.time(what, int(count))), flush=True)


def main():
    args = arguments()
    bind_threads(args.threads)
    peer = Peer(args)
    peer.time("step", WARM_UP)
    peer.time("eval", WARM_UP)
    if args.serve:
        serve(peer)
        return
    result = {
        "torch": peer.torch.__version__,
        "threads": args.threads,
        "device": args.device,
        "precision": args.precision,
        "compiled": args.compile,
        "step_ms": peer.time("step", args.steps),
        "eval_ms": peer.time("eval", args.steps),
    }
    if args.json:
        print(json.dumps(result))
        return
    how = "compiled" if args.compile else "eager"
    where = "%d threads" % args.threads if args.device == "cpu" else args.device
    told = (result["torch"], where, args.precision, how)
    print("PyTorch %s, %s, %s, %s, channels_last" % told)
    for name, size in (("step", TRAIN_BATCH), ("eval", EVAL_BATCH)):
        times = result[name + "_ms"]
        median = statistics.median(times)
        print(
            "%s, batch %3d: median %7.1f ms, minimum %7.1f ms, %6.0f images/s"
            % (name, size, median, min(times), 1e3 * size / median)
        )


if __name__ == "__main__":
    main()
