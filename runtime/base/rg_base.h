/* What every module stands on: status codes, diagnostics, arenas, text buffers, hashes, the control
 * block. */
#ifndef RG_BASE_H
#define RG_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RG_STATUS_LIST(X)                                                                          \
    X(RG_OK, "ok")                                                                                 \
    X(RG_E_USAGE, "usage")                                                                         \
    X(RG_E_NOMEM, "memory")                                                                        \
    X(RG_E_IO, "io")                                                                               \
    X(RG_E_FORMAT, "format")                                                                       \
    X(RG_E_SYNTAX, "syntax")                                                                       \
    X(RG_E_SPEC, "spec")                                                                           \
    X(RG_E_SHAPE, "shape")                                                                         \
    X(RG_E_LIMIT, "limit")                                                                         \
    X(RG_E_BUILD, "build")                                                                         \
    X(RG_E_NUMERIC, "numeric")                                                                     \
    X(RG_E_UNSUPPORTED, "unsupported")                                                             \
    X(RG_E_DEVICE, "device")                                                                       \
    X(RG_E_INTERRUPTED, "interrupted")                                                             \
    X(RG_E_INTERNAL, "internal")

typedef enum rg_status {
#define X(id, text) id,
    RG_STATUS_LIST(X)
#undef X
} rg_status;

#define RG_CHECKED      __attribute__((warn_unused_result))
#define RG_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Runs `call` and leaves the function with its status unless that is RG_OK. */
#define RG_TRY(call)                                                                               \
    do {                                                                                           \
        rg_status rg_try_status = (call);                                                          \
        if (rg_try_status != RG_OK) return rg_try_status;                                          \
    } while (0)

/* The word that stands in `error[word]`. */
const char *rg_status_name(rg_status status);

/* ---- arenas: memory is freed only by freeing the arena ---- */

typedef struct rg_arena rg_arena;

rg_arena *rg_arena_new(void);
void rg_arena_free(rg_arena *arena);
/* Zeroed memory, aligned to 16 bytes; NULL when memory (or count*size) runs out. Owner: the arena.
 */
void *rg_arena_alloc(rg_arena *arena, size_t count, size_t size) RG_CHECKED;
char *rg_arena_strdup(rg_arena *arena, const char *text) RG_CHECKED;
char *rg_arena_printf(rg_arena *arena, const char *format, ...) RG_PRINTF(2, 3) RG_CHECKED;
/* A copy of `bytes` bytes. */
void *rg_arena_copy(rg_arena *arena, const void *from, size_t bytes) RG_CHECKED;
/* The n-th allocation from now fails (tests only); 0 turns that off. */
void rg_arena_fail_after(long n);

#define RG_NEW(arena, type) ((type *)rg_arena_alloc((arena), 1, sizeof(type)))
#define RG_NEW_ARRAY(arena, type, count)                                                           \
    ((type *)rg_arena_alloc((arena), (size_t)(count), sizeof(type)))

/* ---- diagnostics ---- */

typedef struct rg_loc {
    const char *file; /* NULL: no place */
    int line;         /* 0: the file as a whole */
} rg_loc;

typedef struct rg_diag {
    rg_status status;
    rg_loc loc;
    const char *text; /* one line, without place and `error[...]` */
    struct rg_diag *next;
} rg_diag;

/* Carries all diagnostics of one command, and the arena in which permanent things live. */
typedef struct rg_ctx {
    rg_arena *arena;
    rg_diag *first, *last;
    int count;
} rg_ctx;

rg_status rg_ctx_init(rg_ctx *ctx) RG_CHECKED;
void rg_ctx_free(rg_ctx *ctx);
/* Records one error and returns `status`, so that `return rg_error(...)` reads well. */
rg_status rg_error(rg_ctx *ctx, rg_status status, rg_loc loc, const char *format, ...)
    RG_PRINTF(4, 5);
/* The same without a place. */
rg_status rg_fail(rg_ctx *ctx, rg_status status, const char *format, ...) RG_PRINTF(3, 4);
/* Memory ran out: records it, without needing memory. */
void rg_record_nomem(rg_ctx *ctx);
/* The same, and returns RG_E_NOMEM; inline, so that checkers of the code see that it is an error.
 */
static inline rg_status rg_nomem(rg_ctx *ctx) {
    rg_record_nomem(ctx);
    return RG_E_NOMEM;
}
/* `file:line: error[status]: text`, one line, no newline. Owner: arena; NULL when memory runs out.
 */
char *rg_diag_format(rg_arena *arena, const rg_diag *diag) RG_CHECKED;

/* ---- text ---- */

/* A growing text. A failed growth is remembered: check `failed` once at the end. */
typedef struct rg_text {
    char *data; /* always terminated once anything was added; NULL before */
    size_t length, capacity;
    bool failed;
} rg_text;

void rg_text_add(rg_text *text, const char *format, ...) RG_PRINTF(2, 3);
void rg_text_add_bytes(rg_text *text, const void *bytes, size_t length);
void rg_text_free(rg_text *text);

/* ---- hashes (XXH3, 128 bits) ---- */

typedef struct rg_hash {
    uint64_t high, low;
} rg_hash;

rg_hash rg_hash_bytes(const void *bytes, size_t length);
/* 32 hex digits and a terminator into `hex`. */
void rg_hash_hex(rg_hash hash, char hex[33]);

/* ---- files ---- */

/* Reads a whole regular file of at most `limit` bytes, terminated by an extra zero byte. Owner:
 * arena. */
rg_status rg_file_read(rg_ctx *ctx, rg_arena *arena, const char *path, size_t limit, char **data,
                       size_t *length) RG_CHECKED;
/* Writes atomically: temporary file beside it, fsync, rename. */
rg_status rg_file_write(rg_ctx *ctx, const char *path, const void *data, size_t length) RG_CHECKED;
/* Creates the folder and those above it, mode 0700 for new ones. */
rg_status rg_file_mkdirs(rg_ctx *ctx, const char *path) RG_CHECKED;

/* ---- the control block: what changes from step to step; every kernel gets one ---- */

/* name, meaning: scalars that expression trees may read (RG_EXPR_CTRL). */
#define RG_CTRL_LIST(X)                                                                            \
    X(COUNT, "count")        /* live images of this batch */                                       \
    X(INV_COUNT, "invcount") /* 1 / count */                                                       \
    X(LR, "lr")              /* learning rate of this step */                                      \
    X(BC1, "bc1")            /* 1 - beta1^t (Adam) */                                              \
    X(BC2, "bc2")            /* 1 - beta2^t (Adam) */                                              \
    X(FIRST,                                                                                       \
      "first") /* 1 at the first step (SGD's momentum buffer starts as the gradient), else 0 */

typedef enum rg_ctrl_id {
#define X(id, text) RG_CTRL_##id,
    RG_CTRL_LIST(X)
#undef X
        RG_CTRL_SCALARS
} rg_ctrl_id;

typedef struct rg_ctrl {
    int32_t live;   /* images of the batch that count */
    int32_t blocks; /* image blocks: ceil(live / 16) */
    float scalar[RG_CTRL_SCALARS];
} rg_ctrl;

/* Images in one block of the activation layout [N/16][H][W][16][C]. */
#define RG_BLOCK 16

#endif
