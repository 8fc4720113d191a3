/* The functions of libcuda and libnvrtc that resgen calls, as one table of pointers. Nothing is
 * linked and no header of NVIDIA's is needed: rg_cuda_open fills the table from the libraries found
 * at run time, the emulator fills it with look-alikes of its own.
 *
 * Types are compatible with the real headers' (test_cuda_api compiles that check where these are
 * installed): handles carry the real tags, enumerations are `unsigned`, which is what GCC and Clang
 * make of an enum without negative values. */
#ifndef RG_CUDA_API_H
#define RG_CUDA_API_H

#include <stddef.h>

/* ---- types ---- */

typedef unsigned rg_cu_result; /* CUresult */
typedef int rg_cu_device;
typedef unsigned long long rg_cu_ptr; /* an address in device memory */
typedef struct CUctx_st *rg_cu_context;
typedef struct CUmod_st *rg_cu_module;
typedef struct CUfunc_st *rg_cu_function;
typedef struct CUstream_st *rg_cu_stream;
typedef struct CUevent_st *rg_cu_event;
typedef struct CUgraph_st *rg_cu_graph;
typedef struct CUgraphNode_st *rg_cu_graph_node;
typedef struct CUgraphExec_st *rg_cu_graph_exec;

typedef unsigned rg_nvrtc_result;
typedef struct _nvrtcProgram *rg_nvrtc_program;

#ifndef __cuda_cuda_h__ /* where the real header stands before this one, its definitions serve */
struct CUDA_KERNEL_NODE_PARAMS_st {
    rg_cu_function func;
    unsigned gridDimX, gridDimY, gridDimZ;
    unsigned blockDimX, blockDimY, blockDimZ;
    unsigned sharedMemBytes; /* dynamic */
    void **kernelParams;     /* addresses of the arguments; they are copied when the node is made */
    void **extra;
};
struct CUDA_MEMSET_NODE_PARAMS_st {
    rg_cu_ptr dst;
    size_t pitch; /* 0 for a single row */
    unsigned value, elementSize;
    size_t width, height; /* elements, rows */
};
struct CUDA_MEMCPY3D_st {
    size_t srcXInBytes, srcY, srcZ, srcLOD;
    unsigned srcMemoryType; /* RG_CU_MEMORY_HOST, RG_CU_MEMORY_DEVICE */
    const void *srcHost;
    rg_cu_ptr srcDevice;
    struct CUarray_st *srcArray;
    void *reserved0;
    size_t srcPitch, srcHeight;
    size_t dstXInBytes, dstY, dstZ, dstLOD;
    unsigned dstMemoryType;
    void *dstHost;
    rg_cu_ptr dstDevice;
    struct CUarray_st *dstArray;
    void *reserved1;
    size_t dstPitch, dstHeight;
    size_t WidthInBytes, Height, Depth; /* 1, 1: a run of bytes */
};
#endif
typedef struct CUDA_KERNEL_NODE_PARAMS_st
    rg_cu_kernel_node; /* version 1: every driver since CUDA 10 knows it */
typedef struct CUDA_MEMSET_NODE_PARAMS_st rg_cu_memset_node;
typedef struct CUDA_MEMCPY3D_st rg_cu_memcpy_node;

_Static_assert(sizeof(rg_cu_kernel_node) == 56 &&
                   offsetof(rg_cu_kernel_node, sharedMemBytes) == 32 &&
                   offsetof(rg_cu_kernel_node, kernelParams) == 40,
               "CUDA_KERNEL_NODE_PARAMS_v1");
_Static_assert(sizeof(rg_cu_memset_node) == 40 && offsetof(rg_cu_memset_node, width) == 24,
               "CUDA_MEMSET_NODE_PARAMS_v1");
_Static_assert(sizeof(rg_cu_memcpy_node) == 200 && offsetof(rg_cu_memcpy_node, dstXInBytes) == 88 &&
                   offsetof(rg_cu_memcpy_node, WidthInBytes) == 176,
               "CUDA_MEMCPY3D_v2");

/* ---- values ---- */

enum {
    /* rg_cu_result */
    RG_CU_SUCCESS = 0,
    RG_CU_INVALID_VALUE = 1,
    RG_CU_OUT_OF_MEMORY = 2,
    RG_CU_NOT_INITIALIZED = 3,
    RG_CU_STUB_LIBRARY = 34,
    RG_CU_DEVICE_UNAVAILABLE = 46,
    RG_CU_NO_DEVICE = 100,
    RG_CU_INVALID_DEVICE = 101,
    RG_CU_INVALID_IMAGE = 200,
    RG_CU_INVALID_CONTEXT = 201,
    RG_CU_NO_BINARY_FOR_GPU = 209,
    RG_CU_INVALID_HANDLE = 400,
    RG_CU_NOT_FOUND = 500,
    RG_CU_ILLEGAL_ADDRESS = 700,
    RG_CU_LAUNCH_OUT_OF_RESOURCES = 701,
    RG_CU_LAUNCH_FAILED = 719,
    RG_CU_NOT_SUPPORTED = 801,
    /* rg_nvrtc_result */
    RG_NVRTC_SUCCESS = 0,
    RG_NVRTC_OUT_OF_MEMORY = 1,
    RG_NVRTC_INVALID_PROGRAM = 4,
    RG_NVRTC_INVALID_OPTION = 5,
    RG_NVRTC_COMPILATION = 6,
    /* CUdevice_attribute */
    RG_CU_DEVICE_MAX_THREADS_PER_BLOCK = 1,
    RG_CU_DEVICE_MAX_SHARED_PER_BLOCK = 8,
    RG_CU_DEVICE_MULTIPROCESSORS = 16,
    RG_CU_DEVICE_MAJOR = 75,
    RG_CU_DEVICE_MINOR = 76,
    RG_CU_DEVICE_MAX_SHARED_PER_MULTIPROCESSOR = 81,
    RG_CU_DEVICE_MAX_SHARED_PER_BLOCK_OPTIN = 97,
    /* CUfunction_attribute */
    RG_CU_FUNC_MAX_THREADS_PER_BLOCK = 0,
    RG_CU_FUNC_SHARED_SIZE_BYTES = 1, /* static */
    RG_CU_FUNC_LOCAL_SIZE_BYTES = 3,
    RG_CU_FUNC_NUM_REGS = 4,
    RG_CU_FUNC_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
    /* flags */
    RG_CU_STREAM_NON_BLOCKING = 1,
    RG_CU_EVENT_DEFAULT = 0,
    RG_CU_EVENT_BLOCKING_SYNC = 1,
    RG_CU_EVENT_DISABLE_TIMING = 2,
    /* CUmemorytype */
    RG_CU_MEMORY_HOST = 1,
    RG_CU_MEMORY_DEVICE = 2,
};

/* ---- functions: X(field, exported symbol, parameters) ---- */

#define RG_CUDA_DRIVER_LIST(X)                                                                     \
    X(init, cuInit, (unsigned flags))                                                              \
    X(driver_version, cuDriverGetVersion, (int *version))                                          \
    X(error_string, cuGetErrorString, (rg_cu_result error, const char **text))                     \
    X(device_get, cuDeviceGet, (rg_cu_device * device, int ordinal))                               \
    X(device_count, cuDeviceGetCount, (int *count))                                                \
    X(device_name, cuDeviceGetName, (char *name, int length, rg_cu_device device))                 \
    X(device_attribute, cuDeviceGetAttribute,                                                      \
      (int *value, unsigned attribute, rg_cu_device device))                                       \
    X(context_retain, cuDevicePrimaryCtxRetain, (rg_cu_context * context, rg_cu_device device))    \
    X(context_release, cuDevicePrimaryCtxRelease_v2, (rg_cu_device device))                        \
    X(context_set, cuCtxSetCurrent, (rg_cu_context context))                                       \
    X(memory_alloc, cuMemAlloc_v2, (rg_cu_ptr * at, size_t bytes))                                 \
    X(memory_free, cuMemFree_v2, (rg_cu_ptr at))                                                   \
    X(host_alloc, cuMemHostAlloc, (void **at, size_t bytes, unsigned flags))                       \
    X(host_free, cuMemFreeHost, (void *at))                                                        \
    X(copy_in, cuMemcpyHtoD_v2, (rg_cu_ptr to, const void *from, size_t bytes))                    \
    X(copy_out, cuMemcpyDtoH_v2, (void *to, rg_cu_ptr from, size_t bytes))                         \
    X(copy_in_async, cuMemcpyHtoDAsync_v2,                                                         \
      (rg_cu_ptr to, const void *from, size_t bytes, rg_cu_stream stream))                         \
    X(copy_out_async, cuMemcpyDtoHAsync_v2,                                                        \
      (void *to, rg_cu_ptr from, size_t bytes, rg_cu_stream stream))                               \
    X(fill, cuMemsetD8_v2, (rg_cu_ptr at, unsigned char value, size_t bytes))                      \
    X(fill_async, cuMemsetD32Async,                                                                \
      (rg_cu_ptr at, unsigned value, size_t words, rg_cu_stream stream))                           \
    X(stream_create, cuStreamCreate, (rg_cu_stream * stream, unsigned flags))                      \
    X(stream_destroy, cuStreamDestroy_v2, (rg_cu_stream stream))                                   \
    X(stream_synchronize, cuStreamSynchronize, (rg_cu_stream stream))                              \
    X(stream_wait_event, cuStreamWaitEvent,                                                        \
      (rg_cu_stream stream, rg_cu_event event, unsigned flags))                                    \
    X(event_create, cuEventCreate, (rg_cu_event * event, unsigned flags))                          \
    X(event_record, cuEventRecord, (rg_cu_event event, rg_cu_stream stream))                       \
    X(event_synchronize, cuEventSynchronize, (rg_cu_event event))                                  \
    X(event_elapsed, cuEventElapsedTime, (float *ms, rg_cu_event start, rg_cu_event end))          \
    X(event_destroy, cuEventDestroy_v2, (rg_cu_event event))                                       \
    X(module_load, cuModuleLoadData, (rg_cu_module * module, const void *image))                   \
    X(module_unload, cuModuleUnload, (rg_cu_module module))                                        \
    X(module_function, cuModuleGetFunction,                                                        \
      (rg_cu_function * function, rg_cu_module module, const char *name))                          \
    X(function_set, cuFuncSetAttribute, (rg_cu_function function, unsigned attribute, int value))  \
    X(function_get, cuFuncGetAttribute, (int *value, unsigned attribute, rg_cu_function function)) \
    X(launch, cuLaunchKernel,                                                                      \
      (rg_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,                 \
       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,                \
       rg_cu_stream stream, void **params, void **extra))                                          \
    X(occupancy, cuOccupancyMaxActiveBlocksPerMultiprocessor,                                      \
      (int *blocks, rg_cu_function function, int threads, size_t shared_bytes))                    \
    X(graph_create, cuGraphCreate, (rg_cu_graph * graph, unsigned flags))                          \
    X(graph_kernel, cuGraphAddKernelNode,                                                          \
      (rg_cu_graph_node * node, rg_cu_graph graph, const rg_cu_graph_node *dependences,            \
       size_t count, const rg_cu_kernel_node *params))                                             \
    X(graph_memset, cuGraphAddMemsetNode,                                                          \
      (rg_cu_graph_node * node, rg_cu_graph graph, const rg_cu_graph_node *dependences,            \
       size_t count, const rg_cu_memset_node *params, rg_cu_context context))                      \
    X(graph_memcpy, cuGraphAddMemcpyNode,                                                          \
      (rg_cu_graph_node * node, rg_cu_graph graph, const rg_cu_graph_node *dependences,            \
       size_t count, const rg_cu_memcpy_node *params, rg_cu_context context))                      \
    X(graph_instantiate, cuGraphInstantiateWithFlags,                                              \
      (rg_cu_graph_exec * exec, rg_cu_graph graph, unsigned long long flags))                      \
    X(graph_launch, cuGraphLaunch, (rg_cu_graph_exec exec, rg_cu_stream stream))                   \
    X(graph_exec_destroy, cuGraphExecDestroy, (rg_cu_graph_exec exec))                             \
    X(graph_destroy, cuGraphDestroy, (rg_cu_graph graph))

/* nvrtcGetErrorString alone returns text: rg_cuda_api has it beside the list. */
#define RG_CUDA_NVRTC_LIST(X)                                                                      \
    X(version, nvrtcVersion, (int *major, int *minor))                                             \
    X(create, nvrtcCreateProgram,                                                                  \
      (rg_nvrtc_program * program, const char *source, const char *name, int headers,              \
       const char *const *header, const char *const *include))                                     \
    X(destroy, nvrtcDestroyProgram, (rg_nvrtc_program * program))                                  \
    X(compile, nvrtcCompileProgram,                                                                \
      (rg_nvrtc_program program, int options, const char *const *option))                          \
    X(cubin_size, nvrtcGetCUBINSize, (rg_nvrtc_program program, size_t * bytes))                   \
    X(cubin, nvrtcGetCUBIN, (rg_nvrtc_program program, char *cubin))                               \
    X(ptx_size, nvrtcGetPTXSize, (rg_nvrtc_program program, size_t * bytes))                       \
    X(ptx, nvrtcGetPTX, (rg_nvrtc_program program, char *ptx))                                     \
    X(log_size, nvrtcGetProgramLogSize, (rg_nvrtc_program program, size_t * bytes))                \
    X(log, nvrtcGetProgramLog, (rg_nvrtc_program program, char *log))

/* The functions of a driver. Each may be called from one thread at a time unless its documentation
 * says more. */
typedef struct rg_cuda_driver {
#define X(field, symbol, parameters) rg_cu_result(*field) parameters;
    RG_CUDA_DRIVER_LIST(X)
#undef X
} rg_cuda_driver;

/* The functions of NVRTC; different programs may be compiled by different threads at once. */
typedef struct rg_cuda_nvrtc {
#define X(field, symbol, parameters) rg_nvrtc_result(*field) parameters;
    RG_CUDA_NVRTC_LIST(X)
#undef X
    const char *(*error_string)(rg_nvrtc_result result); /* nvrtcGetErrorString */
} rg_cuda_nvrtc;

/* NVTX: names of what runs, for a profiler's picture. NULL where its library is not there. */
typedef struct rg_cuda_ranges {
    int (*push)(const char *name); /* nvtxRangePushA */
    int (*pop)(void);              /* nvtxRangePop */
} rg_cuda_ranges;

/* Either half may be absent (has_...): building kernels for a named architecture needs no driver.
 */
typedef struct rg_cuda_api {
    rg_cuda_driver driver;
    rg_cuda_nvrtc nvrtc;
    rg_cuda_ranges ranges;
    int has_driver, has_nvrtc;
    const char *name;           /* "cuda", "emulate" */
    const char *nvrtc_identity; /* what tells this NVRTC from another, part of each cubin's key;
                                   NULL: its version alone */
    const char *nvrtc_place;    /* its file, or "emulated" */
    const char *note;           /* one line for the user about the libraries, or NULL */
    void *library[3]; /* driver, NVRTC, NVTX: what rg_cuda_close gives back; NULL for look-alikes */
} rg_cuda_api;

#endif
