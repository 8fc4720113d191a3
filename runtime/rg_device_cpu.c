/* Builds emitted C with the system's compiler and loads it. */
#include "rg_device_cpu.h"

#include "rg_cpu.h"

#include <dlfcn.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct rg_cpu_library {
    int count;
    void **handle;
    char *private_folder; /* objects that are not kept; or NULL */
};

/* One distinct object. */
typedef struct cpu_object {
    char hash[33];
    const rg_cpu_source *source;
    bool missing; /* must be compiled */
    void *handle;
} cpu_object;

/* What one call of rg_cpu_build works with. */
typedef struct cpu_build {
    rg_ctx *ctx;
    const rg_cpu_options *options;
    rg_cpu_compiler compiler;
    char *folder; /* sources and fresh objects: private, removed at the end; NULL before it is
                     needed */
    const char *cache;
    cpu_object *object;
    int *object_of; /* source i -> object */
    int object_count, missing, done;
    cpu_object **job_object;
    int signal; /* raised again at the end */
} cpu_build;

/* ---- the machine ---- */

static bool has_isa(const char *isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    if (strcmp(isa, "avx2") == 0) return avx2;
    if (strcmp(isa, "avx512") == 0)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
#else
    (void)isa;
#endif
    return false;
}

const char *rg_cpu_native_isa(void) {
    return has_isa("avx512") ? "avx512" : has_isa("avx2") ? "avx2" : NULL;
}

static int processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

static double now_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* ---- which objects there are to be ---- */

static bool is_symbol(const char *text) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    return *text && text[strspn(text, allowed)] == 0 && strlen(text) < 200;
}

static rg_status object_hash(cpu_build *build, const rg_cpu_source *source, char hash[33]) {
    rg_text text = {0};
    rg_text_add(&text, "%s\n%s\n%s\n", build->compiler.identity, source->key, source->source);
    rg_status status = text.failed ? rg_nomem(build->ctx) : RG_OK;
    if (status == RG_OK) rg_hash_hex(rg_hash_bytes(text.data, text.length), hash);
    rg_text_free(&text);
    return status;
}

static rg_status list_objects(cpu_build *build, const rg_cpu_source *source, int count) {
    rg_arena *arena = build->ctx->arena;
    build->object = RG_NEW_ARRAY(arena, cpu_object, count + 1);
    build->object_of = RG_NEW_ARRAY(arena, int, count + 1);
    if (!build->object || !build->object_of) return rg_nomem(build->ctx);
    for (int i = 0; i < count; i++) {
        if (!is_symbol(source[i].symbol))
            return rg_fail(build->ctx, RG_E_BUILD, "kernel %d: its symbol is not a C name", i);
        cpu_object *fresh = &build->object[build->object_count];
        RG_TRY(object_hash(build, &source[i], fresh->hash));
        int at = 0;
        while (strcmp(build->object[at].hash, fresh->hash) != 0) at++;
        build->object_of[i] = at;
        if (at < build->object_count) continue;
        fresh->source = &source[i];
        fresh->missing = !rg_cpu_cache_has(build->cache, fresh->hash);
        build->missing += fresh->missing;
        build->object_count++;
    }
    return RG_OK;
}

/* ---- compiling ---- */

/* A plain write: the folder is private and short-lived, so that nothing need be atomic. */
static rg_status write_source(rg_ctx *ctx, const char *path, const char *text) {
    FILE *file = fopen(path, "wxe");
    bool good = file && fputs(text, file) >= 0;
    if (file && fclose(file) != 0) good = false;
    return good ? RG_OK : rg_fail(ctx, RG_E_IO, "cannot write '%s'", path);
}

static rg_status make_job(cpu_build *build, const cpu_object *object, rg_cpu_job *job) {
    rg_arena *arena = build->ctx->arena;
    char *input = rg_arena_printf(arena, "%s/%s.c", build->folder, object->hash);
    char *output = rg_arena_printf(arena, "%s/%s.so", build->folder, object->hash);
    if (!input || !output) return rg_nomem(build->ctx);
    RG_TRY(write_source(build->ctx, input, object->source->source));
    return rg_cpu_compiler_job(build->ctx, &build->compiler, build->options, input, output, job);
}

static void on_finished(void *user, rg_cpu_job *job) {
    cpu_build *build = user;
    (void)job;
    build->done++;
    if (build->options->progress)
        build->options->progress(build->options->user, build->done, build->missing);
}

/* The first line with "error" of what a compiler said, else its first line; without the name of the
 * temporary file. */
static const char *error_line(rg_arena *arena, const rg_cpu_job *job, const char *hash) {
    const char *text = job->output.data ? job->output.data : "";
    const char *error = strstr(text, "error: "), *line = error ? error : text;
    while (line > text && line[-1] != '\n') line--;
    int length = (int)strcspn(line, "\n");
    if (length == 0) return rg_arena_printf(arena, "it ended with code %d", job->exit_code);
    const char *name = strstr(line, hash), *place = name ? name + strlen(hash) : NULL;
    if (place && place < line + length && strncmp(place, ".c:", 3) == 0)
        return rg_arena_printf(arena, "line %.*s", (int)(line + length - place) - 3, place + 3);
    return rg_arena_printf(arena, "%.*s", length, line);
}

static rg_status report_failure(cpu_build *build, const rg_cpu_job *job) {
    for (int i = 0; i < build->missing; i++) {
        if (job[i].exit_code <= 0) continue;
        const cpu_object *object = build->job_object[i];
        const char *line = error_line(build->ctx->arena, &job[i], object->hash);
        if (!line) return rg_nomem(build->ctx);
        return rg_fail(build->ctx, RG_E_BUILD, "cannot compile kernel '%s': %s",
                       object->source->symbol, line);
    }
    return RG_OK;
}

static rg_status publish(cpu_build *build) {
    for (int i = 0; i < build->missing; i++) {
        const char *hash = build->job_object[i]->hash;
        char *built = rg_arena_printf(build->ctx->arena, "%s/%s.so", build->folder, hash);
        if (!built) return rg_nomem(build->ctx);
        RG_TRY(rg_cpu_cache_put(build->ctx, build->cache, hash, built));
    }
    return RG_OK;
}

static rg_status compile_missing(cpu_build *build) {
    rg_ctx *ctx = build->ctx;
    if (build->missing == 0) return RG_OK;
    RG_TRY(rg_cpu_folder_new(ctx, &build->folder));
    RG_TRY(rg_cpu_compiler_temporary(ctx, &build->compiler, build->folder));
    rg_cpu_job *job = RG_NEW_ARRAY(ctx->arena, rg_cpu_job, build->missing);
    build->job_object = RG_NEW_ARRAY(ctx->arena, cpu_object *, build->missing);
    if (!job || !build->job_object) return rg_nomem(ctx);
    for (int i = 0, at = 0; i < build->object_count; i++) {
        if (!build->object[i].missing) continue;
        RG_TRY(make_job(build, &build->object[i], &job[at]));
        build->job_object[at++] = &build->object[i];
    }
    int jobs = build->options->jobs > 0 ? build->options->jobs : processors();
    rg_status status =
        rg_cpu_run(ctx, job, build->missing, jobs, on_finished, build, &build->signal);
    if (status == RG_OK) status = report_failure(build, job);
    for (int i = 0; i < build->missing; i++) rg_text_free(&job[i].output);
    return status == RG_OK ? publish(build) : status;
}

/* ---- loading ---- */

static rg_status load_objects(cpu_build *build, rg_cpu_library *library) {
    for (int i = 0; i < build->object_count; i++) {
        cpu_object *object = &build->object[i];
        char *path = rg_arena_printf(build->ctx->arena, "%s/%s.so", build->cache, object->hash);
        if (!path) return rg_nomem(build->ctx);
        object->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!object->handle)
            return rg_fail(build->ctx, RG_E_BUILD, "cannot load kernel '%s': %s",
                           object->source->symbol, dlerror());
        library->handle[library->count++] = object->handle;
    }
    return RG_OK;
}

static rg_status find_kernels(cpu_build *build, const rg_cpu_source *source, int count,
                              rg_cpu_kernel *kernel) {
    for (int i = 0; i < count; i++) {
        void *found = dlsym(build->object[build->object_of[i]].handle, source[i].symbol);
        if (!found)
            return rg_fail(build->ctx, RG_E_BUILD, "the object of kernel '%s' has no such function",
                           source[i].symbol);
        memcpy(&kernel[i], &found, sizeof found); /* ISO C has no cast from object to function */
    }
    return RG_OK;
}

static rg_cpu_library *library_new(int count) {
    rg_cpu_library *library = calloc(1, sizeof *library);
    if (!library) return NULL;
    library->handle = calloc((size_t)count + 1, sizeof *library->handle);
    if (library->handle) return library;
    free(library);
    return NULL;
}

void rg_cpu_close(rg_cpu_library *library) {
    if (!library) return;
    for (int i = 0; i < library->count; i++) dlclose(library->handle[i]);
    if (library->private_folder) rg_cpu_folder_remove(library->private_folder);
    free(library->private_folder);
    free(library->handle);
    free(library);
}

/* ---- all of it ---- */

static rg_status check_options(rg_ctx *ctx, const rg_cpu_options *options) {
    if (strcmp(options->isa, "avx2") != 0 && strcmp(options->isa, "avx512") != 0)
        return rg_fail(ctx, RG_E_USAGE, "there is no instruction set '%s': avx2 or avx512",
                       options->isa);
    if (!has_isa(options->isa))
        return rg_fail(ctx, RG_E_UNSUPPORTED, "this processor has no %s", options->isa);
    if (options->optimise < 0 || options->optimise > 3)
        return rg_fail(ctx, RG_E_USAGE, "optimisation level %d: must be 0 to 3", options->optimise);
    /* The sanitizer's library ends a process into which it is loaded late. */
    if (options->sanitize && !dlsym(RTLD_DEFAULT, "__asan_init"))
        return rg_fail(ctx, RG_E_UNSUPPORTED,
                       "sanitized kernels need a program built with RG_SANITIZE=address,undefined");
    return RG_OK;
}

static rg_status open_cache(cpu_build *build, rg_cpu_stats *stats, rg_cpu_library *library) {
    bool temporary;
    RG_TRY(rg_cpu_cache_open(build->ctx, build->options->cache_dir, &build->cache, &temporary,
                             &stats->note));
    stats->cache_dir = build->cache;
    if (!temporary) return RG_OK;
    library->private_folder = strdup(build->cache);
    if (library->private_folder) return RG_OK;
    rg_cpu_folder_remove(build->cache);
    return rg_nomem(build->ctx);
}

static rg_status build_all(cpu_build *build, const rg_cpu_source *source, int count,
                           rg_cpu_kernel *kernel, rg_cpu_stats *stats, rg_cpu_library *library) {
    RG_TRY(check_options(build->ctx, build->options));
    RG_TRY(rg_cpu_compiler_find(build->ctx, build->options, &build->compiler, &stats->note,
                                &build->signal));
    RG_TRY(open_cache(build, stats, library));
    RG_TRY(list_objects(build, source, count));
    RG_TRY(compile_missing(build));
    RG_TRY(load_objects(build, library));
    stats->compiled = build->missing;
    stats->cached = build->object_count - build->missing;
    return find_kernels(build, source, count, kernel);
}

rg_status rg_cpu_build(rg_ctx *ctx, const rg_cpu_source *source, int count,
                       const rg_cpu_options *options, rg_cpu_kernel *kernel, rg_cpu_stats *stats,
                       rg_cpu_library **library) {
    double start = now_seconds();
    cpu_build build = {.ctx = ctx, .options = options};
    *stats = (rg_cpu_stats){0};
    *library = library_new(count);
    if (!*library) return rg_nomem(ctx);
    rg_status status = build_all(&build, source, count, kernel, stats, *library);
    if (build.folder) rg_cpu_folder_remove(build.folder);
    stats->seconds = now_seconds() - start;
    if (status != RG_OK) {
        rg_cpu_close(*library);
        *library = NULL;
    }
    if (build.signal) raise(build.signal);
    return status;
}
