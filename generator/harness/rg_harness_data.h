/* Buffers with red zones and sensible random contents. */
#ifndef RG_HARNESS_DATA_H
#define RG_HARNESS_DATA_H

#include "rg_kdesc.h"

/* One argument: `floats` floats at `data`, 64-byte aligned, between two red zones. */
typedef struct rg_hbuffer {
    float *data, *block; /* block: what was allocated */
    int64_t floats;
    rg_hash hash; /* of the contents before the run */
} rg_hbuffer;

/* Buffers for all arguments and, last, the scratch memory. */
typedef struct rg_hdata {
    int32_t count;
    rg_hbuffer *buffer;
    float **arg; /* what a kernel receives */
    rg_ctrl ctrl;
} rg_hdata;

/* Owner: caller, rg_hdata_free. Everything holds NaN. */
rg_status rg_hdata_new(rg_ctx *ctx, const rg_kdesc *desc, int32_t live, rg_hdata *data) RG_CHECKED;
void rg_hdata_free(rg_hdata *data);

/* Contents of the arguments that are read. */
rg_status rg_hdata_fill(rg_ctx *ctx, const rg_kdesc *desc, uint64_t seed,
                        rg_hdata *data) RG_CHECKED;
/* In a build under the address sanitizer: it reports what touches the red zones, reads too, from
 * `on` to off. Else nothing. */
void rg_hdata_guard(const rg_hdata *data, bool on);
/* false: the red zones of buffer i are not whole. */
bool rg_hdata_zones_whole(const rg_hdata *data, int32_t i);

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
