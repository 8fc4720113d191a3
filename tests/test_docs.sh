#!/usr/bin/env bash
# Documents stay true: every command that they show runs, every file that they name exists, every diff still applies.
#   test_docs.sh SOURCE_DIR BINARY_DIR
#
# Commands are the lines of fenced `sh` blocks in README.md, docs/*.md and specs/README.md. They run in a scratch
# folder that looks like the repository, in order, document by document. For speed the reference network is
# replaced by the tiny one, training ends after three steps, and --data=DIR is the synthetic set. A line that ends
# in `# long: WHY` is not run; that its program exists is checked.
# A fenced `lua` block that holds a whole spec is read; fenced `diff` blocks must apply to the tree.
set -u
source_dir=$1 binary_dir=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

fail() {
    printf '%s\n' "$*" >&2
    failed=1
}

# blocks KIND FILE: "line<TAB>text" of each line in fenced blocks of that kind.
blocks() {
    awk -v kind="$1" '
        /^```/ { inside = !open && $0 == "```" kind; open = !open; next }
        inside { print FNR "\t" $0 }' "$2"
}

# The command as it is run here.
adapt() {
    local command=${1//resnet18_cifar.lua/tiny/tiny_residual.lua}
    command=${command//--data=DIR/--data=synthetic}
    case $command in *"resgen train "*) command+=" --steps=3" ;; esac
    printf '%s\n' "$command"
}

run_command() {
    local place=$1 command
    command=$(adapt "$2")
    ran=$((ran + 1))
    (cd "$scratch" && timeout 120 bash -euc "$command") >"$scratch/output" 2>&1 && return
    fail "$place: failed: $2"
    tail -n 20 "$scratch/output" >&2
}

check_program() {
    local place=$1 program=${2%% *}
    case $program in
    scripts/* | tests/*) [ -x "$source_dir/$program" ] || fail "$place: no program $program" ;;
    *) command -v "$program" >/dev/null || [ -x "$scratch/$program" ] || fail "$place: no program $program" ;;
    esac
}

check_commands() {
    local file=$1 line text
    while IFS=$'\t' read -r line text; do
        case $text in
        '' | '#'*) ;;
        *'# long:'*) check_program "$file:$line" "$text" ;;
        *) run_command "$file:$line" "$text" ;;
        esac
    done < <(blocks sh "$source_dir/$file")
}

# Paths in backticks whose first folder is one of ours.
check_paths() {
    local file=$1 path
    while read -r path; do
        compgen -G "$source_dir/$path" >/dev/null || fail "$file: there is no $path"
    done < <(grep -oE '`(generator|runtime|templates|tests|specs|scripts|docs|bench|cmake)/[A-Za-z0-9_./*-]*`' "$source_dir/$file" |
        tr -d '`' | sort -u)
}

# README.md lists the options that the program has, and no others.
check_options() {
    diff <("$binary_dir/resgen" --help | grep -oE -- '--[a-z-]+' | sort -u) \
        <(grep -oE -- '--[a-z-]+' "$source_dir/README.md" | grep -v '^--*$' | sort -u) >"$scratch/output" && return
    fail "README.md: options (<: missing there, >: not in --help)"
    cat "$scratch/output" >&2
}

check_diff() {
    local file=$1
    blocks diff "$source_dir/$file" | cut -f 2- >"$scratch/patch"
    [ -s "$scratch/patch" ] || return
    git apply --check -R -C1 "$scratch/patch" 2>/dev/null && return # whoever follows the document has applied them
    git apply --check -C1 "$scratch/patch" || fail "$file: its diffs no longer apply"
}

# A lua block with a whole spec is one: each block in a file of its own, beside the specs whose libraries it uses.
check_specs() {
    local file=$1 spec
    awk -v to="$scratch/specs/shown" '
        /^```/ { inside = !open && $0 == "```lua"; open = !open; number++; next }
        inside { print > (to number ".lua") }' "$source_dir/$file"
    for spec in $(grep -l '^function network' "$scratch"/specs/shown*.lua 2>/dev/null); do
        run_command "$file: the spec shown" "build/resgen specs/${spec##*/} --dump=infer"
    done
    rm -f "$scratch"/specs/shown*.lua
}

cp -r "$source_dir/specs" "$scratch/specs"
for folder in scripts templates tests generator runtime; do ln -s "$source_dir/$folder" "$scratch/$folder"; done
ln -s "$binary_dir" "$scratch/build"
mkdir "$scratch/home"
# Built kernels are kept beside the build; threads that wait give the processor to others.
export XDG_CACHE_HOME=$binary_dir/docs-cache OMP_WAIT_POLICY=passive RG_CIFAR10_DIR=
unset GIT_DIR
mkdir -p "$XDG_CACHE_HOME"

cd "$source_dir" || exit 1
ran=0
for file in README.md docs/*.md specs/README.md; do
    check_commands "$file"
    check_paths "$file"
    check_specs "$file"
    command -v git >/dev/null && check_diff "$file"
done
check_options
[ "$ran" -gt 0 ] || fail "no command was found in the documents"
echo "$ran commands ran"
exit "$failed"
