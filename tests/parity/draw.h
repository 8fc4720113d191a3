/* Random small networks as the text of a spec. */
#ifndef RG_PARITY_DRAW_H
#define RG_PARITY_DRAW_H

#include "rg_base.h"

typedef struct draw {
    uint64_t seed, next;                                      /* numbers drawn so far */
    int32_t height, width, channels, batch, eval_batch, live; /* live: of the partial batch */
    bool smooth;         /* no relu, leaky relu or maximum: float and double agree closely */
    bool narrow;         /* for AVX2 */
    const char *variant; /* of convolutions; NULL: what the cost model picks */
    rg_text text;
    /* the value `x` so far */
    int32_t h, w, c;
    int32_t names; /* given so far */
} draw;

/* A network, the same for the same seed. Owner: caller, rg_text_free of `text`. */
void draw_network(draw *d, uint64_t seed);

#endif
