/* Beside cuda_absent.c: a driver with an sm_86 that can be asked what it is, and NVRTC's version.
 */
#include <stdio.h>

#include "rg_cuda_api.h"

#define X(field, symbol, parameters) rg_cu_result symbol parameters;
RG_CUDA_DRIVER_LIST(X)
RG_CUDA_NVRTC_LIST(X)

rg_cu_result cuInit(unsigned flags) {
    (void)flags;
    return RG_CU_SUCCESS;
}

rg_cu_result cuDriverGetVersion(int *version) {
    *version = 12000;
    return RG_CU_SUCCESS;
}

rg_cu_result cuDeviceGetCount(int *count) {
    *count = 1;
    return RG_CU_SUCCESS;
}

rg_cu_result cuDeviceGet(rg_cu_device *device, int ordinal) {
    *device = ordinal;
    return RG_CU_SUCCESS;
}

rg_cu_result cuDeviceGetName(char *name, int length, rg_cu_device device) {
    (void)device;
    snprintf(name, (size_t)length, "an Ampere");
    return RG_CU_SUCCESS;
}

rg_cu_result cuDeviceGetAttribute(int *value, unsigned attribute, rg_cu_device device) {
    (void)device;
    *value = attribute == RG_CU_DEVICE_MAJOR                        ? 8
             : attribute == RG_CU_DEVICE_MINOR                      ? 6
             : attribute == RG_CU_DEVICE_MAX_SHARED_PER_BLOCK_OPTIN ? 99 << 10
                                                                    : 84; /* multiprocessors */
    return RG_CU_SUCCESS;
}

rg_nvrtc_result nvrtcVersion(int *major, int *minor) {
    *major = 12;
    *minor = 0;
    return RG_NVRTC_SUCCESS;
}
