# Shared by the scripts here; source it. Leaves the shell in the repository's root.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RG_PACKAGES="gcc libc6-dev cmake make libcmocka-dev libjansson-dev liblua5.4-dev libxxhash-dev"
RG_JOBS=$(nproc)

say() { printf '\n== %s\n' "$*"; }

# install_missing PACKAGE...: by apt, as root or with sudo; else says what is missing.
install_missing() {
    command -v dpkg-query >/dev/null || return 0 # another system: cmake says what it does not find
    local missing=() package sudo=
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    if [ -n "$sudo" ] && ! command -v sudo >/dev/null; then
        echo "missing packages; as root: apt-get install ${missing[*]}" >&2
        return 1
    fi
    say "installing ${missing[*]}"
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# configure FOLDER [CMAKE OPTION]...: cmake's output is shown where it fails.
configure() {
    local folder=$1
    shift
    mkdir -p "$folder"
    local log=$folder/configure.log
    cmake -S . -B "$folder" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DRG_WERROR=ON "$@" >"$log" 2>&1 ||
        { cat "$log" >&2; return 1; }
}

# The project's own C files.
c_files() {
    find runtime generator tests -name '*.[ch]' | sort
}
