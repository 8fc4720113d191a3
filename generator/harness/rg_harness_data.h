/* Buffers with red zones and sensible random contents. */
#ifndef RG_HARNESS_DATA_H
#define RG_HARNESS_DATA_H

#include "rg_kdesc.h"

/* One argument: `elements` elements at `data`, 64-byte aligned, between two red zones. */
typedef struct rg_hbuffer {
    unsigned char *data, *block; /* block: what was allocated */
    rg_ktype type;
    int64_t elements;
    size_t bytes;
    rg_hash hash; /* of the contents before the run */
} rg_hbuffer;

/* Buffers for all arguments and, last, the scratch memory. */
typedef struct rg_hdata {
    int32_t count;
    rg_hbuffer *buffer;
    float **arg; /* what a kernel receives: `data` of each; floats where the type is F32 */
    rg_ctrl ctrl;
} rg_hdata;

/* Owner: caller, rg_hdata_free. Everything holds NaN. */
rg_status rg_hdata_new(rg_ctx *ctx, const rg_kdesc *desc, int32_t live, rg_hdata *data) RG_CHECKED;
void rg_hdata_free(rg_hdata *data);

/* Contents of the arguments that are read: numbers that their types, and the formats of the
 * contractions that take them as they are, can hold. Counters are zeros. */
rg_status rg_hdata_fill(rg_ctx *ctx, const rg_kdesc *desc, uint64_t seed,
                        rg_hdata *data) RG_CHECKED;
/* The same for argument `arg` (of words) of an INPUT kernel: rg_harness_input.c. */
rg_status rg_hdata_fill_input(rg_ctx *ctx, const rg_kdesc *desc, int32_t arg, uint64_t seed,
                              rg_hdata *data) RG_CHECKED;
/* In a build under the address sanitizer: it reports what touches the red zones, reads too, from
 * `on` to off. Else nothing. */
void rg_hdata_guard(const rg_hdata *data, bool on);
/* false: the red zones of buffer i are not whole. */
bool rg_hdata_zones_whole(const rg_hdata *data, int32_t i);

/* Element `at` of buffer i, and how it is set (rounded as its type does). */
double rg_hdata_get(const rg_hdata *data, int32_t i, int64_t at);
void rg_hdata_put(rg_hdata *data, int32_t i, int64_t at, double value);

int32_t rg_harness_tiles(const rg_kdesc *desc, int32_t blocks);
/* Subnormals count as zero in this thread, as in the runtime's. Returns the former state. */
unsigned rg_harness_flush(void);
void rg_harness_unflush(unsigned state);

/* Elements of an argument that have a meaning, in a fixed order. */
typedef struct rg_hplace {
    int32_t n, h, w, c; /* WEIGHT, WINO: k, r, s, c (WINO: the point in r) */
    int64_t index;
} rg_hplace;
typedef void (*rg_hvisit)(void *user, const rg_hplace *place);
void rg_hvisit_elements(const rg_karg *arg, const rg_ctrl *ctrl, rg_hvisit visit, void *user);

#endif
