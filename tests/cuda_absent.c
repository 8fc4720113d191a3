/* Stands in the driver's place and in NVRTC's and has all their functions: there is no device. They
 * are weak, so that another file can say otherwise. */
#include "rg_cuda_api.h"

#define X(field, symbol, parameters)                                                               \
    rg_cu_result symbol(void);                                                                     \
    __attribute__((weak)) rg_cu_result symbol(void) {                                              \
        return RG_CU_NO_DEVICE;                                                                    \
    }
RG_CUDA_DRIVER_LIST(X)
RG_CUDA_NVRTC_LIST(X)
X(error_string, nvrtcGetErrorString, )
