/* What the emulator and the kernels it has compiled know of each other. Valid C11 and C++17,
 * includes nothing: its bytes stand before the emulator's prelude in every kernel that is built. */
#ifndef RG_EMULATE_ABI_H
#define RG_EMULATE_ABI_H

/* Raised with every change below: a built kernel of another number is refused. */
#define RG_EMULATE_ABI 5

/* A host thread that runs blocks (a worker) owns one aligned region of address space: its state,
 * the block's shared memory and the stacks of the block's threads. So any address on a stack names
 * its worker by one mask, with no thread-local storage. */
#define RG_EMULATE_REGION      (1UL << 28)
#define RG_EMULATE_SHARED_AT   (8UL << 20) /* shared memory in the region */
#define RG_EMULATE_SHARED_ROOM (512UL << 10)
#define RG_EMULATE_WORDS_AT    (16UL << 20)  /* its shadow words */
#define RG_EMULATE_STACKS_AT   (128UL << 20) /* the stacks, one after another */
#define RG_EMULATE_STACK       (128UL << 10)
#define RG_EMULATE_MAX_THREADS 1024

/* Shadow of 4 bytes of shared memory. Times count the barriers of a block from
 * RG_EMULATE_FIRST_TIME on; a turn counts the warp's own barriers within one. */
typedef struct rg_emulate_word {
    unsigned write_time;
    unsigned short writer, write_turn; /* thread */
    unsigned read_time;
    unsigned short reader, read_turn;
} rg_emulate_word;

enum {
    RG_EMULATE_OUTSIDE = 0,   /* write_time: belongs to no array */
    RG_EMULATE_UNWRITTEN = 1, /* write_time: poisoned */
    RG_EMULATE_FIRST_TIME = 8,
    RG_EMULATE_WARP_READERS =
        0x8000, /* reader: this plus the warp, where several of its threads have read */
    RG_EMULATE_MANY_READERS = 0xffff /* reader: threads of several warps */
};
#define RG_EMULATE_IN_FLIGHT 0xffffffffu /* write_time: an asynchronous copy has not landed */

#define RG_EMULATE_STAGES 4u /* of a block: it may call rg_last_block three times */
/* Are two tags, of the cells below, one block's? */
#define RG_EMULATE_SAME_BLOCK(a, b) ((a) / RG_EMULATE_STAGES == (b) / RG_EMULATE_STAGES)

/* Shadow of 4 bytes of device memory. writer: RG_EMULATE_OUTSIDE, RG_EMULATE_UNWRITTEN,
 * RG_EMULATE_HOST, else the tag of a block of a launch. A launch's first tag is a multiple of 4;
 * block b has first + 4 + 4 b, and one more each time it has passed rg_last_block; later launches
 * have higher tags. reader: a tag, or the launch's first tag where several blocks have read. */
typedef struct rg_emulate_cell {
    unsigned writer, reader;
} rg_emulate_cell;

#define RG_EMULATE_HOST 2u

/* One static shared array. Those of a module are an array in their section, so that the alignment
 * is told: compilers give objects of this size 16 bytes of their own accord, and leave gaps. */
typedef struct rg_emulate_site {
    const char *name;
    unsigned bytes, align;
    unsigned long at; /* in shared memory; set when the module is loaded */
} __attribute__((aligned(32))) rg_emulate_site;

struct rg_emulate_worker;

#define RG_EMULATE_LANE_BYTES 64

/* Kinds of meetings: lanes that come to different ones diverge. */
enum {
    RG_EMULATE_MEET_BARRIER,
    RG_EMULATE_MEET_XOR,
    RG_EMULATE_MEET_DOWN,
    RG_EMULATE_MEET_UP,
    RG_EMULATE_MEET_LANE,
    RG_EMULATE_MEET_VOTE,
    RG_EMULATE_MEET_ROWS2, /* ldmatrix */
    RG_EMULATE_MEET_ROWS4,
    RG_EMULATE_MEET_ROWS2_TRANS,
    RG_EMULATE_MEET_ROWS4_TRANS,
    RG_EMULATE_MEET_BF16, /* mma */
    RG_EMULATE_MEET_F16,
    RG_EMULATE_MEET_F16_K8,
    RG_EMULATE_MEET_TF32
};

/* One lane's registers at the matrix unit, as PTX lays them out. */
typedef struct rg_emulate_fragments {
    float d[4];
    unsigned a[4], b[2];
} rg_emulate_fragments;

/* What kernels call. `line` is the caller's. */
typedef struct rg_emulate_calls {
    void (*read)(struct rg_emulate_worker *worker, const void *at, unsigned long bytes);
    void (*write)(struct rg_emulate_worker *worker, void *at, unsigned long bytes);
    void (*barrier)(struct rg_emulate_worker *worker, int line);
    void (*warp_barrier)(struct rg_emulate_worker *worker, int line);
    /* Leaves this lane's bytes (at most RG_EMULATE_LANE_BYTES), waits for the warp's others and
     * returns their bytes, valid until the lane's next meeting: lane i's at i *
     * RG_EMULATE_LANE_BYTES. */
    const unsigned char *(*meet)(struct rg_emulate_worker *worker, int kind, const void *mine,
                                 unsigned bytes, int line);
    /* The warp's matrices multiplied; returns this lane's d, valid until its next meeting. */
    const float *(*mma)(struct rg_emulate_worker *worker, int kind,
                        const rg_emulate_fragments *mine, int line);
    /* This lane's words (two or four) of the matrices whose rows lie at the lanes' addresses. */
    void (*rows)(struct rg_emulate_worker *worker, int kind, const void *row, unsigned *words,
                 int line);
    int (*last_block)(struct rg_emulate_worker *worker, unsigned *counter, int count, int line);
    void (*copy_async)(struct rg_emulate_worker *worker, void *shared, const void *global,
                       unsigned bytes, unsigned valid);
    void (*copy_commit)(struct rg_emulate_worker *worker);
    void (*copy_wait)(struct rg_emulate_worker *worker, int left);
    void (*misaligned)(struct rg_emulate_worker *worker, const void *at, int line);
    void (*fault)(struct rg_emulate_worker *worker, const char *what);
} rg_emulate_calls;

/* The part of a worker that kernels read. Stands at the start of its region. */
typedef struct rg_emulate_worker {
    const rg_emulate_calls *call;
    char *shared; /* static arrays, then dynamic memory */
    rg_emulate_word *word;
    char *device; /* device memory */
    unsigned long device_bytes;
    rg_emulate_cell *cell;
    unsigned time, tag, first_tag;
    unsigned turn; /* of the running thread's warp */
    int thread, threads, block, blocks;
    unsigned long dynamic_at, dynamic_bytes;
} rg_emulate_worker;

/* One kernel of a module. */
typedef struct rg_emulate_kernel {
    const char *name;
    void (*call)(void *const *argument); /* addresses of the arguments */
    const unsigned *argument_bytes;
    int arguments;
    int max_threads; /* of its launch bounds; 0: none */
} rg_emulate_kernel;

/* Exported by every built object as `rg_emulate_this_module`. */
typedef struct rg_emulate_module {
    int abi, arch, checks, flush; /* flush: subnormals count as zero */
    const rg_emulate_kernel *kernel;
    int kernels;
    rg_emulate_site *site, *site_end;
} rg_emulate_module;

#endif
