/* The system's C compiler: where it is, what tells it from another, how it is called. */
#include "rg_cpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_ARGV = 24 };

static bool is_program(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

/* A name is looked for on the PATH, anything with a slash is taken as it is. *found is NULL where
 * there is none. */
static rg_status find_program(rg_ctx *ctx, const char *name, const char **found) {
    *found = strchr(name, '/') && is_program(name) ? name : NULL;
    if (strchr(name, '/')) return RG_OK;
    const char *at = getenv("PATH");
    for (size_t length; at && *at; at += length + (at[length] == ':')) {
        length = strcspn(at, ":");
        char *path = rg_arena_printf(ctx->arena, "%.*s/%s", (int)length, at, name);
        if (!path) return rg_nomem(ctx);
        if (length == 0 || !is_program(path))
            continue; /* an empty entry would be the current folder */
        *found = path;
        return RG_OK;
    }
    return RG_OK;
}

static rg_status find_path(rg_ctx *ctx, const rg_cpu_options *options, rg_cpu_compiler *compiler,
                           const char **note) {
    const char *name = options->cc, *from_env = getenv("CC");
    if (!name && from_env && *from_env) {
        name = from_env;
        if (strpbrk(from_env, " \t")) {
            *note = rg_arena_printf(
                ctx->arena, "CC='%s' is not a plain name; kernels are built with cc", from_env);
            if (!*note) return rg_nomem(ctx);
            name = NULL;
        }
    }
    if (!name) name = "cc";
    RG_TRY(find_program(ctx, name, &compiler->path));
    if (compiler->path) return RG_OK;
    return rg_fail(ctx, RG_E_BUILD,
                   "there is no C compiler '%s'; install the Debian package gcc, or name one by CC",
                   name);
}

/* Children see what a compiler needs and nothing that could change its output behind the cache's
 * back. */
static rg_status make_environment(rg_ctx *ctx, rg_cpu_compiler *compiler) {
    static const char *const kept[] = {"PATH", "HOME", "LD_LIBRARY_PATH"};
    int count = 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        const char *value = getenv(kept[i]);
        if (!value) continue;
        if (!(compiler->envp[count++] = rg_arena_printf(ctx->arena, "%s=%s", kept[i], value)))
            return rg_nomem(ctx);
    }
    compiler->envp[count] = rg_arena_strdup(ctx->arena, "LC_ALL=C");
    compiler->env_count = count + 1;
    return compiler->envp[count] ? RG_OK : rg_nomem(ctx);
}

rg_status rg_cpu_compiler_temporary(rg_ctx *ctx, rg_cpu_compiler *compiler, const char *folder) {
    char *entry = rg_arena_printf(ctx->arena, "TMPDIR=%s", folder);
    compiler->envp[compiler->env_count] = entry;
    return entry ? RG_OK : rg_nomem(ctx);
}

/* Flags that shape an object. Returns the new count; `argv` has room for MAX_ARGV. */
static int add_flags(const rg_cpu_options *options, char **argv, int count) {
    static char *const level[] = {"-O0", "-O1", "-O2", "-O3"};
    bool wide = strcmp(options->isa, "avx512") == 0;
    argv[count++] = options->sanitize ? "-O1" : level[options->optimise & 3];
    argv[count++] = "-std=gnu11";
    argv[count++] = wide ? "-march=x86-64-v4" : "-march=x86-64-v3";
    if (wide) argv[count++] = "-mprefer-vector-width=512";
    argv[count++] = "-ffp-contract=off";
    argv[count++] = "-fno-math-errno";
    argv[count++] = "-fPIC";
    argv[count++] = "-shared";
    argv[count++] = "-w";
    if (options->sanitize) {
        argv[count++] = "-g";
        argv[count++] = "-fsanitize=address,undefined";
        argv[count++] = "-fno-sanitize-recover=all";
    }
    return count;
}

/* Path, size, time of change and version line of the compiler, and the flags. */
static rg_status describe(rg_ctx *ctx, const rg_cpu_options *options, rg_cpu_compiler *compiler,
                          const char *version) {
    struct stat info;
    char *argv[MAX_ARGV] = {NULL};
    rg_text text = {0};
    if (stat(compiler->path, &info) != 0)
        return rg_fail(ctx, RG_E_BUILD, "cannot look at '%s'", compiler->path);
    rg_text_add(&text, "%s %jd %jd.%ld %.*s", compiler->path, (intmax_t)info.st_size,
                (intmax_t)info.st_mtim.tv_sec, info.st_mtim.tv_nsec, (int)strcspn(version, "\n"),
                version);
    int count = add_flags(options, argv, 0);
    for (int i = 0; i < count; i++) rg_text_add(&text, " %s", argv[i]);
    compiler->identity = text.failed ? NULL : rg_arena_strdup(ctx->arena, text.data);
    rg_text_free(&text);
    return compiler->identity ? RG_OK : rg_nomem(ctx);
}

rg_status rg_cpu_compiler_find(rg_ctx *ctx, const rg_cpu_options *options,
                               rg_cpu_compiler *compiler, const char **note, int *signal) {
    RG_TRY(find_path(ctx, options, compiler, note));
    RG_TRY(make_environment(ctx, compiler));
    char *argv[] = {(char *)compiler->path, "--version", NULL};
    rg_cpu_job job = {.argv = argv, .envp = compiler->envp};
    rg_status status = rg_cpu_run(ctx, &job, 1, 1, NULL, NULL, signal);
    if (status == RG_OK && job.exit_code != 0)
        status = rg_fail(ctx, RG_E_BUILD,
                         "'%s --version' failed: is it a C compiler? (Debian package gcc)",
                         compiler->path);
    if (status == RG_OK)
        status = describe(ctx, options, compiler, job.output.data ? job.output.data : "");
    rg_text_free(&job.output);
    return status;
}

rg_status rg_cpu_compiler_job(rg_ctx *ctx, rg_cpu_compiler *compiler, const rg_cpu_options *options,
                              char *input, char *output, rg_cpu_job *job) {
    char **argv = RG_NEW_ARRAY(ctx->arena, char *, MAX_ARGV);
    if (!argv) return rg_nomem(ctx);
    argv[0] = (char *)compiler->path;
    int count = add_flags(options, argv, 1);
    argv[count++] = "-o";
    argv[count++] = output;
    argv[count] = input;
    *job = (rg_cpu_job){.argv = argv, .envp = compiler->envp};
    return RG_OK;
}
