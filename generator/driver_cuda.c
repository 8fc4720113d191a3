/* The CUDA target in the command layer: which device and architecture, cubins, the table of
 * kernels. */
#include <stdlib.h>
#include <string.h>

#include "driver_parts.h"
#include "rg_emulate.h"
#include "rg_harness_cuda.h"
#include "rg_report.h"

enum { DEFAULT_ARCH = 90, WIDE_EXPONENTS_ARCH = 80, WARP = 32 };

struct rg_job_cuda {
    rg_cuda_api own;        /* where this process has opened the libraries */
    const rg_cuda_api *api; /* NULL: nothing is to be built or run */
    rg_cuda_device device;
    int arch;
    rg_cuda_object *object; /* by plan kernel */
    const char *nvrtc;      /* what built them */
};

static bool is_emulated(const rg_job *job) {
    return strcmp(job->cli->device, "emulate") == 0;
}

/* ---- device and architecture ---- */

/* --device=cuda:N. */
static rg_status device_number(const rg_job *job, int *ordinal) {
    const char *at = strchr(job->cli->device, ':');
    char *end = NULL;
    *ordinal = at ? (int)strtol(at + 1, &end, 10) : 0;
    if (!at || (at[1] >= '0' && at[1] <= '9' && *end == 0)) return RG_OK;
    return rg_fail(job->ctx, RG_E_USAGE, "--device=%s: expected cuda or cuda:N", job->cli->device);
}

/* --arch=sm_NN; 0: native. */
static rg_status named_arch(const rg_job *job, int *arch) {
    const char *text = job->cli->arch;
    char *end = NULL;
    *arch = 0;
    if (!text || strcmp(text, "native") == 0) return RG_OK;
    if (strncmp(text, "sm_", 3) == 0) *arch = (int)strtol(text + 3, &end, 10);
    if (end && *end == 0 && rg_cuda_limits_of(*arch)) return RG_OK;
    return rg_fail(job->ctx, RG_E_USAGE,
                   "--arch=%s: expected native, sm_75, sm_80, sm_86, sm_87, sm_89, sm_90, sm_100, "
                   "sm_103, sm_120 or sm_121",
                   text);
}

static bool needs_kernels(const rg_job *job) {
    return !job->cli->dump && strcmp(job->cli->command, "explain") != 0 &&
           strcmp(job->cli->device, "reference") != 0;
}

static bool needs_device(const rg_job *job) {
    return needs_kernels(job) && strcmp(job->cli->command, "build") != 0;
}

static rg_status check_arch(const rg_job *job, int arch, const rg_cuda_device *device) {
    if (rg_cuda_arch_runs_on(arch, device->arch)) return RG_OK;
    return rg_fail(job->ctx, RG_E_USAGE, "--arch=sm_%d: device %d (%s) is an sm_%d", arch,
                   device->ordinal, device->name, device->arch);
}

/* Asks the device what it is. In a context of its own: that there is none may be said better. */
static rg_status ask_device(rg_job *job, int wanted, rg_cuda_device *device, const char **why) {
    rg_ctx quiet = {.arena = job->ctx->arena};
    int ordinal;
    RG_TRY(device_number(job, &ordinal));
    rg_status status = rg_cuda_open(&quiet, job->cli->cuda_path, wanted, &job->cuda->own);
    if (status == RG_OK) status = rg_cuda_device_find(&quiet, &job->cuda->own, ordinal, device);
    if (status != RG_OK) *why = quiet.last ? quiet.last->text : "no memory";
    return status;
}

static rg_status open_device(rg_job *job) {
    struct rg_job_cuda *cuda = job->cuda;
    const char *why = NULL;
    int wanted = RG_CUDA_DRIVER | (needs_kernels(job) ? RG_CUDA_NVRTC : 0);
    rg_status status = ask_device(job, wanted, &cuda->device, &why);
    if (status != RG_OK && !why) return status;
    if (status != RG_OK)
        return rg_fail(job->ctx, status, "%s%s", why,
                       cuda->arch || needs_device(job) ? "" : "; or name one, as in --arch=sm_90");
    if (cuda->arch) return check_arch(job, cuda->arch, &cuda->device);
    cuda->arch = cuda->device.arch;
    if (rg_cuda_limits_of(cuda->arch)) return RG_OK;
    return rg_fail(job->ctx, RG_E_UNSUPPORTED, "device %d (%s) is an sm_%d: kernels need sm_75",
                   cuda->device.ordinal, cuda->device.name, cuda->arch);
}

static rg_status open_emulator(rg_job *job) {
    struct rg_job_cuda *cuda = job->cuda;
    if (!cuda->arch) cuda->arch = DEFAULT_ARCH;
    rg_emulate_options options = {
        .arch = cuda->arch, .seed = job->spec->seed, .threads = rg_job_threads(job)};
    cuda->api = rg_emulate_api(&options);
    return rg_cuda_device_find(job->ctx, cuda->api, 0, &cuda->device);
}

/* The option's name was looked at when it was read; a job made without options has none. */
static rg_status find_precision(const rg_job *job, rg_kformat *format) {
    *format = RG_KFORMAT_F32;
    if (!job->cli->precision || !rg_kformat_find(job->cli->precision, format)) return RG_OK;
    bool wide = *format == RG_KFORMAT_TF32 || *format == RG_KFORMAT_BF16;
    if (!wide || job->cuda->arch >= WIDE_EXPONENTS_ARCH) return RG_OK;
    return rg_fail(job->ctx, RG_E_UNSUPPORTED, "--precision=%s: sm_%d has f32 and f16 alone",
                   job->cli->precision, job->cuda->arch);
}

rg_status rg_job_cuda_open(rg_job *job) {
    struct rg_job_cuda *cuda = job->cuda = RG_NEW(job->ctx->arena, struct rg_job_cuda);
    if (!cuda) return rg_nomem(job->ctx);
    RG_TRY(named_arch(job, &cuda->arch));
    /* What nothing is built for is shown for one architecture on every machine. */
    if (!needs_kernels(job) && !cuda->arch) cuda->arch = DEFAULT_ARCH;
    if (is_emulated(job)) RG_TRY(open_emulator(job));
    if (!is_emulated(job) && (needs_device(job) || !cuda->arch)) RG_TRY(open_device(job));
    if (!is_emulated(job) && !cuda->own.name && needs_kernels(job))
        RG_TRY(rg_cuda_open(job->ctx, job->cli->cuda_path, RG_CUDA_NVRTC, &cuda->own));
    if (!cuda->api && cuda->own.name) cuda->api = &cuda->own;
    rg_kformat precision;
    RG_TRY(find_precision(job, &precision));
    int32_t blocks = (job->spec->batch + RG_BLOCK - 1) / RG_BLOCK;
    job->target = (rg_target){.name = "cuda",
                              .isa = "cuda",
                              .vector = 16,
                              .riders = true,
                              .arch = cuda->arch,
                              .precision = precision,
                              .max_blocks = blocks,
                              .only = job->cli->only};
    return RG_OK;
}

void rg_job_cuda_close(rg_job *job) {
    if (job->cuda && job->cuda->own.name) rg_cuda_close(&job->cuda->own);
}

/* ---- building ---- */

/* What no block of the architecture or of the device can have is told before the device refuses it.
 * A kernel that is not built yet has no static shared memory. */
static rg_status check_shared(const rg_job *job) {
    const rg_plan *plan = &job->planned.plan;
    const rg_cuda_device *device = &job->cuda->device;
    int arch = job->cuda->arch, most = rg_cuda_limits_of(arch)->block_shared_bytes;
    bool smaller = device->arch && device->shared_bytes < most; /* than what --arch names */
    if (smaller) most = device->shared_bytes;
    for (uint32_t i = 0; i < plan->kernel_count; i++) {
        int bytes = job->cuda->object[i].report.shared_bytes + (int)plan->kernel[i].shared_bytes;
        if (bytes <= most) continue;
        return rg_fail(
            job->ctx, RG_E_LIMIT,
            "kernel '%s' for sm_%d wants %d bytes of shared memory, a block of %s has %d",
            job->source[i].symbol, arch, bytes, smaller ? device->name : "it", most);
    }
    return RG_OK;
}

rg_status rg_job_cuda_objects(rg_job *job, const rg_cuda_source *source, int count,
                              rg_cuda_object *object, rg_cuda_stats *stats) {
    rg_report report;
    rg_report_init(&report, stdout, stderr, job->cli->quiet);
    rg_cuda_build_options options = {.arch = job->cuda->arch,
                                     .cache_dir = job->cli->cache,
                                     .progress = rg_report_build,
                                     .user = &report};
    rg_status status =
        rg_cuda_build(job->ctx, job->cuda->api, source, count, &options, object, stats);
    rg_report_clear(&report);
    return status;
}

/* One line of both. */
static rg_status join_notes(rg_ctx *ctx, const char *first, const char **note) {
    if (first && *note)
        *note = rg_arena_printf(ctx->arena, "%s; %s", first, *note);
    else if (first)
        *note = first;
    else
        return RG_OK;
    return *note ? RG_OK : rg_nomem(ctx);
}

rg_status rg_job_cuda_build(rg_job *job) {
    struct rg_job_cuda *cuda = job->cuda;
    int count = (int)job->planned.plan.kernel_count;
    rg_cuda_source *source = RG_NEW_ARRAY(job->ctx->arena, rg_cuda_source, count + 1);
    cuda->object = RG_NEW_ARRAY(job->ctx->arena, rg_cuda_object, count + 1);
    if (!source || !cuda->object) return rg_nomem(job->ctx);
    for (int i = 0; i < count; i++)
        source[i] = (rg_cuda_source){job->source[i].symbol, job->source[i].source};
    RG_TRY(check_shared(job));
    rg_cuda_stats stats;
    RG_TRY(rg_job_cuda_objects(job, source, count, cuda->object, &stats));
    cuda->nvrtc = stats.nvrtc;
    RG_TRY(join_notes(job->ctx, cuda->api->note, &stats.note));
    job->stats =
        (rg_cpu_stats){stats.compiled, stats.cached, stats.seconds, stats.cache_dir, stats.note};
    return check_shared(job);
}

bool rg_job_cuda_has_cubins(const rg_job *job) {
    return !is_emulated(job);
}

rg_status rg_job_cuda_write(rg_job *job, const char *folder) {
    for (uint32_t i = 0; i < job->planned.plan.kernel_count; i++) {
        const rg_cuda_object *object = &job->cuda->object[i];
        char *path = rg_arena_printf(job->ctx->arena, "%s/%s.cubin", folder, object->symbol);
        if (!path) return rg_nomem(job->ctx);
        RG_TRY(rg_file_write(job->ctx, path, object->cubin, object->bytes));
    }
    return RG_OK;
}

const char *rg_job_cuda_nvrtc(const rg_job *job) {
    return job->cuda->nvrtc;
}

/* ---- running ---- */

rg_status rg_job_cuda_exec(rg_job *job, rg_exec **exec) {
    rg_exec_backend backend;
    rg_cuda_exec_options options = {.ordinal = job->cuda->device.ordinal,
                                    .stream = job->cli->stream,
                                    .apart = is_emulated(job) && getenv("RG_EMULATE_APART")};
    RG_TRY(rg_cuda_backend(job->ctx, job->cuda->api, &job->planned.plan, job->cuda->object,
                           &options, &backend));
    return rg_exec_new_backend(job->ctx, &job->planned.plan, &backend, exec);
}

const char *rg_job_cuda_name(const rg_job *job) {
    return job->cuda->device.name;
}

rg_status rg_job_cuda_harness(rg_job *job, rg_harness_cuda *on) {
    return rg_harness_cuda_open(job->ctx, job->cuda->api, job->cuda->device.ordinal, on);
}

rg_status rg_job_cuda_check(rg_job *job, const rg_launch *launch, int32_t live, uint64_t seed,
                            rg_harness_result *result) {
    const rg_cuda_object *object = &job->cuda->object[rg_job_kernel_of(job, launch)];
    rg_harness_cuda on;
    RG_TRY(rg_job_cuda_harness(job, &on));
    rg_status status =
        rg_harness_cuda_check(job->ctx, &on, &launch->desc, object, live, seed, result);
    rg_harness_cuda_close(&on);
    return status;
}

/* ---- the table of kernels ---- */

static int launches_of(const rg_job *job, const char *key) {
    int count = 0;
    for (int32_t i = 0; i < job->planned.launch_count; i++)
        count += strcmp(job->planned.launch[i].name.key, key) == 0;
    return count;
}

static int print_kernel(const rg_job *job, uint32_t i, const rg_cuda_limits *limits) {
    const rg_plan *plan = &job->planned.plan;
    const rg_plan_kernel *row = &plan->kernel[i];
    const rg_cuda_report *r = &job->cuda->object[i].report;
    int threads = (int)row->threads, shared = r->shared_bytes + (int)row->shared_bytes;
    int spills = r->spill_store_bytes + r->spill_load_bytes;
    int blocks = rg_cuda_blocks_per_multiprocessor(limits, threads, r->registers, shared);
    int warps = blocks * ((threads + WARP - 1) / WARP);
    printf("%8d %7d %9d %7d %6d %6d %8d %8.0f %%  %s\n",
           launches_of(job, rg_plan_text(plan, row->key)), threads, r->registers, shared,
           r->stack_bytes, spills, blocks, 100.0 * warps / limits->warps,
           rg_plan_text(plan, row->symbol));
    return spills > 0 || r->stack_bytes > 0;
}

void rg_job_cuda_print(const rg_job *job) {
    const rg_plan *plan = &job->planned.plan;
    const rg_cuda_limits *limits = rg_cuda_limits_of(job->cuda->arch);
    if (is_emulated(job)) {
        printf("\nkernels are built for the emulator of an sm_%d: no registers to tell of\n",
               job->cuda->arch);
        return;
    }
    printf("\n%8s %7s %9s %7s %6s %6s %8s %10s  kernel (sm_%d; bytes of shared memory, stack and "
           "spills; blocks a multiprocessor)\n",
           "launches", "threads", "registers", "shared", "stack", "spills", "blocks", "occupancy",
           job->cuda->arch);
    int spilling = 0;
    for (uint32_t i = 0; i < plan->kernel_count; i++) spilling += print_kernel(job, i, limits);
    printf("%u kernels, %d with a spill or local memory\n", plan->kernel_count, spilling);
}
