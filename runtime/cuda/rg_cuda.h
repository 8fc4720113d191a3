/* The CUDA device: finds the driver and NVRTC, builds kernels, runs a plan. */
#ifndef RG_CUDA_H
#define RG_CUDA_H

#include "rg_core.h"
#include "rg_cuda_api.h"

/* ---- rg_cuda_load.c: the libraries ---- */

enum { RG_CUDA_DRIVER = 1, RG_CUDA_NVRTC = 2 };

/* Fills the table from the libraries that are wanted (flags above). `path`: --cuda-path, or NULL.
 *
 * NVRTC is looked for under `path`, $CUDA_PATH, $CUDA_HOME and /usr/local/cuda, in each at the
 * places of a toolkit, of Debian and of PyPI's wheels (nvidia/cuda_nvrtc/lib, nvidia/cu13/lib;
 * `path` is then the folder site-packages), then where the loader looks. The newest of 13, 12 and
 * 11 that the driver understands is taken; where that is not one under `path`, api->note says so.
 * libcuda.so.1 comes with the driver: it is looked for under `path` and its `compat`, then where
 * the loader looks, then where WSL has it. Errors: RG_E_UNSUPPORTED, with what is missing and where
 * it was looked for. Owner: caller, rg_cuda_close, where this succeeds; texts: ctx's arena. */
rg_status rg_cuda_open(rg_ctx *ctx, const char *path, int wanted, rg_cuda_api *api) RG_CHECKED;
void rg_cuda_close(rg_cuda_api *api);
/* A range of NVTX begins; NULL: the innermost ends. Nothing happens where there is no NVTX: it is
 * looked for with the driver, where NVRTC is, as libnvtx3interop.so.1 or libnvToolsExt.so.1. */
void rg_cuda_range(const rg_cuda_api *api, const char *name);

typedef struct rg_cuda_device {
    int ordinal;
    int arch; /* 90 for sm_90 */
    int multiprocessors;
    int shared_bytes; /* most of a block */
    char name[128];
} rg_cuda_device;

/* Starts the driver and looks at a device. RG_E_DEVICE where there is none of this number. */
rg_status rg_cuda_device_find(rg_ctx *ctx, const rg_cuda_api *api, int ordinal,
                              rg_cuda_device *device) RG_CHECKED;

/* ---- rg_cuda_report.c: what the compiler says of a kernel ---- */

typedef struct rg_cuda_report {
    int registers;
    int shared_bytes; /* static */
    int stack_bytes, spill_store_bytes, spill_load_bytes;
    bool known; /* false: the log told nothing (the emulator's compiler) */
} rg_cuda_report;

/* Reads ptxas' lines in NVRTC's log. */
void rg_cuda_report_parse(const char *log, rg_cuda_report *report);

/* What a multiprocessor of an architecture holds. Source: CUDA C++ Programming Guide, "Compute
 * Capabilities". */
typedef struct rg_cuda_limits {
    int arch, warps, blocks;
    int shared_bytes, block_shared_bytes,
        reserved_bytes; /* of a multiprocessor, a block; taken a block */
} rg_cuda_limits;

/* NULL: an architecture that is not known here. */
const rg_cuda_limits *rg_cuda_limits_of(int arch);
/* A cubin runs on its own architecture and on later ones of the same generation; sm_87 (Tegra)
 * stands alone. Source: CUDA C++ Programming Guide, "Binary Compatibility". */
bool rg_cuda_arch_runs_on(int arch, int device);
/* Blocks of a kernel that a multiprocessor holds at once; 0: not one. Source: the toolkit's
 * cuda_occupancy.h, with which the tests compare it. */
int rg_cuda_blocks_per_multiprocessor(const rg_cuda_limits *limits, int threads, int registers,
                                      int shared_bytes);

/* ---- rg_cuda_build.c: sources to cubins ---- */

typedef struct rg_cuda_source {
    const char *symbol, *source;
} rg_cuda_source;

/* Owner: ctx's arena. */
typedef struct rg_cuda_object {
    const char *symbol;
    const void *cubin;
    size_t bytes;
    rg_cuda_report report;
} rg_cuda_object;

typedef struct rg_cuda_build_options {
    int arch;
    const char *cache_dir; /* as in rg_cpu_options */
    int jobs;              /* threads; 0: number of processors */
    void (*progress)(void *user, int done,
                     int total); /* may be NULL; called by one thread at a time */
    void *user;
} rg_cuda_build_options;

typedef struct rg_cuda_stats {
    int compiled, cached;
    double seconds;
    const char *cache_dir; /* NULL: nothing is kept. Owner: ctx's arena */
    const char *note;      /* one line for the user, or NULL */
    const char *nvrtc;     /* its version and place. Owner: ctx's arena */
} rg_cuda_stats;

/* object[i] is source[i]'s. Equal sources are built once, several at a time. A cubin is kept under
 * the hash of its source, its options, NVRTC's version and the architecture (never of PTX, whose
 * names are random), together with the compiler's report: where its log cannot be read there is
 * none, the cubin is not kept, and the note says so. So it does where the cache refuses an entry;
 * it is given no more then. Each is kept as soon as it is compiled, before progress tells of it.
 * Errors: RG_E_BUILD with the compiler's first error line, of the first kernel that has one. */
rg_status rg_cuda_build(rg_ctx *ctx, const rg_cuda_api *api, const rg_cuda_source *source,
                        int count, const rg_cuda_build_options *options, rg_cuda_object *object,
                        rg_cuda_stats *stats) RG_CHECKED;

/* ---- rg_cuda_exec.c: a plan on a device ---- */

typedef struct rg_cuda_exec_options {
    int ordinal;
    bool stream; /* kernel after kernel, each waited for, so that an error names its kernel; else a
                    program is one graph */
    bool apart;  /* each buffer that kernels alone share is an allocation of its own: a kernel that
                    leaves its buffer is seen by what watches allocations */
} rg_cuda_exec_options;

/* A backend for rg_exec_new_backend. object[i] is plan->kernel[i]'s; api and plan must outlive it,
 * the objects need not. It is used by one thread at a time. Errors: RG_E_DEVICE and RG_E_NOMEM,
 * with the driver's function and the kernel or arena. Owner: caller, backend->close. */
rg_status rg_cuda_backend(rg_ctx *ctx, const rg_cuda_api *api, const rg_plan *plan,
                          const rg_cuda_object *object, const rg_cuda_exec_options *options,
                          rg_exec_backend *backend) RG_CHECKED;

#endif
