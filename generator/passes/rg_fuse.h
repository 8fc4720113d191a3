/* fuse: which values have a home of their own, and in which group; all others are inlined into the
 * trees of their readers.
 *
 * A group becomes one kernel. Anchored groups (a contraction or a window) are there from the start.
 * Then each value, in order, is placed:
 *
 * - element-wise: inlined into its readers, or stored, by the bytes and the arithmetic that each
 *   costs; a stored one lives in the epilogue of the anchor whose result it is made of, else in the
 *   prologue of a convolution that reads all of it, else in a map kernel
 * - sums: partial sums in the epilogue that makes the summed value, else in a map kernel; gathered
 *   by a vec kernel
 * - channel maths: in vec kernels, as many together as order allows
 *
 * Placing a value must leave the groups acyclic: that is looked at each time.
 *
 * Two fprops of one operand may be one kernel, if they are told to: the one rides with the other.
 */
#ifndef RG_FUSE_H
#define RG_FUSE_H

#include "rg_kdesc.h"
#include "rg_passes.h"

typedef enum rg_site_kind {
    RG_SITE_INLINE,
    RG_SITE_ANCHOR,
    RG_SITE_EPILOGUE,
    RG_SITE_PROLOGUE,
    RG_SITE_MAP,
    RG_SITE_VEC
} rg_site_kind;

/* Where a value is made. */
typedef struct rg_home {
    rg_site_kind site;
    int32_t group;   /* -1: inlined, or a leaf of the graph */
    int32_t operand; /* PROLOGUE: which operand of the anchor */
    int32_t part;    /* sums over N: the group that leaves the partial sums; else -1 */
    bool demanded;   /* another kernel reads it from memory, or it is a result */
    double store_cost, inline_cost; /* per image, in bytes (arithmetic counted as bytes); 0 where
                                       there was no choice */
    const char *why;                /* one phrase for `explain` */
} rg_home;

typedef struct rg_group {
    rg_kkind kind;
    rg_nid anchor; /* -1: none */
    rg_nid joined; /* a second contraction that adds into the anchor's accumulator; -1: none */
    rg_nid
        rider; /* a second contraction of the anchor's operand, with a sum of its own; -1: none */
    int32_t count, capacity;
    rg_vid *item; /* values placed here, in order (for sums over N placed in an epilogue or map: the
                     reduce's first output) */
} rg_group;

/* Which values a walk has met already: trees share their parts, so a walk without this could take
 * exponential time. */
typedef struct rg_fuse_marks {
    uint32_t epoch;
    uint32_t *met; /* by value: the last epoch that met it */
} rg_fuse_marks;

typedef struct rg_fusion {
    const rg_graph *graph;
    rg_home *home; /* by value */
    int32_t group_count, group_capacity;
    rg_group *group;
    int32_t **user; /* by value: the nodes that read it */
    int32_t *user_count;
    rg_fuse_marks *marks;
    rg_nid *joins;   /* by node: the contraction into whose accumulator it adds; -1: its own */
    bool *is_result; /* by value */
    rg_ktype *type;  /* by value: how it is kept where it is stored */
} rg_fusion;

/* A fprop that can ride with another: same operand, results of one shape, weights of their own. */
typedef struct rg_ride {
    rg_nid anchor, rider;
} rg_ride;

/* `rides`: those that are to be; of rg_fuse_find_rides. */
rg_status rg_fuse(rg_ctx *ctx, const rg_graph *graph, const rg_ride *rides, int32_t ride_count,
                  rg_fusion **fusion) RG_CHECKED;
/* All that can be, in order, each node in one at most; the larger filter is the anchor. Owner:
 * ctx's arena. */
rg_status rg_fuse_find_rides(rg_ctx *ctx, const rg_fusion *fusion, rg_ride **rides,
                             int32_t *count) RG_CHECKED;

/* What an element-wise, channel or summed value is. */
bool rg_fuse_is_channel_sum(const rg_graph *graph,
                            const rg_node *node); /* REDUCE over N (H, W): leaves partial sums */
bool rg_fuse_is_row_reduce(const rg_node *node);  /* REDUCE over C alone */
/* POINTWISE: the sum of two contractions that can have one accumulator, if it alone reads them. */
bool rg_fuse_adds_contractions(const rg_graph *graph, const rg_node *node);
/* Two fprops of one operand, with weights of their own, that leave results of one shape? They need
 * nothing but the operand and parameters: neither needs the other. */
bool rg_fuse_share_operand(const rg_graph *graph, rg_nid a, rg_nid b);
bool rg_fuse_is_rounding(const rg_node *node); /* POINTWISE: its input rounded, no more */

/* A group's kernel: the description without variant, and the value behind each argument. */
typedef enum rg_bind_kind { RG_BIND_VALUE, RG_BIND_PART } rg_bind_kind;
typedef struct rg_bind {
    rg_bind_kind kind;
    rg_vid value; /* PART: the reduce's first output; for WGRAD's parts: dw */
} rg_bind;

typedef struct rg_frozen {
    rg_kdesc desc;
    rg_bind *bind; /* by argument */
    bool dgrad;    /* the contraction is a dgrad: its weights are the turned master */
} rg_frozen;

/* A walk begins; is this the first time that it meets v? */
void rg_fuse_walk_begin(const rg_fusion *fusion);
bool rg_fuse_meet(const rg_fusion *fusion, rg_vid v);

/* Marks what must be stored: every value that a group reads and another makes. Before rg_freeze. */
rg_status rg_fuse_demand(rg_ctx *ctx, rg_fusion *fusion) RG_CHECKED;
/* `vector`: floats in a vector (channels are padded to it). */
rg_status rg_freeze(rg_ctx *ctx, const rg_fusion *fusion, int32_t group, int32_t vector,
                    rg_frozen *out) RG_CHECKED;
/* Physical channels of a value. */
int32_t rg_fuse_padded(const rg_fusion *fusion, rg_vid value, int32_t vector);

/* Groups that `group` needs complete before it can run (indices into fusion->group, each once).
 * Owner: ctx's arena. */
rg_status rg_fuse_needs(rg_ctx *ctx, const rg_fusion *fusion, int32_t group, int32_t **needs,
                        int32_t *count) RG_CHECKED;

void rg_fuse_dump(rg_text *text, const rg_fusion *fusion);
/* One line a value: fused into what, or why not, and the bytes that saves at batch n. */
void rg_fuse_explain(rg_text *text, const rg_fusion *fusion, int32_t n);
/* A value's name for people. Owner: a static buffer per call site is avoided: text is appended. */
void rg_fuse_value_name(rg_text *text, const rg_graph *graph, rg_vid value);

#endif
