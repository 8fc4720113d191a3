#!/usr/bin/env bash
# NVRTC compiles the kernels of every spec, precision and architecture: no spill, no local memory. nvcc compiles the
# emitted files as they are, and its PTX holds what their text promises.
#   test_cuda_all.sh SOURCE_DIR BINARY_DIR
#
# Without NVRTC it is skipped. By default a part is compiled: one tiny spec, all precisions, two architectures.
#   RG_CUDA_ALL=1        everything (half an hour on two cores)
#   RG_CUDA_TABLE=FILE   leaves the table there as well
set -u
source_dir=$1 program=$2/resgen
work=$2/cuda-all
mkdir -p "$work"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
failed=0
skip=77 # ctest is told

if [ "${RG_CUDA_ALL:-0}" = 1 ]; then
    specs=("$source_dir"/specs/*.lua "$source_dir"/specs/tiny/*.lua)
    archs=(75 80 86 89 90 100 120)
else
    specs=("$source_dir/specs/tiny/tiny_residual.lua")
    archs=(80 90)
fi
table=${RG_CUDA_TABLE:-$out/table.txt}

fail() {
    printf '%s\n' "$*"
    failed=1
}

# compile SPEC PRECISION ARCH: sources in $out/kernels, resgen's words in $out/log.
compile() {
    rm -rf "$out/kernels"
    timeout 600 "$program" "$1" --target=cuda --arch="sm_$3" --precision="$2" --cache="$work/cache" \
        --out="$out/kernels" >"$out/log" 2>&1
}

# The columns of resgen's table: launches threads registers shared stack spills blocks occupancy % kernel.
summary() {
    awk -v spec="$1" -v precision="$2" -v arch="sm_$3" '
        $10 ~ /^rg_/ && NF == 10 {
            kernels++
            if ($3 > registers) registers = $3
            if ($4 > shared) shared = $4
            if ($5 > 0 || $6 > 0) { spilling++; print "spills: " $5 " bytes of stack, " $6 " spilled: " $10 > "/dev/stderr" }
        }
        END { printf "%-16s %-9s %-7s %7d %9d %9d %8d\n", spec, precision, arch, kernels, registers, shared, spilling + 0
              exit !kernels || spilling > 0 }' "$out/log"
}

# Everything that a precision and an architecture can be together.
fits() {
    [ "$2" -ge 80 ] || [ "$1" = f32 ] || [ "$1" = f16 ]
}

check_all() {
    local spec precision arch name
    printf '%-16s %-9s %-7s %7s %9s %9s %8s\n' spec precision arch kernels registers shared spilling
    for spec in "${specs[@]}"; do
        name=$(basename "$spec" .lua)
        for precision in f32 tf32 bf16 f16; do
            for arch in "${archs[@]}"; do
                fits "$precision" "$arch" || continue
                if ! compile "$spec" "$precision" "$arch"; then
                    fail "$name, $precision, sm_$arch: $(grep -m 1 error "$out/log" || tail -n 1 "$out/log")"
                else
                    summary "$name" "$precision" "$arch" || fail "$name, $precision, sm_$arch: see above"
                fi
            done
        done
    done
}

# ---- the same files by nvcc ----

# one_of_each FOLDER: the first file of each kind of kernel.
one_of_each() {
    local file kind
    for file in "$1"/*.cu; do
        kind=$(basename "$file")
        printf '%s %s\n' "${kind%%__*}" "$file"
    done | sort -u -k 1,1 | cut -d ' ' -f 2
}

# promised FILE WHAT-THE-TEXT-CALLS WHAT-PTX-MUST-HOLD
promised() {
    grep -qE "$2" "$1.body" || return 0
    grep -qE "$3" "$1.ptx" || fail "$(basename "$1"): calls $2, its PTX has no $3"
    promises=$((promises + 1))
}

# A block counts between two fences, M A M: no test runs them, the emulator has a rg_last_block of its own.
fenced() {
    local order
    order=$(grep -oE 'membar\.gl|atom\.global\.inc' "$1.ptx" | sed 's/^a.*/A/; s/^m.*/M/' | tr -d '\n')
    grep -q 'rg_last_block(' "$1.body" || return 0
    [[ $order =~ ^(MAM)+$ ]] || fail "$(basename "$1"): its counts and fences are '$order'"
    promises=$((promises + 1))
}

check_ptx() {
    # What the kernel itself does, below the prelude.
    awk '/^RG_DEVICE void [a-z_]+[0-9]*\(.*const (float|rg_u16) \*(a|from|xs)/ || /^RG_KERNEL/ { body = 1 } body' "$1" >"$1.body"
    promised "$1" 'rg_mma_bf16\(' 'mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.bf16'
    promised "$1" 'rg_mma_f16\(' 'mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.f16'
    promised "$1" 'rg_mma_tf32\(' 'mma\.sync\.aligned\.m16n8k8\.row\.col\.f32\.tf32'
    promised "$1" 'rg_ldmatrix[24]\(' 'ldmatrix\.sync\.aligned\.m8n8\.x[24]\.shared'
    promised "$1" 'rg_ldmatrix[24]_trans\(' 'ldmatrix\.sync\.aligned\.m8n8\.x[24]\.trans\.shared'
    promised "$1" 'rg_cp_async16' 'cp\.async\.cg\.shared\.global'
    promised "$1" 'rg_load4\(e[a-z]' 'ld\.global(\.nc)?\.v4'
    promised "$1" 'rg_put4\(' 'st\.global\.v4'
    fenced "$1"
    grep -qE '(^|[[:space:]])(atom|red)\..*\.(f16|bf16|f32|f64)' "$1.ptx" &&
        fail "$(basename "$1"): an atomic operation on floats"
    return 0
}

check_nvcc() {
    local nvcc=$1 precision file
    promises=0
    for precision in f32 tf32 bf16 f16; do
        compile "$source_dir/specs/tiny/tiny_residual.lua" "$precision" 90 || { fail "no sources in $precision"; continue; }
        for file in $(one_of_each "$out/kernels"); do
            if "$nvcc" -arch=sm_90 -std=c++17 -fmad=false -ptx -o "$file.ptx" "$file" >"$out/nvcc.log" 2>&1; then
                check_ptx "$file"
            else
                fail "nvcc, $(basename "$file"): $(head -n 3 "$out/nvcc.log")"
            fi
            files=$((files + 1))
        done
    done
    echo "nvcc compiled $files files as they are; $promises promises held by their PTX"
}

# ---- what is there ----

if ! compile "$source_dir/specs/tiny/mlp.lua" f32 90 && grep -qi nvrtc "$out/log"; then
    echo "skipped: $(grep -i -m 1 nvrtc "$out/log")"
    exit $skip
fi
check_all 2>&1 | tee "$table"
grep -q -e '^spills' -e ': ' "$table" && failed=1

files=0
nvcc=$(command -v nvcc || ls "${CUDA_PATH:-/nowhere}/bin/nvcc" "${CUDA_HOME:-/nowhere}/bin/nvcc" /usr/local/cuda/bin/nvcc 2>/dev/null | head -n 1)
if [ -n "$nvcc" ]; then
    check_nvcc "$nvcc"
else
    echo "nvcc is not installed: that it compiles the files, and their PTX, is not checked"
fi
exit $failed
