#!/usr/bin/env bash
# What can only be known on a GPU, in under nine minutes: right, clean, as PyTorch trains, how fast.
#   bench/gpu_check.sh OUT_DIR
#
# Wants a Linux machine with a driver, NVRTC and a finished build/ (Lua is linked statically); PyTorch and
# numpy for the comparisons, compute-sanitizer for the checks by it: what is missing is said, and its step
# is unrun. No network. OUT_DIR gets each step's output, summary.json and summary.txt.
#   GPU_CHECK_DEVICE=emulate     without a GPU: everything that the emulator can do, with tiny sizes
#   GPU_CHECK_PROGRAM=FILE       resgen (build/resgen)
#   GPU_CHECK_DATA=DIR           CIFAR-10's binary version; else step 3 makes up images and step 5 is unrun
#   GPU_CHECK_CUDA=DIR           --cuda-path
set -u
[ $# -eq 1 ] || { sed -n 2,12p "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 1
device=${GPU_CHECK_DEVICE:-cuda}
program=${GPU_CHECK_PROGRAM:-$root/build/resgen}
data=${GPU_CHECK_DATA:-}
peers=$root/bench/peers
tiny=$root/specs/tiny/tiny_residual.lua
options=(--target=cuda "--device=$device" "--cache=$out/cache")
[ -n "${GPU_CHECK_CUDA:-}" ] && options+=("--cuda-path=$GPU_CHECK_CUDA")
if [ "$device" = emulate ]; then
    spec=$tiny steps=3
else
    spec=$root/specs/resnet18_cifar.lua steps=200
fi
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
arch=sm_${arch:-90}
began=$SECONDS all=530 # seconds, of everything
: >"$out/steps.txt"
rm -f "$out"/*.log

# ---- steps ----

note() { # NAME RESULT SECONDS WORDS
    printf '%-8s %-34s %4d s  %s\n' "$2" "$1" "$3" "$4"
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "${4//[$'\t"\\']/ }" >>"$out/steps.txt"
}

unrun() { note "$1" unrun 0 "$2"; }

# step LIMIT NAME COMMAND...: its output is NAME.log, its last line the words of the summary.
step() {
    local limit=$1 name=$2 start=$SECONDS status=0 left=$((all - (SECONDS - began)))
    shift 2
    [ "$left" -gt 5 ] || { unrun "$name" "no time is left"; return 1; }
    [ "$limit" -le "$left" ] || limit=$left
    timeout -k 5 "$limit" "$@" >"$out/$name.log" 2>&1 || status=$?
    local words
    words=$(grep -v '^$' "$out/$name.log" | tail -n 1 | tr -d '\r' | cut -c 1-150)
    case $status in
    0) note "$name" ok $((SECONDS - start)) "$words" ;;
    124 | 137) note "$name" late $((SECONDS - start)) "not done after $limit s: $words" ;;
    *) note "$name" FAILED $((SECONDS - start)) "$words" ;;
    esac
    return $status
}

has_torch() { python3 -c 'import numpy, torch; assert torch.cuda.is_available()' 2>/dev/null; }

facts() {
    date -u +'date %Y-%m-%dT%H:%M:%SZ'
    echo "commit $(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)"
    nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem --format=csv,noheader 2>/dev/null ||
        echo "no nvidia-smi"
    python3 -c 'import torch; print("PyTorch", torch.__version__, "CUDA", torch.version.cuda)' 2>/dev/null ||
        echo "no PyTorch"
    echo "device $device, $(basename "$spec")"
}

# ---- 1: right, and the emulator's bits ----

check_kernels() { # PRECISION
    "$program" verify "$spec" "${options[@]}" --precision="$1"
}

# Three steps of the tiny network: all weights and moments to the bit.
same_bits() { # PRECISION
    local where
    for where in "$device" emulate; do
        "$program" train "$tiny" "${options[@]}" "--device=$where" "--arch=$arch" --precision="$1" --data=synthetic \
            --steps=3 --save="$out/bits-$where.safetensors" --quiet || return 1
    done
    if cmp "$out/bits-$device.safetensors" "$out/bits-emulate.safetensors"; then
        echo "three steps in $1: the same bits on $device and emulator"
    else
        echo "three steps in $1: other bits than the emulator's"
        return 1
    fi
}

# ---- 2: compute-sanitizer ----

sanitize() { # TOOL PRECISION
    compute-sanitizer --tool "$1" --error-exitcode 9 "$program" train "$tiny" "${options[@]}" --precision="$2" \
        --data=synthetic --steps=2 --quiet
}

# ---- 3: PyTorch's losses ----

follow() { # PRECISION
    local theirs=$out/torch-$1.json
    "$program" train "$spec" "${options[@]}" --precision="$1" --data="$images" --no-shuffle --steps="$steps" \
        --init="$out/init.safetensors" >"$out/losses-$1.txt" || return 1
    python3 "$peers/torch_losses.py" train "$images" --init="$out/init.safetensors" --steps="$steps" \
        --precision="$1" >"$theirs" || return 1
    python3 "$peers/torch_losses.py" compare "$out/losses-$1.txt" "$theirs" --precision="$1"
}

train_alone() { # PRECISION
    "$program" train "$spec" "${options[@]}" --precision="$1" --data=synthetic --steps="$steps"
}

# ---- 4: times ----

kernels() { # PRECISION
    "$program" bench "$spec" "${options[@]}" --precision="$1" --step --json >"$out/kernels-$1.json" || return 1
    "$program" bench "$spec" "${options[@]}" --precision="$1" --step
}

against_torch() { # PRECISION
    local program_options
    program_options=$(printf '%q ' "${options[@]}" --precision="$1")
    python3 "$peers/compare_step.py" --program="$program" --spec="$spec" --rounds=3 --count=20 \
        --config="resgen $1=$program_options" --peer="eager $1=--device=cuda --precision=$1" \
        --peer="compiled $1=--device=cuda --precision=$1 --compile" --json="$out/step-$1.json"
}

epoch_time() { # PRECISION
    "$program" train "$spec" "${options[@]}" --precision="$1" --data="${data:-synthetic}" --epochs=1
}

# ---- 5: the notebook's run ----

notebook() { # PRECISION
    "$program" train "$spec" "${options[@]}" --precision="$1" --data="$data" --epochs=20
}

# ---- all of them ----

run_step() { # LIMIT NAME FUNCTION ARGUMENT...: a function of this script as a step
    local limit=$1 name=$2
    shift 2
    step "$limit" "$name" bash -c "$(declare -p program out device arch spec tiny steps peers options data root ${images:+images}); $(declare -f); \"\$@\"" - "$@"
}

summary() {
    {
        cat "$out/facts.log"
        awk -F '\t' '{ printf "%-8s %-24s %4d s  %s\n", $2, $1, $3, $4 }' "$out/steps.txt"
    } >"$out/summary.txt"
    awk -F '\t' -v device="$device" '
        BEGIN { printf "{\"device\": \"%s\", \"steps\": [", device }
        { printf "%s\n  {\"step\": \"%s\", \"result\": \"%s\", \"seconds\": %d, \"words\": \"%s\"}", (NR > 1 ? "," : ""), $1, $2, $3, $4 }
        END { print "\n]}" }' "$out/steps.txt" >"$out/summary.json"
}

run_step 20 facts facts
precisions=(f32 bf16)
for p in "${precisions[@]}"; do run_step 110 "1-verify-$p" check_kernels "$p"; done
if [ "$device" = emulate ]; then
    unrun 1-bits "there is no GPU to compare with the emulator"
elif command -v g++ >/dev/null; then
    for p in "${precisions[@]}"; do run_step 60 "1-bits-$p" same_bits "$p"; done
else
    unrun 1-bits "the emulator wants g++, which is not installed"
fi
if [ "$device" = emulate ]; then
    unrun 2-sanitizer "compute-sanitizer watches GPUs; the emulator's own checks are on in every step"
elif command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do run_step 45 "2-$tool" sanitize "$tool" bf16; done
else
    unrun 2-sanitizer "compute-sanitizer is not installed"
fi
torch=0
[ "$device" != emulate ] && has_torch && torch=1
if [ $torch = 1 ]; then
    images=${data:-$out/images}
    if run_step 20 3-init python3 "$peers/torch_losses.py" init "$out/init.safetensors" &&
        { [ -n "$data" ] || run_step 30 3-data python3 "$peers/torch_losses.py" data "$images"; }; then
        for p in "${precisions[@]}"; do run_step 60 "3-losses-$p" follow "$p"; done
    fi
else
    unrun 3-losses "PyTorch with a GPU and numpy are not there: resgen trains alone"
    for p in "${precisions[@]}"; do run_step 60 "3-train-$p" train_alone "$p"; done
fi
for p in tf32 bf16; do
    run_step 60 "4-kernels-$p" kernels "$p"
    if [ $torch = 1 ]; then run_step 75 "4-torch-$p" against_torch "$p"; else unrun "4-torch-$p" "PyTorch with a GPU is not there"; fi
done
if [ "$device" = emulate ]; then
    unrun 4-epoch "an epoch takes the emulator hours"
else
    run_step 30 4-epoch epoch_time bf16
fi
if [ -n "$data" ] && [ "$device" != emulate ]; then
    for p in bf16 tf32; do
        run_step "$all" "5-notebook-$p" notebook "$p"
    done
else
    unrun 5-notebook "$([ "$device" = emulate ] && echo "twenty epochs take the emulator days" || echo "CIFAR-10 is not there (GPU_CHECK_DATA)")"
fi
summary
echo "$((SECONDS - began)) s; $out/summary.txt, $out/summary.json"
! grep -qE $'\t(FAILED|late)\t' "$out/steps.txt"
