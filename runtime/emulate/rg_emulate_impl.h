/* Shared by the emulator's files. */
#ifndef RG_EMULATE_IMPL_H
#define RG_EMULATE_IMPL_H

#include <pthread.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <ucontext.h>

#include "rg_base.h"
#include "rg_emulate.h"
#include "rg_emulate_abi.h"

enum { RG_EMU_FAULT_BYTES = 640, RG_EMU_MAX_WORKERS = 64 };
/* What memory holds that nothing has written: a NaN. */
#define RG_EMU_POISON 0x7fbadbadu

/* ---- rg_emulate_fibre.c: stacks that take turns in one host thread ---- */

typedef struct rg_emu_fibre {
    jmp_buf place;
    ucontext_t context;
    bool started;
} rg_emu_fibre;

/* entry(argument) begins at the first switch to the fibre, on this stack; it must not return. */
bool rg_emu_fibre_make(rg_emu_fibre *fibre, void *stack, size_t bytes,
                       void (*entry)(void *argument), void *argument);
/* Leaves `from`, which a later switch to it continues. */
void rg_emu_fibre_switch(rg_emu_fibre *from, rg_emu_fibre *to);
/* Leaves the running fibre for good. */
_Noreturn void rg_emu_fibre_leave(rg_emu_fibre *to);

/* ---- rg_emulate_memory.c: the device's memory ---- */

typedef struct rg_emu_allocation {
    size_t at, bytes; /* in device memory */
} rg_emu_allocation;

typedef struct rg_emu_memory {
    char *base;
    size_t bytes;
    rg_emulate_cell *cell;         /* one for each 4 bytes; zero: outside */
    rg_emu_allocation *allocation; /* by rising address */
    int count, room;
    size_t next; /* where the search for a place starts, so that freed memory is not used again at
                    once */
    uint32_t next_tag;
} rg_emu_memory;

extern rg_emu_memory rg_emu_device;

/* Reserves the address space. False: there is none. */
bool rg_emu_memory_open(size_t bytes);
/* RG_CU_... results. Memory is poisoned; a red zone lies behind each allocation. */
rg_cu_result rg_emu_memory_alloc(rg_cu_ptr *at, size_t bytes);
rg_cu_result rg_emu_memory_free(rg_cu_ptr at);
/* Do [at, at + bytes) lie in one allocation? */
bool rg_emu_memory_holds(rg_cu_ptr at, size_t bytes);
/* The host has written these bytes. */
void rg_emu_memory_written(rg_cu_ptr at, size_t bytes);
/* "8 bytes behind an allocation of 64 bytes": where the address lies, into text. */
void rg_emu_memory_describe(const void *at, char *text, size_t room);
/* The first tag of a launch of so many blocks. */
uint32_t rg_emu_memory_tags(uint32_t blocks);
void rg_emu_memory_close(void);

/* ---- modules (rg_emulate_module.c) ---- */

struct CUmod_st;

struct CUfunc_st {
    struct CUmod_st *module;
    const rg_emulate_kernel *kernel;
    int dynamic_limit; /* bytes */
};

struct CUmod_st {
    void *object;
    const rg_emulate_module *content;
    struct CUfunc_st *function; /* one a kernel */
    size_t static_bytes;        /* of shared memory, without the red zones */
    size_t dynamic_at;          /* where dynamic shared memory begins */
    const char *low, *high;     /* its read-only data */
};

rg_cu_result rg_emu_module_load(rg_cu_module *module, const void *image);
rg_cu_result rg_emu_module_unload(rg_cu_module module);
/* Does this range lie in the data of the module? */
bool rg_emu_module_holds(const struct CUmod_st *module, const void *at, size_t bytes);

/* ---- one launch ---- */

typedef struct rg_emu_meeting rg_emu_meeting;

typedef struct rg_emu_launch {
    struct CUfunc_st *function;
    void *const *argument; /* addresses of the arguments */
    uint32_t blocks;
    int threads;
    size_t shared_bytes; /* dynamic */
    uint64_t seed;
    uint32_t first_tag;
    uint32_t *order; /* of the blocks */
    uint32_t next;   /* atomic: place in order */
    int failed;      /* atomic */
    char *fault;     /* RG_EMU_FAULT_BYTES; written by the first that fails */
    pthread_mutex_t lock;
    rg_emu_meeting *meeting; /* those under way */
    pthread_mutex_t meeting_lock;
} rg_emu_launch;

/* ---- rg_emulate_block.c: one block of threads ---- */

typedef enum rg_emu_state {
    RG_EMU_NEW,
    RG_EMU_READY,
    RG_EMU_AT_BARRIER,
    RG_EMU_AT_WARP,
    RG_EMU_DONE
} rg_emu_state;

/* An asynchronous copy that has not landed. */
typedef struct rg_emu_copy {
    uint32_t at; /* in shared memory */
    uint32_t bytes, valid, group;
    const char *from;
} rg_emu_copy;

typedef struct rg_emu_thread {
    rg_emu_state state;
    int line, kind; /* where it waits */
    int fibre;
    uint32_t meetings; /* of the warp that it has come to */
    uint32_t group;    /* of asynchronous copies: the open one */
    rg_emu_copy *copy; /* kept for the next block */
    int copies, copy_room;
} rg_emu_thread;

typedef struct rg_emu_warp {
    int lanes, waiting;
    unsigned turn;
    _Alignas(64) unsigned char slot[2][32 * RG_EMULATE_LANE_BYTES]; /* by the meeting's parity */
} rg_emu_warp;

/* A host thread's region begins with this. */
typedef struct rg_emu_worker {
    rg_emulate_worker seen; /* by kernels */
    rg_emu_launch *launch;
    uint64_t random;
    size_t shadow_end; /* shared memory in use, red zones included */
    int finished, at_barrier, ready_count, free_count, made;
    int answer;              /* of rg_last_block, from thread 0 to the others */
    rg_emu_meeting *meeting; /* where the block was last; NULL: nowhere yet */
    int start;               /* the thread that the next fresh fibre runs */
    uint16_t ready[RG_EMULATE_MAX_THREADS], free_fibre[RG_EMULATE_MAX_THREADS];
    rg_emu_fibre home;
    rg_emu_thread thread[RG_EMULATE_MAX_THREADS];
    rg_emu_warp warp[RG_EMULATE_MAX_THREADS / 32];
    rg_emu_fibre fibre[RG_EMULATE_MAX_THREADS];
} rg_emu_worker;

_Static_assert(sizeof(rg_emu_worker) <= RG_EMULATE_SHARED_AT,
               "a worker's state fits before its shared memory");

static inline rg_emu_worker *rg_emu_of(rg_emulate_worker *seen) {
    return (rg_emu_worker *)(void *)seen;
}

/* NULL: no memory. */
rg_emu_worker *rg_emu_worker_new(void);
void rg_emu_worker_free(rg_emu_worker *worker);
/* Takes blocks of the launch until there are none left, or one has failed. */
void rg_emu_worker_run(rg_emu_worker *worker, rg_emu_launch *launch);
uint32_t rg_emu_random(uint64_t *state, uint32_t below);

/* ---- rg_emulate_meet.c ---- */

/* The block counts at a counter that `count` blocks come to, with accesses of so many stages behind
 * it. Returns how many had counted; UINT32_MAX: no memory. The last one leaves 0 there. */
unsigned rg_emu_meeting_count(rg_emu_worker *worker, unsigned *counter, unsigned count,
                              uint8_t stages);
/* Did what `block` did in its stage come before what the worker's block does now? */
bool rg_emu_meeting_knows(const rg_emu_worker *worker, uint32_t block, unsigned stage);
/* The worker's block ends. */
void rg_emu_meeting_leave(rg_emu_worker *worker);
/* The launch ends. */
void rg_emu_meetings_free(rg_emu_launch *launch);

/* ---- rg_emulate_sync.c, rg_emulate_copy.c: what kernels call ---- */

void rg_emu_barrier(rg_emulate_worker *worker, int line);
int rg_emu_last_block(rg_emulate_worker *worker, unsigned *counter, int count, int line);
const unsigned char *rg_emu_meet(rg_emulate_worker *worker, int kind, const void *mine,
                                 unsigned bytes, int line);
/* The same; the lane that comes last calls all(arch, kind, slots) for the warp. */
const unsigned char *rg_emu_meet_all(rg_emulate_worker *worker, int kind, const void *mine,
                                     unsigned bytes, int line,
                                     void (*all)(int arch, int kind, unsigned char *slot));
void rg_emu_warp_barrier(rg_emulate_worker *worker, int line);
void rg_emu_copy_async(rg_emulate_worker *worker, void *shared, const void *global, unsigned bytes,
                       unsigned valid);
void rg_emu_copy_commit(rg_emulate_worker *worker);
void rg_emu_copy_wait(rg_emulate_worker *worker, int left);
void rg_emu_copies_free(rg_emu_thread *thread);
/* Lets other threads run until this one is ready again. */
void rg_emu_yield(rg_emu_worker *worker);
void rg_emu_make_ready(rg_emu_worker *worker, int thread);

/* ---- rg_emulate_check.c: what an access may touch ---- */

void rg_emu_check_read(rg_emulate_worker *worker, const void *at, unsigned long bytes);
void rg_emu_check_write(rg_emulate_worker *worker, void *at, unsigned long bytes);
/* Ends the launch: `what` with kernel, block and thread before it becomes the launch's fault. */
_Noreturn void rg_emu_fault(rg_emu_worker *worker, const char *format, ...) RG_PRINTF(2, 3);

/* ---- rg_emulate_matrix.c, rg_emulate_mma.c: the matrix unit ---- */

const float *rg_emu_mma(rg_emulate_worker *worker, int kind, const rg_emulate_fragments *mine,
                        int line);
void rg_emu_rows(rg_emulate_worker *worker, int kind, const void *row, unsigned *words, int line);
/* d += a b of a warp, to the bit as the architecture does it. The lanes' rg_emulate_fragments lie
 * RG_EMULATE_LANE_BYTES apart. */
void rg_emu_multiply(int arch, int kind, unsigned char *slot);

/* The name of the shared array that holds or is nearest to this place. */
void rg_emu_shared_describe(rg_emu_worker *worker, size_t at, char *text, size_t room);

/* ---- rg_emulate_grid.c ---- */

/* Runs a launch to its end. False: it failed, and fault tells how. */
bool rg_emu_grid_run(struct CUfunc_st *function, uint32_t blocks, int threads, size_t shared_bytes,
                     void *const *argument, char fault[RG_EMU_FAULT_BYTES]);
void rg_emu_grid_close(void);

/* ---- rg_emulate_stream.c: what waits to be done ---- */

/* The arguments of one launch, copied. */
typedef struct rg_emu_call {
    struct CUfunc_st *function;
    uint32_t blocks;
    int threads;
    size_t shared_bytes;
    void **argument; /* owned with what they point to */
} rg_emu_call;

typedef enum rg_emu_op_kind {
    RG_EMU_LAUNCH,
    RG_EMU_COPY_IN,
    RG_EMU_COPY_OUT,
    RG_EMU_FILL,
    RG_EMU_RECORD,
    RG_EMU_WAIT,
    RG_EMU_GRAPH
} rg_emu_op_kind;

typedef struct rg_emu_op {
    rg_emu_op_kind kind;
    rg_emu_call call; /* LAUNCH */
    rg_cu_ptr device; /* copies and FILL */
    const void *from; /* COPY_IN */
    void *to;         /* COPY_OUT */
    size_t bytes;
    uint32_t value; /* FILL, by words */
    struct CUevent_st *event;
    uint64_t record; /* RECORD, WAIT: which of the event's */
    struct CUgraphExec_st *graph;
    struct rg_emu_op *next;
} rg_emu_op;

struct CUstream_st {
    unsigned flags;
    rg_emu_op *first, *last;
    struct CUstream_st *next;
};

struct CUevent_st {
    uint64_t asked, done;       /* records so far; of these, executed */
    struct CUstream_st *stream; /* of the last one */
    int users;                  /* the owner, and the ops that name it */
    double time;                /* ms */
};

/* Checks a launch against the kernel and the device, and copies its arguments. */
rg_cu_result rg_emu_call_make(rg_emu_call *call, struct CUfunc_st *function, const unsigned grid[3],
                              const unsigned block[3], size_t shared_bytes, void *const *params);
void rg_emu_call_free(rg_emu_call *call);
/* Runs it. A fault becomes the context's error. */
rg_cu_result rg_emu_call_run(const rg_emu_call *call);
/* Puts a copy of `op` at the end of the stream (NULL: the legacy stream, where it is run at once,
 * after the blocking streams' work). */
rg_cu_result rg_emu_enqueue(struct CUstream_st *stream, const rg_emu_op *op);
/* Runs what all streams hold, or those that the legacy stream waits for. */
rg_cu_result rg_emu_drain(bool blocking_alone);
rg_cu_result rg_emu_fill_words(rg_cu_ptr at, uint32_t value, size_t words);
void rg_emu_stream_fill(rg_cuda_driver *driver);
void rg_emu_streams_close(void);

/* ---- rg_emulate_graph.c ---- */

rg_cu_result rg_emu_graph_run(struct CUgraphExec_st *graph);
void rg_emu_graph_fill(rg_cuda_driver *driver);

/* ---- the emulator's state: rg_emulate.c ---- */

#define X(field, symbol, parameters) RG_EMU_CALL_##symbol,
typedef enum rg_emu_call_id {
    RG_CUDA_DRIVER_LIST(X) RG_CUDA_NVRTC_LIST(X) RG_EMU_CALLS
} rg_emu_call_id;
#undef X

typedef struct rg_emu_settings {
    rg_emulate_options option;
    uint64_t launches; /* so far: part of each launch's seed */
    uint64_t random;   /* of the streams' orders */
    int alive;
    bool initialised;
    int retained;       /* of the primary context */
    rg_cu_result error; /* the context's, once it is lost */
    char fault[RG_EMU_FAULT_BYTES];
    char refused[256]; /* what cuInit has against the environment, or "" */
} rg_emu_settings;

extern rg_emu_settings rg_emu;

/* Counts the call; true where it has been asked to fail. */
bool rg_emu_call_fails(rg_emu_call_id call);
/* Asked before each kernel runs: true where it is the one that loses the device. */
bool rg_emu_device_lost(void);
/* Every driver call begins with this: an injected failure, an error from before, or no context. */
rg_cu_result rg_emu_enter(rg_emu_call_id call, rg_cu_result injected) RG_CHECKED;
/* The same for the calls that need no context. */
rg_cu_result rg_emu_enter_free(rg_emu_call_id call, rg_cu_result injected) RG_CHECKED;
#define RG_EMU_ENTER(symbol, injected)                                                             \
    do {                                                                                           \
        rg_cu_result entered = rg_emu_enter(RG_EMU_CALL_##symbol, injected);                       \
        if (entered != RG_CU_SUCCESS) return entered;                                              \
    } while (0)
#define RG_EMU_ENTER_FREE(symbol, injected)                                                        \
    do {                                                                                           \
        rg_cu_result entered = rg_emu_enter_free(RG_EMU_CALL_##symbol, injected);                  \
        if (entered != RG_CU_SUCCESS) return entered;                                              \
    } while (0)
/* The calls that give something back begin with this... */
#define RG_EMU_ENTER_RELEASE()                                                                     \
    do {                                                                                           \
        if (!rg_emu.initialised) return RG_CU_NOT_INITIALIZED;                                     \
    } while (0)
/* ... and end with this: where one is to fail, it has given back all the same and tells an error,
 * as a driver's tells that of an earlier launch. */
rg_cu_result rg_emu_released(rg_emu_call_id call, rg_cu_result injected,
                             rg_cu_result result) RG_CHECKED;

/* The limits of an architecture. */
typedef struct rg_emu_arch {
    int arch;
    const char *name;
    int shared_optin, shared_multiprocessor; /* bytes */
    int multiprocessors, threads_multiprocessor;
} rg_emu_arch;

const rg_emu_arch *rg_emu_arch_of(int arch);

/* Fills the compiler's half (rg_emulate_nvrtc.c) and the driver's (rg_emulate_driver.c). */
void rg_emu_nvrtc_fill(rg_cuda_nvrtc *nvrtc);
void rg_emu_driver_fill(rg_cuda_driver *driver);
/* What the kernels' objects depend on: compiler, prelude, flags. */
const char *rg_emu_nvrtc_identity(void);
/* The context that is current in this thread. */
extern _Thread_local rg_cu_context rg_emu_current;

/* The prelude's bytes (made by CMake). */
extern const char rg_emu_prelude_text[];
extern const size_t rg_emu_prelude_bytes;

#endif
