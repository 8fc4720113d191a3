/* Starts the system's C++ compiler: no shell, a private folder, output into a file there. */
#include "rg_emulate_compile.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rg_emulate_impl.h"

enum { MAX_ARGV = 96, MAX_LOG = 64 << 10, MAX_OBJECT = 64 << 20, PATH_ROOM = 1024 };

/* Loops are not to become calls of memset or memcpy, which no check would see. Aliasing is as nvcc
 * takes it. */
static const char *const flags[] = {"-std=c++17",
                                    "-O2",
                                    "-w",
                                    "-fPIC",
                                    "-shared",
                                    "-ffp-contract=off",
                                    "-fno-math-errno",
                                    "-fno-exceptions",
                                    "-fno-rtti",
                                    "-fno-strict-aliasing",
                                    "-fno-stack-protector",
                                    "-fno-tree-loop-distribute-patterns",
                                    "-fvisibility=hidden",
                                    "-DRG_EMULATE",
                                    "-nostdlib",
                                    "-Wl,--build-id=none",
                                    "-Wl,-Bsymbolic",
                                    "-include",
                                    "rg_emulate_prelude.h"};

/* The sanitizer's library is not linked: the prelude defines what the accesses call. */
static const char *const check_flags[] = {"-fno-sanitize=all", "-fsanitize=thread,alignment",
                                          "--param", "tsan-instrument-func-entry-exit=0"};

/* ---- the compiler ---- */

static bool is_program(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

static bool find_on_path(const char *name, char path[PATH_ROOM]) {
    const char *at = getenv("PATH");
    for (size_t length; at && *at; at += length + (at[length] == ':')) {
        length = strcspn(at, ":");
        int written = snprintf(path, PATH_ROOM, "%.*s/%s", (int)length, at, name);
        if (length > 0 && written < PATH_ROOM && is_program(path)) return true;
    }
    return false;
}

static bool find_compiler(char path[PATH_ROOM]) {
    const char *environment = getenv("CXX"), *name = rg_emu.option.cxx;
    if (!name && environment && *environment && !strpbrk(environment, " \t")) name = environment;
    if (!name) return find_on_path("g++", path) || find_on_path("c++", path);
    if (!strchr(name, '/')) return find_on_path(name, path);
    return snprintf(path, PATH_ROOM, "%s", name) < PATH_ROOM && is_program(path);
}

/* fma in one instruction where the machine has it; the bits are the same as the library's. */
static const char *machine_flag(void) {
#if defined __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "-march=x86-64-v3";
#endif
    return "-g0";
}

static void add_text(rg_text *text, const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++) rg_text_add(text, " %s", list[i]);
}

const char *rg_emu_nvrtc_identity(void) {
    static char identity[128];
    char path[PATH_ROOM], hex[33], prelude[33];
    struct stat info = {0};
    rg_text text = {0};
    bool found = find_compiler(path) && stat(path, &info) == 0;
    rg_hash_hex(rg_hash_bytes(rg_emu_prelude_text, rg_emu_prelude_bytes), prelude);
    rg_text_add(&text, "%s %jd %jd %s %s", found ? path : "", (intmax_t)info.st_size,
                (intmax_t)info.st_mtim.tv_sec, prelude, machine_flag());
    add_text(&text, flags, sizeof flags / sizeof *flags);
    if (!rg_emu.option.no_checks)
        add_text(&text, check_flags, sizeof check_flags / sizeof *check_flags);
    rg_hash_hex(rg_hash_bytes(text.data ? text.data : "", text.length), hex);
    rg_text_free(&text);
    snprintf(identity, sizeof identity, "emulate-%s", hex);
    return identity;
}

/* ---- files of the folder ---- */

static bool write_file(int folder, const char *name, const char *const *part, const size_t *bytes,
                       int parts) {
    int file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) return false;
    bool fine = true;
    for (int i = 0; i < parts; i++)
        for (size_t done = 0; fine && done < bytes[i];) {
            ssize_t wrote = write(file, part[i] + done, bytes[i] - done);
            fine = wrote > 0;
            done += fine ? (size_t)wrote : 0;
        }
    return close(file) == 0 && fine;
}

/* At most `limit` bytes of it. Owner: caller (free); NULL: it cannot be read. */
static char *read_file(int folder, const char *name, size_t limit, size_t *bytes) {
    struct stat info;
    int file = openat(folder, name, O_RDONLY | O_CLOEXEC);
    if (file < 0) return NULL;
    size_t size = fstat(file, &info) == 0 && info.st_size > 0 ? (size_t)info.st_size : 0;
    if (size > limit) size = limit;
    char *data = malloc(size + 1);
    size_t done = 0;
    while (data && done < size) {
        ssize_t got = read(file, data + done, size - done);
        if (got <= 0) break;
        done += (size_t)got;
    }
    close(file);
    *bytes = done;
    return data;
}

/* ---- one run ---- */

/* A text's name as a file's: its last part, of plain letters. */
static void file_name(const char *name, char text[64]) {
    const char *slash = strrchr(name, '/');
    snprintf(text, 60, "%s", slash ? slash + 1 : name);
    for (char *at = text; *at; at++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.", *at))
            *at = '_';
    if (text[0] == '.' || text[0] == '\0') text[0] = '_', text[1] = '\0';
}

static void make_argv(const rg_emu_compile_job *job, const char *compiler, const char *name,
                      const char *argv[MAX_ARGV]) {
    int count = 0;
    argv[count++] = compiler;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) argv[count++] = flags[i];
    for (size_t i = 0; job->checks && i < sizeof check_flags / sizeof *check_flags; i++)
        argv[count++] = check_flags[i];
    argv[count++] = machine_flag();
    for (int i = 0; i < job->defines; i++) argv[count++] = job->define[i];
    const char *const rest[] = {"-x",  "c++",   name, "-x",           "none", "-lm",
                                "-lc", "-lgcc", "-o", "rg_object.so", NULL};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) argv[count++] = rest[i];
}

/* 0, or an errno. */
static int spawn_in(const char *folder, const char *const *argv, char *const *environment,
                    pid_t *child) {
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);
    if (error) return error;
    error = posix_spawn_file_actions_addchdir_np(&actions, folder);
    if (!error) error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (!error)
        error = posix_spawn_file_actions_addopen(&actions, 1, "rg_log.txt",
                                                 O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (!error) error = posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (!error)
        error = posix_spawn(child, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv,
                            environment);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* The compiler sees what it needs, and nothing that could change what it makes. */
static bool run_compiler(const rg_emu_compile_job *job, const char *folder, const char *name,
                         rg_text *log) {
    char compiler[PATH_ROOM], path[PATH_ROOM + 8], temporary[PATH_ROOM + 8];
    const char *argv[MAX_ARGV], *search = getenv("PATH");
    pid_t child;
    int status = 0;
    if (!find_compiler(compiler)) {
        rg_text_add(log, "there is no C++ compiler for the emulator; install the Debian package "
                         "g++, or name one by CXX\n");
        return false;
    }
    make_argv(job, compiler, name, argv);
    snprintf(path, sizeof path, "PATH=%s", search ? search : "/usr/bin:/bin");
    snprintf(temporary, sizeof temporary, "TMPDIR=%s", folder);
    char *environment[] = {path, temporary, (char[]){"LC_ALL=C"}, NULL};
    int error = spawn_in(folder, argv, environment, &child);
    if (error) {
        rg_text_add(log, "cannot start '%s': %s\n", compiler, strerror(error));
        return false;
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool compile_in(const rg_emu_compile_job *job, const char *path, int folder, rg_text *log,
                       char **object, size_t *bytes) {
    char name[64];
    const char *text[] = {job->source}, *prelude[] = {rg_emu_prelude_text};
    size_t text_bytes[] = {job->source_bytes}, prelude_bytes[] = {rg_emu_prelude_bytes}, log_bytes;
    file_name(job->name, name);
    if (!write_file(folder, name, text, text_bytes, 1) ||
        !write_file(folder, "rg_emulate_prelude.h", prelude, prelude_bytes, 1)) {
        rg_text_add(log, "cannot write into '%s': %s\n", path, strerror(errno));
        return false;
    }
    bool fine = run_compiler(job, path, name, log);
    char *said = read_file(folder, "rg_log.txt", MAX_LOG, &log_bytes);
    if (said) rg_text_add_bytes(log, said, log_bytes);
    free(said);
    *object = fine ? read_file(folder, "rg_object.so", MAX_OBJECT, bytes) : NULL;
    const char *const made[] = {name, "rg_emulate_prelude.h", "rg_log.txt", "rg_object.so"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) unlinkat(folder, made[i], 0);
    return *object != NULL;
}

bool rg_emu_compile(const rg_emu_compile_job *job, rg_text *log, char **object, size_t *bytes) {
    const char *parent = getenv("TMPDIR");
    char path[PATH_ROOM];
    int written = snprintf(path, sizeof path, "%s/resgen-emulate-XXXXXX",
                           parent && parent[0] == '/' ? parent : "/tmp");
    if (written >= (int)sizeof path || !mkdtemp(path)) {
        rg_text_add(log, "cannot make a temporary folder: %s\n", strerror(errno));
        return false;
    }
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool fine = folder >= 0 && compile_in(job, path, folder, log, object, bytes);
    if (folder >= 0) close(folder);
    rmdir(path);
    return fine;
}
