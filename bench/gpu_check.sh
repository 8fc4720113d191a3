#!/usr/bin/env bash
# What can only be known on a GPU, in under nine minutes: right, clean, as PyTorch trains, how fast.
#   bench/gpu_check.sh OUT_DIR
#
# Wants a Linux machine with a driver, NVRTC and build/resgen, built here or elsewhere; PyTorch and numpy
# for the comparisons, g++ for the emulator, compute-sanitizer for the checks by it. What is missing is told
# in a line, and its steps are skipped. No network. OUT_DIR gets three files, renewed after each step:
# summary.json, summary.txt and logs.tar.gz (each step's output, what failing kernels were made of, times).
#   GPU_CHECK_DEVICE=emulate     without a GPU: everything that the emulator can do, with tiny sizes
#   GPU_CHECK_PROGRAM=FILE       resgen (build/resgen)
#   GPU_CHECK_DATA=DIR           CIFAR-10's binary version; else step 3 makes up images and step 5 is skipped
#   GPU_CHECK_CUDA=DIR           --cuda-path (else NVRTC is also looked for beside PyTorch)
#   GPU_CHECK_PYTHON=PROGRAM     a Python that has PyTorch (python3)
#   GPU_CHECK_COMMIT=TEXT        what was built, where the tree has no history
#   GPU_CHECK_SECONDS=N          of everything (520; emulate: 2400); what does not fit is skipped
# shellcheck disable=SC2317 # steps are functions that a shell of their own calls by name
set -u
[ $# -eq 1 ] || { sed -n 2,15p "$0" >&2; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 1
device=${GPU_CHECK_DEVICE:-cuda}
program=${GPU_CHECK_PROGRAM:-$root/build/resgen}
data=${GPU_CHECK_DATA:-}
python=${GPU_CHECK_PYTHON:-python3}
began=$SECONDS
peers=$root/bench/peers
tiny=$root/specs/tiny/tiny_residual.lua
if [ "$device" = emulate ]; then
    spec=$tiny steps=3 precisions="f32 bf16" all=2400
else
    spec=$root/specs/resnet18_cifar.lua steps=200 precisions="f32 tf32 bf16" all=520
fi
all=${GPU_CHECK_SECONDS:-$all}

# ---- where it works: not in OUT_DIR, which stays small; nothing is written into the tree or at home ----

work_folder() { # the first place with room
    local place free
    for place in "${TMPDIR:-/tmp}" /tmp /var/tmp /dev/shm "$out"; do
        free=$(df -Pk "$place" 2>/dev/null | awk 'NR == 2 { print $4 }')
        [ "${free:-0}" -gt 1000000 ] && mktemp -d "$place/gpu_check-XXXXXX" 2>/dev/null && return
    done
    mktemp -d "$out/gpu_check-XXXXXX"
}

work=$(work_folder) || exit 1
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
logs=$work/logs
mkdir -p "$logs/failing" "$work/cwd"
cd "$work/cwd" || exit 1
export LC_ALL=C TMPDIR=$work XDG_CACHE_HOME=$work/cache CUDA_CACHE_PATH=$work/cache/cuda
export TORCHINDUCTOR_CACHE_DIR=$work/cache/inductor TRITON_CACHE_DIR=$work/cache/triton
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
options=(--target=cuda "--device=$device" "--cache=$work/cubins")
[ -n "${GPU_CHECK_CUDA:-}" ] && options+=("--cuda-path=$GPU_CHECK_CUDA")

# ---- the report ----

fact() { # NAME COMMAND...: its first line, or "none"
    local name=$1 line
    shift
    line=$(timeout -k 2 60 "$@" 2>/dev/null | head -n 1 | tr -d '\\"' | tr -c '[:print:]\n' '?')
    printf '%s\t%s\n' "$name" "${line:-none}" >>"$work/facts"
}

note() { # NAME RESULT SECONDS WORDS
    local words
    words=$(printf '%s' "$4" | tr '\t\\"' '   ' | tr -c '[:print:]' '?' | cut -c 1-200)
    printf '%-8s %-18s %4d s  %s\n' "$2" "$1" "$3" "$words"
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$words" >>"$work/steps"
    report
}

skip() { note "$1" skipped 0 "$2"; }

json() {
    awk -F '\t' '{ printf "%s\n  \"%s\": \"%s\",", (NR > 1 ? "" : "{"), $1, $2 }' "$work/facts"
    awk -F '\t' 'BEGIN { printf "\n  \"steps\": [" }
        { printf "%s\n    {\"step\": \"%s\", \"result\": \"%s\", \"seconds\": %d, \"words\": \"%s\"}",
                 (NR > 1 ? "," : ""), $1, $2, $3, $4 }
        END { print "\n  ]\n}" }' "$work/steps"
}

text() {
    awk -F '\t' '{ printf "%-12s %s\n", $1, $2 }' "$work/facts"
    sort -s -t - -k 1,1n "$work/steps" |
        awk -F '\t' '{ printf "%-8s %-18s %4d s  %s\n", $2, $1, $3, $4 }'
    for file in "$logs"/4-torch-* "$logs"/4-kernels-* "$logs"/6-*; do
        if [ -s "$file" ]; then printf '\n==== %s\n' "${file##*/}" && tail -n 120 "$file"; fi
    done
}

# Renewed after each step, since the next one may be the last. Steps may end at once: one at a time.
report() {
    (
        flock 9
        find "$logs" -type f -size +2000k -exec sh -c 'tail -c 1000000 "$1" >"$1.end" && rm "$1"' - {} \;
        json >"$work/summary.json" && mv "$work/summary.json" "$out/summary.json"
        text >"$work/summary.txt" && mv "$work/summary.txt" "$out/summary.txt"
        tar -C "$work" -czf "$work/logs.tar.gz" logs && mv "$work/logs.tar.gz" "$out/logs.tar.gz"
    ) 9>"$work/lock"
}

# ---- steps ----

seconds_left() { echo $((all - (SECONDS - began))); }

# What a process of ours says at its end, at most LIMIT seconds from now; also of one that cannot be killed.
wait_for() { # LIMIT PID
    local i
    for ((i = 0; i < 5 * $1; i++)); do
        kill -0 "$2" 2>/dev/null || break
        sleep 0.2
    done
    if kill -0 "$2" 2>/dev/null; then return 137; fi
    wait "$2"
}

# step LIMIT NAME FUNCTION ARGUMENT...: a function of this script; its output is NAME.log, its last line (where
# it fails, the last one that tells of an error) the words of the summary.
step() {
    local limit=$1 name=$2 start=$SECONDS status=0 left log=$logs/$2.log words child
    left=$(seconds_left)
    shift 2
    [ "$left" -gt 5 ] || { skip "$name" "no time is left"; return 1; }
    [ "$device" != emulate ] || limit=$((4 * limit))
    [ "$limit" -le "$left" ] || limit=$left
    timeout -k 5 "$limit" bash -c "$variables; $(declare -f); \"\$@\"" - "$@" >"$log" 2>&1 &
    child=$!
    trap 'kill "$child"; exit 143' TERM # a step beside others is a shell of its own
    wait_for $((limit + 8)) "$child" || status=$?
    words=$(grep -v '^ *$' "$log" | tail -n 1)
    [ $status = 0 ] || words=$(grep -E 'error|FAIL|Error' "$log" | tail -n 1 | grep . || echo "$words")
    case $status in
    0) note "$name" "done" $((SECONDS - start)) "$words" ;;
    124 | 137) keep_failing "$log" && note "$name" failed $((SECONDS - start)) "not done after $limit s: $words" ;;
    *) keep_failing "$log" && note "$name" failed $((SECONDS - start)) "$words" ;;
    esac
    return $status
}

# Sources of the kernels that a log names in lines that tell of a failure.
keep_failing() { # LOG
    local symbol
    grep -E 'FAIL|error|fault|=====' "$1" | grep -oE 'rg_[a-z0-9_]+__[a-z0-9_]+' | sort -u | head -n 60 |
        while read -r symbol; do
            find "$work"/sources-* -name "$symbol.cu" -exec cp {} "$logs/failing/" \; 2>/dev/null
        done
    return 0
}

# ---- 0: what is here ----

machine() {
    nvidia-smi -q
    lscpu
    ldd "$program"
    ldconfig -p | grep -E 'libnvrtc|libcuda'
    ls -d /usr/local/cuda*
    "$python" -c 'import torch; print(torch.__config__.show(), torch.backends.cudnn.version())'
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || echo "no nvidia-smi"
}

has_torch() {
    timeout -k 2 60 "$python" -c 'import numpy, torch; assert torch.cuda.is_available()' 2>"$logs/0-torch.log"
}

# The folder that holds Python's nvidia/, where wheels of CUDA's libraries lie.
wheels() { "$python" -c 'import nvidia, os; print(os.path.dirname(list(nvidia.__path__)[0]))' 2>/dev/null; }

builds() { timeout -k 2 60 "$program" "$tiny" "${options[@]}" "$@" --arch="$arch" --out="$work/sources-try"; }

# Adds a --cuda-path where NVRTC is not found without.
find_nvrtc() {
    local place
    if builds >"$logs/0-nvrtc.log" 2>&1; then
        note 0-nvrtc "done" 0 "found without --cuda-path"
        return
    fi
    for place in "$(wheels)" "${CONDA_PREFIX:-}"; do
        if [ -n "$place" ] && builds "--cuda-path=$place" >>"$logs/0-nvrtc.log" 2>&1; then
            options+=("--cuda-path=$place")
            note 0-nvrtc "done" 0 "found by --cuda-path=$place"
            return
        fi
    done
    note 0-nvrtc failed 0 "$(tail -n 1 "$logs/0-nvrtc.log")"
}

# ---- 1: right, and the emulator's bits ----

# Builds all kernels; the compiler's table of them.
build_kernels() { # PRECISION
    "$program" "$spec" "${options[@]}" --arch="$arch" --precision="$1" --out="$work/sources-$1"
}

check_kernels() { # PRECISION
    "$program" verify "$spec" "${options[@]}" --precision="$1"
}

# Three steps of the tiny network: all weights and moments to the bit (what --save writes holds no moments).
same_bits() { # PRECISION
    local where
    for where in "$device" emulate; do
        "$program" train "$tiny" "${options[@]}" "--device=$where" --arch="$arch" --precision="$1" \
            --data=synthetic --steps=3 --eval-steps=0 --quiet \
            --resume="$work/bits-$1-$where.safetensors" || return 1
    done
    if cmp "$work/bits-$1-$device.safetensors" "$work/bits-$1-emulate.safetensors"; then
        echo "three steps in $1: the same bits on $device and emulator"
    else
        echo "error: three steps in $1: other bits than the emulator's"
        return 1
    fi
}

# ---- 2: compute-sanitizer ----

# Two steps and one batch of evaluation: all 2000 images may not fit in the limit of a step.
sanitize() { # TOOL PRECISION
    "$sanitizer" --tool "$1" --error-exitcode 9 "$program" train "$tiny" "${options[@]}" --precision="$2" \
        --data=synthetic --steps=2 --eval-steps=1 --quiet
}

# ---- 3: PyTorch's losses ----

# Where training fails it is tried again kernel by kernel, so that the error names one.
train() { # OPTION...
    "$program" train "$spec" "${options[@]}" "$@" && return
    echo "the same kernel by kernel:"
    "$program" train "$spec" "${options[@]}" "$@" --stream --steps=3
    return 1
}

initialisation() {
    "$python" "$peers/torch_losses.py" init "$work/init.safetensors" || return 1
    [ -n "$data" ] || "$python" "$peers/torch_losses.py" data "$images"
}

follow() { # PRECISION
    local ours=$logs/losses-$1.txt theirs=$logs/losses-$1.json
    train --precision="$1" --data="$images" --no-shuffle --steps="$steps" --init="$work/init.safetensors" >"$ours" ||
        { cat "$ours"; return 1; }
    "$python" "$peers/torch_losses.py" train "$images" --init="$work/init.safetensors" --steps="$steps" \
        --precision="$1" >"$theirs" || return 1
    "$python" "$peers/torch_losses.py" compare "$ours" "$theirs" --precision="$1"
}

train_alone() { # PRECISION
    train --precision="$1" --data=synthetic --steps="$steps"
}

# ---- 4 and 6: times ----

kernels() { # PRECISION
    "$program" bench "$spec" "${options[@]}" --precision="$1" --step --json >"$logs/kernels-$1.json" || return 1
    "$program" bench "$spec" "${options[@]}" --precision="$1" --step
}

against_torch() { # PATIENCE JSON PRECISION MODE...: PyTorch in each mode and resgen in turn
    local patience=$1 file=$2 precision=$3 mode compared=()
    shift 3
    for mode in "$@"; do
        compared+=("--peer=PyTorch ${mode##*=}=--device=cuda --precision=$precision --mode=$mode")
    done
    "$python" "$peers/compare_step.py" --program="$program" --spec="$spec" --rounds=3 --count=30 \
        --patience="$patience" --json="$logs/$file" "${compared[@]}" \
        --config="resgen $precision=$(printf '%q ' "${options[@]}" --precision="$precision")"
}

# How long to wait for a compiling peer, so that the others are still compared.
patience() { # MOST
    local left=$(($(seconds_left) - 40))
    [ "$left" -lt "$1" ] || left=$1
    [ "$left" -gt 10 ] || left=10
    echo "$left"
}

epoch_time() { # PRECISION
    train --precision="$1" --data="${data:-synthetic}" --epochs=1
}

# ---- 5: the notebook's run ----

notebook() { # PRECISION
    train --precision="$1" --data="$data" --epochs=20
}

# ---- all of them ----

start() {
    : >"$work/steps"
    : >"$work/facts"
    fact date date -u +%Y-%m-%dT%H:%M:%SZ
    fact commit sh -c "echo '${GPU_CHECK_COMMIT:-}' | grep . || git -C '$root' rev-parse --short HEAD"
    fact device echo "$device"
    fact gpu nvidia-smi --query-gpu=name,memory.total,clocks.max.sm,clocks.max.mem --format=csv,noheader
    fact driver nvidia-smi --query-gpu=driver_version --format=csv,noheader
    fact pytorch "$python" -c 'import torch; print(torch.__version__, "CUDA", torch.version.cuda)'
    arch=$(timeout -k 2 20 nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -dc 0-9)
    arch=sm_${arch:-90}
    images=${data:-$work/images}
    sanitizer=$(PATH=$PATH:/usr/local/cuda/bin:/usr/local/cuda/compute-sanitizer command -v compute-sanitizer)
    remember
}

# What the functions of a step find in the shell that runs them.
remember() {
    variables=$(declare -p program python device arch spec tiny steps peers options data images root work logs sanitizer)
}

# Nothing here is timed: together, so that verifying, the emulator and the sanitizer share the processors.
right_and_clean() {
    local p tool
    for p in $precisions; do step 150 "1-verify-$p" check_kernels "$p" & done
    if [ "$device" = emulate ]; then
        skip 1-bits "there is no GPU to compare with the emulator"
        skip 2-sanitizer "compute-sanitizer watches GPUs; the emulator's own checks are on in every step"
    else
        if command -v g++ >/dev/null; then
            for p in $precisions; do step 120 "1-bits-$p" same_bits "$p" & done
        else
            skip 1-bits "the emulator wants g++, which is not installed"
        fi
        if [ -n "$sanitizer" ]; then
            for tool in memcheck racecheck; do step 120 "2-$tool" sanitize "$tool" bf16 & done
        else
            skip 2-sanitizer "compute-sanitizer is not installed"
        fi
    fi
    wait
}

as_pytorch() {
    local p
    if [ "$torch" = 1 ] && step 40 3-init initialisation; then
        for p in f32 bf16; do step 75 "3-losses-$p" follow "$p"; done
    else
        [ "$torch" = 1 ] || skip 3-losses "PyTorch with a GPU and numpy are not there: resgen trains alone"
        for p in f32 bf16; do step 60 "3-train-$p" train_alone "$p"; done
    fi
}

times() {
    local p
    for p in bf16 tf32; do step 40 "4-kernels-$p" kernels "$p"; done
    if [ "$device" = emulate ]; then
        skip 4-epoch "an epoch takes the emulator hours"
    else
        step 30 4-epoch epoch_time bf16
    fi
    for p in bf16 tf32; do
        if [ "$torch" = 1 ]; then
            step 110 "4-torch-$p" against_torch "$(patience 60)" "step-$p.json" "$p" \
                eager graph "compile --compile-mode=reduce-overhead"
        else
            skip "4-torch-$p" "PyTorch with a GPU is not there"
        fi
    done
}

notebooks() {
    local p
    if [ "$device" = emulate ]; then
        skip 5-notebook "twenty epochs take the emulator days"
    elif [ -z "$data" ]; then
        skip 5-notebook "CIFAR-10 is not there (GPU_CHECK_DATA)"
    else
        for p in bf16 tf32; do step 90 "5-notebook-$p" notebook "$p"; done
    fi
}

# Last, since it may take all the time that is left.
autotuned() {
    local p
    [ "$torch" = 1 ] || return
    for p in bf16 tf32; do
        step 170 "6-autotune-$p" against_torch "$(patience 130)" "autotune-$p.json" "$p" eager compile
    done
}

main() {
    local p
    start
    step 60 0-machine machine
    if ! timeout -k 2 20 "$program" --help >"$logs/0-program.log" 2>&1; then
        note 0-program failed 0 "$program does not run here: $(tail -n 1 "$logs/0-program.log")"
        return 1
    fi
    if [ "$device" != emulate ]; then
        find_nvrtc
        remember
        for p in $precisions; do step 60 "0-build-$p" build_kernels "$p" & done
        wait
        has_torch && torch=1
    fi
    right_and_clean
    as_pytorch
    times
    notebooks
    autotuned
    echo "$((SECONDS - began)) s; $out/summary.txt"
    ! grep -q $'\tfailed\t' "$work/steps"
}

torch=0
main
exit
