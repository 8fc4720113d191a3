"""Times PyTorch on the reference network: a training step at batch 64, evaluation at batch 128.

    torch_step.py [--threads N] [--steps N] [--json] [--device cpu|cuda]
                  [--precision f32|tf32|bf16] [--mode eager|graph|compile]
    torch_step.py --serve         says "ready" when warm, then answers each line "step N" or "eval N"
                                  on standard input by a JSON list of milliseconds (for
                                  compare_step.py)

channels_last, threads bound (on CUDA they are left alone: Inductor's compilers would share the one
processor), zero_grad(set_to_none=True), Adam with foreach=True (on CUDA fused and capturable),
evaluation under no_grad. The images are made up and already in memory, so the input pipeline is not
timed. tf32 is for CUDA; bf16 is autocast, with weights, gradients and Adam in f32 as resgen has them.

--mode=graph    the whole step of eager PyTorch as one CUDA graph
--mode=compile  forward, loss and backward by torch.compile(mode="max-autotune", dynamic=False), which
                also makes CUDA graphs of them; needs a C compiler (Triton). --compile-mode names
                another mode.

On CUDA steps follow each other without waiting and each one's time is from event to event, which
hides what the host does meanwhile; resgen's own are from call to synchronisation.
"""

import argparse
import json
import os
import statistics
import sys
import time

FOLDER = os.path.dirname(os.path.abspath(__file__))
TRAIN_BATCH, EVAL_BATCH, WARM_UP = 64, 128, 3
AWAKE_S = 0.3  # a GPU that was idle raises its clocks meanwhile


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="f32", choices=("f32", "tf32", "bf16"))
    parser.add_argument("--mode", default="eager", choices=("eager", "graph", "compile"))
    parser.add_argument("--compile-mode", default="max-autotune")
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
        self.run = {"step": self.step, "eval": self.eval}
        self.loss = self.loss_of
        if args.mode == "compile":
            # dynamic=False: another batch size must not make both graphs slow, general ones.
            self.loss = torch.compile(self.loss_of, mode=args.compile_mode, dynamic=False)

    def make_adam(self):
        parameters, make = self.model.parameters(), self.torch.optim.Adam
        if self.args.device == "cpu":
            return make(parameters, lr=1e-3, foreach=True)
        return make(parameters, lr=1e-3, fused=True, capturable=True)

    def loss_of(self, image, label):
        half = self.args.precision == "bf16"
        autocast = self.torch.autocast  # its cache may not outlive a graph's capture
        with autocast(self.args.device, self.torch.bfloat16, enabled=half, cache_enabled=False):
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

    def capture(self, what):
        """The whole of a step as one graph, as PyTorch's notes on CUDA graphs show it."""
        stream = self.torch.cuda.Stream()
        stream.wait_stream(self.torch.cuda.current_stream())
        with self.torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.run[what]()
        self.torch.cuda.current_stream().wait_stream(stream)
        graph = self.torch.cuda.CUDAGraph()
        self.adam.zero_grad(set_to_none=True)
        with self.torch.cuda.graph(graph):
            self.run[what]()
        self.run[what] = graph.replay

    def warm_up(self):
        for what in ("step", "eval"):
            if self.args.mode == "graph":
                self.capture(what)
            self.time(what, WARM_UP)

    def wake(self, what):
        start = time.perf_counter()
        while time.perf_counter() - start < AWAKE_S:
            self.run[what]()
            if self.args.device == "cuda":
                self.torch.cuda.synchronize()

    def time(self, what, count):
        """Milliseconds of each of `count` runs of "step" or "eval"."""
        if self.args.device == "cuda":
            return self.time_by_events(what, count)
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self.run[what]()
            times.append(1e3 * (time.perf_counter() - start))
        return times

    def time_by_events(self, what, count):
        cuda = self.torch.cuda
        event = [cuda.Event(enable_timing=True) for _ in range(count + 1)]
        event[0].record()
        for i in range(count):
            self.run[what]()
            event[i + 1].record()
        cuda.synchronize()
        return [event[i].elapsed_time(event[i + 1]) for i in range(count)]


def serve(peer, answers):
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        what, count = line.split()
        peer.wake(what)
        print(json.dumps(peer.time(what, int(count))), file=answers, flush=True)


def own_output():
    """Standard output for answers alone: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def main():
    args = arguments()
    if args.device == "cpu":
        bind_threads(args.threads)
    answers = own_output() if args.serve else None
    peer = Peer(args)
    peer.warm_up()
    if args.serve:
        serve(peer, answers)
        return
    for what in ("step", "eval"):
        peer.wake(what)
    result = {
        "torch": peer.torch.__version__,
        "threads": args.threads,
        "device": args.device,
        "precision": args.precision,
        "mode": args.mode,
        "step_ms": peer.time("step", args.steps),
        "eval_ms": peer.time("eval", args.steps),
    }
    if args.json:
        print(json.dumps(result))
        return
    where = "%d threads" % args.threads if args.device == "cpu" else args.device
    told = (result["torch"], where, args.precision, args.mode)
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
