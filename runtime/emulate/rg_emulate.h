/* Look-alikes of libcuda and libnvrtc: kernels are compiled for the host and run there, threads as
 * fibres, every access checked. For machines without a GPU and for finding what a GPU would hide.
 */
#ifndef RG_EMULATE_H
#define RG_EMULATE_H

#include <stdbool.h>
#include <stdint.h>

#include "rg_cuda_api.h"

typedef struct rg_emulate_options {
    int arch;              /* 75..121, the device that is named; 0: 90 */
    uint64_t seed;         /* of all orders that CUDA leaves open */
    int threads;           /* host threads that run blocks; 0: number of processors */
    bool no_checks;        /* kernels are built without the memory checks: faster */
    bool unwritten_device; /* reading device memory that nothing has written is an error (shared
                              memory: always) */
    uint64_t memory_bytes; /* of the device; 0: 64 GiB of address space, or what there is */
    const char *cxx; /* the C++ compiler; NULL: $CXX if it is a plain path or name, else c++ */
    const char *fail_call; /* exported symbol whose fail_nth call (from 1) fails, e.g.
                              "cuMemAlloc_v2"; the _v2 may be left out. "device": the fail_nth
                              kernel that runs loses the device, every call after it fails */
    int fail_nth;
} rg_emulate_options;

/* The table of look-alikes, one per process. NULL options: the defaults. The environment has the
 * last word: RG_EMULATE_SEED=N, RG_EMULATE_THREADS=N, RG_EMULATE_CHECKS=0, RG_EMULATE_UNWRITTEN=1,
 * RG_EMULATE_FAIL=cuLaunchKernel:3. What cannot be read there makes cuInit fail, and its error's
 * text says why. A call sets the options anew and starts the count of RG_EMULATE_FAIL again;
 * whatever lives on the device stays.
 *
 * A kernel's fault ends its launch as an illegal access does on a device: the error comes from the
 * call that waits for it, and cuGetErrorString then tells kernel, block, thread and what happened.
 * The context is lost with it, until it has been released. Owner: the emulator. One thread at a
 * time, but for the compiler's half. */
const rg_cuda_api *rg_emulate_api(const rg_emulate_options *options);

/* What the last fault was, or "". Owner: the emulator; valid until the next fault. */
const char *rg_emulate_fault(void);
/* Calls of this exported symbol since rg_emulate_api (tests that fail each in turn). */
long rg_emulate_calls_of(const char *symbol);
/* Allocations, streams, events, modules and graphs that nobody has given back. */
int rg_emulate_alive(void);

#endif
