/* Stands in the driver's place and has all its functions: there is no device. */
#include "rg_cuda_api.h"

#define X(field, symbol, parameters)                                                               \
    rg_cu_result symbol(void);                                                                     \
    rg_cu_result symbol(void) {                                                                    \
        return RG_CU_NO_DEVICE;                                                                    \
    }
RG_CUDA_DRIVER_LIST(X)
