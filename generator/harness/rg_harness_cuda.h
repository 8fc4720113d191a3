/* Runs one CUDA kernel for the harness: on a device, or on the emulator's. */
#ifndef RG_HARNESS_CUDA_H
#define RG_HARNESS_CUDA_H

#include "rg_cuda.h"
#include "rg_harness.h"

/* A device that is in use. */
typedef struct rg_harness_cuda {
    const rg_cuda_api *api;
    rg_cu_device device;
    rg_cu_context context;
    rg_cu_module module;
    rg_cu_function function;
} rg_harness_cuda;

/* Owner: caller, rg_harness_cuda_close. RG_E_DEVICE where there is no such device. */
rg_status rg_harness_cuda_open(rg_ctx *ctx, const rg_cuda_api *api, int ordinal,
                               rg_harness_cuda *cuda) RG_CHECKED;
void rg_harness_cuda_close(rg_harness_cuda *cuda);

/* Loads the object's kernel, checks it (rg_harness_check says how; each argument is an allocation
 * of its own) and unloads it. A fault on the device is an error, with the driver's words. */
rg_status rg_harness_cuda_check(rg_ctx *ctx, rg_harness_cuda *cuda, const rg_kdesc *desc,
                                const rg_cuda_object *object, int32_t live, uint64_t seed,
                                rg_harness_result *result) RG_CHECKED;

/* Runs all tiles of a description over the data with the object's kernel. alias[i] (or NULL): the
 * argument in whose memory argument i lies, i itself where that is its own. */
rg_status rg_harness_cuda_run(rg_ctx *ctx, rg_harness_cuda *cuda, const rg_kdesc *desc,
                              const rg_cuda_object *object, struct rg_hdata *data,
                              const int32_t *alias) RG_CHECKED;

/* The same as a run that others may ask for; the kernel must outlive it. */
typedef struct rg_harness_cuda_kernel {
    rg_harness_cuda *cuda;
    const rg_cuda_object *object;
} rg_harness_cuda_kernel;
rg_harness_run rg_harness_run_cuda(rg_harness_cuda_kernel *kernel);

#endif
