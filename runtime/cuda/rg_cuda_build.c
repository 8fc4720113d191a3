/* Sources to cubins: NVRTC in parallel threads, and the cache. */
#include "rg_cache.h"
#include "rg_cuda.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MAX_THREADS = 64,
    HEADER_BYTES = 64, /* of a cache entry; the cubin after it stays aligned */
    MAX_OPTIONS = 6,
    OPTION_BYTES = 48,
};

static const char ending[] = ".cubin";

/* One distinct kernel. What a thread makes is the thread's own memory until it has been taken. */
typedef struct cuda_job {
    const rg_cuda_source *source;
    char hash[33];
    bool missing;
    rg_cuda_object object;
    char *cubin, *log, *trouble; /* Owner: malloc. log NULL: it could not be read */
    size_t cubin_bytes;
    bool keep;        /* the cache is to take it */
    bool unkept;      /* and did not */
    char *unkept_why; /* Owner: malloc; NULL: no memory for the text */
} cuda_job;

typedef struct cuda_build {
    rg_ctx *ctx;
    const rg_cuda_api *api;
    const rg_cuda_build_options *options;
    char text[MAX_OPTIONS][OPTION_BYTES];
    const char *option[MAX_OPTIONS];
    int option_count;
    int major, minor; /* of NVRTC */
    const char *nvrtc;
    const char *cache; /* NULL: nothing is kept */
    const char *note;  /* one line for the user, or NULL */
    cuda_job *job;
    int *job_of; /* source i -> job */
    int job_count, missing;
    int unread; /* compiled, without the compiler's log: never kept */
    /* shared by the threads, under the lock */
    pthread_mutex_t lock;
    int next, done;
    bool failed;
    bool full; /* the cache has refused an entry: it is given no more */
} cuda_build;

/* ---- options and keys ---- */

static void add_option(cuda_build *build, const char *text, int number) {
    char *at = build->text[build->option_count];
    snprintf(at, OPTION_BYTES, text, number);
    build->option[build->option_count++] = at;
}

/* Contraction is off so that the emulator, the host and the device give the same bits; fmaf is
 * written where it is meant. */
static void make_options(cuda_build *build) {
    add_option(build, "--gpu-architecture=sm_%d", build->options->arch);
    add_option(build, "--std=c++%d", 17);
    add_option(build, "--fmad=false", 0);
    add_option(build, "--ptxas-options=-v", 0);
}

static rg_status ask_version(cuda_build *build) {
    rg_nvrtc_result result = build->api->nvrtc.version(&build->major, &build->minor);
    if (result != RG_NVRTC_SUCCESS)
        return rg_fail(build->ctx, RG_E_BUILD, "nvrtcVersion: %s",
                       build->api->nvrtc.error_string(result));
    build->nvrtc = rg_arena_printf(build->ctx->arena, "%d.%d, %s", build->major, build->minor,
                                   build->api->nvrtc_place);
    return build->nvrtc ? RG_OK : rg_nomem(build->ctx);
}

static rg_status job_hash(cuda_build *build, const char *source, char hash[33]) {
    const char *identity = build->api->nvrtc_identity;
    rg_text text = {0};
    rg_text_add(&text, "nvrtc %d.%d %s", build->major, build->minor, identity ? identity : "");
    for (int i = 0; i < build->option_count; i++) rg_text_add(&text, " %s", build->option[i]);
    rg_text_add(&text, "\n%s", source);
    rg_status status = text.failed ? rg_nomem(build->ctx) : RG_OK;
    if (status == RG_OK) rg_hash_hex(rg_hash_bytes(text.data, text.length), hash);
    rg_text_free(&text);
    return status;
}

/* ---- cache entries: a line of the report's numbers, then the cubin ---- */

static const char entry_format[] = "resgen cubin 1: %d %d %d %d %d %d\n";

static bool read_entry(cuda_build *build, cuda_job *job) {
    char *data;
    size_t length;
    rg_cuda_report *r = &job->object.report;
    if (!build->cache ||
        !rg_cache_get(build->ctx->arena, build->cache, job->hash, ending, &data, &length) ||
        length <= HEADER_BYTES)
        return false;
    int known = 0;
    if (sscanf(data, entry_format, &known, &r->registers, &r->shared_bytes, &r->stack_bytes,
               &r->spill_store_bytes, &r->spill_load_bytes) != 6)
        return false;
    r->known = known;
    job->object.cubin = data + HEADER_BYTES;
    job->object.bytes = length - HEADER_BYTES;
    return true;
}

static rg_status write_entry(rg_ctx *ctx, const char *cache, const cuda_job *job) {
    const rg_cuda_report *r = &job->object.report;
    char header[HEADER_BYTES + 1] = "";
    snprintf(header, sizeof header, entry_format, (int)r->known, r->registers, r->shared_bytes,
             r->stack_bytes, r->spill_store_bytes, r->spill_load_bytes);
    rg_text entry = {0};
    rg_text_add_bytes(&entry, header, HEADER_BYTES);
    rg_text_add_bytes(&entry, job->cubin, job->cubin_bytes);
    rg_status status = entry.failed
                           ? rg_nomem(ctx)
                           : rg_cache_put(ctx, cache, job->hash, ending, entry.data, entry.length);
    rg_text_free(&entry);
    return status;
}

/* ---- which kernels there are to be ---- */

static rg_status list_jobs(cuda_build *build, const rg_cuda_source *source, int count) {
    rg_arena *arena = build->ctx->arena;
    build->job = RG_NEW_ARRAY(arena, cuda_job, count + 1);
    build->job_of = RG_NEW_ARRAY(arena, int, count + 1);
    if (!build->job || !build->job_of) return rg_nomem(build->ctx);
    for (int i = 0; i < count; i++) {
        cuda_job *fresh = &build->job[build->job_count];
        RG_TRY(job_hash(build, source[i].source, fresh->hash));
        int at = 0;
        while (strcmp(build->job[at].hash, fresh->hash) != 0) at++;
        build->job_of[i] = at;
        if (at < build->job_count) continue;
        fresh->source = &source[i];
        fresh->missing = !read_entry(build, fresh);
        build->missing += fresh->missing;
        build->job_count++;
    }
    return RG_OK;
}

/* ---- compiling and keeping: in the threads; nothing here touches ctx or its arena ---- */

static char *failure(const rg_cuda_api *api, const char *call, rg_nvrtc_result result) {
    char text[256];
    snprintf(text, sizeof text, "%s: %s", call, api->nvrtc.error_string(result));
    return strdup(text);
}

/* The first line with "error" of what the compiler said, else its first line. */
static char *error_line(const char *log) {
    const char *error = strstr(log, "error"), *line = error ? error : log;
    while (line > log && line[-1] != '\n') line--;
    size_t length = strcspn(line, "\n");
    return length ? strndup(line, length) : strdup("the compiler said nothing");
}

static void take_log(const rg_cuda_api *api, rg_nvrtc_program program, cuda_job *job) {
    size_t bytes = 0;
    if (api->nvrtc.log_size(program, &bytes) != RG_NVRTC_SUCCESS) return;
    job->log = calloc(bytes + 1, 1);
    if (!job->log || bytes == 0 || api->nvrtc.log(program, job->log) == RG_NVRTC_SUCCESS) return;
    free(job->log);
    job->log = NULL;
}

/* NULL: done; else what went wrong. */
static char *take_cubin(const rg_cuda_api *api, rg_nvrtc_program program, cuda_job *job) {
    rg_nvrtc_result result = api->nvrtc.cubin_size(program, &job->cubin_bytes);
    if (result != RG_NVRTC_SUCCESS) return failure(api, "nvrtcGetCUBINSize", result);
    job->cubin = malloc(job->cubin_bytes + 1);
    if (!job->cubin) return strdup("out of memory");
    result = api->nvrtc.cubin(program, job->cubin);
    return result == RG_NVRTC_SUCCESS ? NULL : failure(api, "nvrtcGetCUBIN", result);
}

static char *compile_program(cuda_build *build, rg_nvrtc_program program, cuda_job *job) {
    rg_nvrtc_result result = build->api->nvrtc.compile(program, build->option_count, build->option);
    take_log(build->api, program, job);
    if (result == RG_NVRTC_SUCCESS) return take_cubin(build->api, program, job);
    bool said = job->log && job->log[0];
    return said ? error_line(job->log) : failure(build->api, "nvrtcCompileProgram", result);
}

static bool compile_job(cuda_build *build, cuda_job *job) {
    char name[220];
    rg_nvrtc_program program = NULL;
    snprintf(name, sizeof name, "%s.cu", job->source->symbol);
    rg_nvrtc_result result =
        build->api->nvrtc.create(&program, job->source->source, name, 0, NULL, NULL);
    if (result != RG_NVRTC_SUCCESS) {
        job->trouble = failure(build->api, "nvrtcCreateProgram", result);
        return false;
    }
    job->trouble = compile_program(build, program, job);
    build->api->nvrtc.destroy(&program);
    return job->cubin && !job->trouble;
}

/* What is not kept costs time at the next start, and is no error now. */
static void keep_job(const cuda_build *build, cuda_job *job) {
    rg_ctx quiet;
    job->unkept = true;
    if (rg_ctx_init(&quiet) != RG_OK) return;
    job->unkept = write_entry(&quiet, build->cache, job) != RG_OK;
    if (job->unkept && quiet.last) job->unkept_why = strdup(quiet.last->text);
    rg_ctx_free(&quiet);
}

/* A build that is cut short, or one of whose kernels is wrong, has kept what it had made. */
static bool make_job(cuda_build *build, cuda_job *job) {
    if (!compile_job(build, job)) return false;
    rg_cuda_report_parse(job->log ? job->log : "", &job->object.report);
    if (job->keep && job->log) keep_job(build, job);
    return true;
}

/* The next job that is missing; NULL when there is none or one has failed. Jobs are taken in the
 * list's order, and whether one is kept is settled here, so that the first one that fails or is
 * refused is the same one however many threads there are. */
static cuda_job *take_job(cuda_build *build) {
    cuda_job *job = NULL;
    pthread_mutex_lock(&build->lock);
    while (!job && !build->failed && build->next < build->job_count) {
        job = &build->job[build->next++];
        if (!job->missing) job = NULL;
    }
    if (job) job->keep = build->cache && !build->full;
    pthread_mutex_unlock(&build->lock);
    return job;
}

static void *compile_thread(void *user) {
    cuda_build *build = user;
    for (cuda_job *job; (job = take_job(build));) {
        bool good = make_job(build, job);
        pthread_mutex_lock(&build->lock);
        if (!good) build->failed = true;
        if (job->unkept) build->full = true;
        build->done++;
        if (good && build->options->progress)
            build->options->progress(build->options->user, build->done, build->missing);
        pthread_mutex_unlock(&build->lock);
    }
    return NULL;
}

static int thread_count(const cuda_build *build) {
    cpu_set_t set;
    int count = build->options->jobs;
    if (count < 1) count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    if (count > build->missing) count = build->missing;
    return count > MAX_THREADS ? MAX_THREADS : count;
}

/* This thread works too, so that a system without a further thread still builds. */
static void run_threads(cuda_build *build) {
    pthread_t thread[MAX_THREADS];
    int started = 0;
    for (int wanted = thread_count(build) - 1; started < wanted; started++)
        if (pthread_create(&thread[started], NULL, compile_thread, build) != 0) break;
    compile_thread(build);
    for (int i = 0; i < started; i++) pthread_join(thread[i], NULL);
}

/* ---- what the threads made ---- */

/* Of the first in the list's order. */
static rg_status tell_unkept(cuda_build *build, const cuda_job *job) {
    if (!job->unkept || build->note) return RG_OK;
    build->note = rg_arena_printf(build->ctx->arena, "built kernels are not kept any more: %s",
                                  job->unkept_why ? job->unkept_why : "out of memory");
    return build->note ? RG_OK : rg_nomem(build->ctx);
}

static rg_status take_job_result(cuda_build *build, cuda_job *job) {
    if (job->trouble)
        return rg_fail(build->ctx, RG_E_BUILD, "cannot compile kernel '%s': %s",
                       job->source->symbol, job->trouble);
    if (!job->cubin) return build->failed ? RG_OK : rg_nomem(build->ctx);
    job->object.cubin = rg_arena_copy(build->ctx->arena, job->cubin, job->cubin_bytes);
    job->object.bytes = job->cubin_bytes;
    if (!job->object.cubin) return rg_nomem(build->ctx);
    build->unread += !job->log;
    return tell_unkept(build, job);
}

static rg_status compile_missing(cuda_build *build) {
    if (build->missing == 0) return RG_OK;
    if (pthread_mutex_init(&build->lock, NULL) != 0) return rg_nomem(build->ctx);
    run_threads(build);
    pthread_mutex_destroy(&build->lock);
    rg_status status = RG_OK;
    for (int i = 0; i < build->job_count; i++) {
        cuda_job *job = &build->job[i];
        if (status == RG_OK && job->missing) status = take_job_result(build, job);
        free(job->cubin);
        free(job->log);
        free(job->trouble);
        free(job->unkept_why);
    }
    /* Every failed job has its trouble, unless memory ran out for the text. */
    if (status == RG_OK && build->failed) status = rg_nomem(build->ctx);
    return status;
}

static rg_status tell_unread(cuda_build *build) {
    if (build->unread == 0 || build->note) return RG_OK;
    build->note = rg_arena_printf(build->ctx->arena,
                                  "%d of the built kernels are not kept: their compiler's log, and "
                                  "with it registers and spills, could not be read",
                                  build->unread);
    return build->note ? RG_OK : rg_nomem(build->ctx);
}

static double now_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

rg_status rg_cuda_build(rg_ctx *ctx, const rg_cuda_api *api, const rg_cuda_source *source,
                        int count, const rg_cuda_build_options *options, rg_cuda_object *object,
                        rg_cuda_stats *stats) {
    double start = now_seconds();
    cuda_build build = {.ctx = ctx, .api = api, .options = options};
    *stats = (rg_cuda_stats){.note = NULL};
    if (!api->has_nvrtc) return rg_fail(ctx, RG_E_UNSUPPORTED, "kernels cannot be built: no NVRTC");
    make_options(&build);
    RG_TRY(ask_version(&build));
    RG_TRY(rg_cache_folder(ctx, options->cache_dir, &build.cache, &build.note));
    RG_TRY(list_jobs(&build, source, count));
    rg_cuda_range(api, "build");
    rg_status status = compile_missing(&build);
    rg_cuda_range(api, NULL);
    RG_TRY(status);
    RG_TRY(tell_unread(&build));
    for (int i = 0; i < count; i++) {
        object[i] = build.job[build.job_of[i]].object;
        object[i].symbol = source[i].symbol;
    }
    stats->note = build.note;
    stats->nvrtc = build.nvrtc;
    stats->cache_dir = build.cache;
    stats->compiled = build.missing;
    stats->cached = build.job_count - build.missing;
    stats->seconds = now_seconds() - start;
    return RG_OK;
}
