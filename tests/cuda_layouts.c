/* Compiled, never run: the structs that rg_cuda_api.h defines where no header of NVIDIA's stands
 * before it, field by field against those of the real one. */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#undef __cuda_cuda_h__ /* so that rg_cuda_api.h defines its own, under the names below */
#define CUDA_KERNEL_NODE_PARAMS_st own_kernel_node
#define CUDA_MEMSET_NODE_PARAMS_st own_memset_node
#define CUDA_MEMCPY3D_st           own_memcpy_node

#include "rg_cuda_api.h"

#define SAME_FIELD(own, real, field)                                                               \
    _Static_assert(offsetof(own, field) == offsetof(real, field) &&                                \
                       sizeof(((own *)0)->field) == sizeof(((real *)0)->field),                    \
                   #real "." #field);

#define KERNEL(field) SAME_FIELD(rg_cu_kernel_node, CUDA_KERNEL_NODE_PARAMS_v1, field)
KERNEL(func)
KERNEL(gridDimX)
KERNEL(gridDimY)
KERNEL(gridDimZ)
KERNEL(blockDimX)
KERNEL(blockDimY)
KERNEL(blockDimZ)
KERNEL(sharedMemBytes)
KERNEL(kernelParams)
KERNEL(extra)
_Static_assert(sizeof(rg_cu_kernel_node) == sizeof(CUDA_KERNEL_NODE_PARAMS_v1), "its size");

#define MEMSET(field) SAME_FIELD(rg_cu_memset_node, CUDA_MEMSET_NODE_PARAMS_v1, field)
MEMSET(dst)
MEMSET(pitch)
MEMSET(value)
MEMSET(elementSize)
MEMSET(width)
MEMSET(height)
_Static_assert(sizeof(rg_cu_memset_node) == sizeof(CUDA_MEMSET_NODE_PARAMS_v1), "its size");

#define MEMCPY(field) SAME_FIELD(rg_cu_memcpy_node, CUDA_MEMCPY3D_v2, field)
MEMCPY(srcXInBytes)
MEMCPY(srcY)
MEMCPY(srcZ)
MEMCPY(srcLOD)
MEMCPY(srcMemoryType)
MEMCPY(srcHost)
MEMCPY(srcDevice)
MEMCPY(srcArray)
MEMCPY(reserved0)
MEMCPY(srcPitch)
MEMCPY(srcHeight)
MEMCPY(dstXInBytes)
MEMCPY(dstY)
MEMCPY(dstZ)
MEMCPY(dstLOD)
MEMCPY(dstMemoryType)
MEMCPY(dstHost)
MEMCPY(dstDevice)
MEMCPY(dstArray)
MEMCPY(reserved1)
MEMCPY(dstPitch)
MEMCPY(dstHeight)
MEMCPY(WidthInBytes)
MEMCPY(Height)
MEMCPY(Depth)
_Static_assert(sizeof(rg_cu_memcpy_node) == sizeof(CUDA_MEMCPY3D_v2), "its size");
