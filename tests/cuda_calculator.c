/* NVIDIA's own occupancy calculator, where its header is installed. */
#include <cuda_occupancy.h>

#include "rg_cuda.h"

int cuda_calculator(const rg_cuda_limits *limits, int threads, int registers, int shared_bytes);

int cuda_calculator(const rg_cuda_limits *limits, int threads, int registers, int shared_bytes) {
    struct cudaOccDeviceProp device = {
        .computeMajor = limits->arch / 10,
        .computeMinor = limits->arch % 10,
        .maxThreadsPerBlock = 1024,
        .maxThreadsPerMultiprocessor = limits->warps * 32,
        .regsPerBlock = 65536,
        .regsPerMultiprocessor = 65536,
        .warpSize = 32,
        .sharedMemPerBlock = 49152,
        .sharedMemPerMultiprocessor = (size_t)limits->shared_bytes,
        .numSms = 1,
        .sharedMemPerBlockOptin = (size_t)limits->block_shared_bytes,
        .reservedSharedMemPerBlock = (size_t)limits->reserved_bytes,
    };
    struct cudaOccFuncAttributes kernel = {
        .maxThreadsPerBlock = 1024,
        .numRegs = registers,
        .shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN,
        .maxDynamicSharedSizeBytes = (size_t)limits->block_shared_bytes,
    };
    struct cudaOccDeviceState state = {.carveoutConfig = SHAREDMEM_CARVEOUT_DEFAULT};
    struct cudaOccResult result;
    cudaOccError error = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state,
                                                                 threads, (size_t)shared_bytes);
    return error == CUDA_OCC_SUCCESS ? result.activeBlocksPerMultiprocessor : -1;
}
