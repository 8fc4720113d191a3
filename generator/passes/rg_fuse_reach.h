/* Inside fuse: what a node is, what a value's tree reads, and which groups something needs. */
#ifndef RG_FUSE_REACH_H
#define RG_FUSE_REACH_H

#include "rg_fuse.h"

/* A search for `group` (or -1) and `value` (or -1) among all that something needs. */
typedef struct rg_fuse_search {
    const rg_fusion *fu;
    int32_t group;
    rg_vid value;
    bool *seen_value, *seen_group;
} rg_fuse_search;

typedef struct rg_fuse_leaves {
    rg_vid *at;
    int32_t count;
} rg_fuse_leaves;

typedef struct rg_fuse_state {
    rg_ctx *ctx;
    rg_fusion *fu;
    rg_fuse_search search;
    rg_fuse_leaves leaves, others;
} rg_fuse_state;

static inline const rg_node *rg_fuse_def(const rg_fusion *fu, rg_vid v) {
    rg_nid n = fu->graph->value[v].def;
    return n < 0 ? NULL : &fu->graph->node[n];
}

/* POINTWISE: is its root a rounding? */
bool rg_fuse_rounds_root(const rg_node *node);
/* Is the node just the sum of its two inputs? */
bool rg_fuse_is_sum_of_two(const rg_node *node);
/* Fills in fu->type. */
rg_status rg_fuse_find_types(rg_ctx *ctx, rg_fusion *fu) RG_CHECKED;

static inline bool rg_fuse_is_big(const rg_fusion *fu, rg_vid v) {
    return !rg_type_is_channel(fu->graph->value[v].type);
}

/* The operand of a joined contraction is stored by no prologue, nor are a rider's weights. */
enum { RG_FUSE_JOINED_OPERAND = 2 };

/* The ride that node n has a part in; NULL: none. */
const rg_ride *rg_fuse_ride_of(const rg_ride *rides, int32_t count, rg_nid n);

/* Does n ride with its group's anchor? */
bool rg_fuse_is_rider(const rg_fusion *fu, rg_nid n);

/* Starts a search; the room for it is made once. */
rg_status rg_fuse_search_begin(rg_ctx *ctx, rg_fuse_search *s, const rg_fusion *fu, int32_t group,
                               rg_vid value) RG_CHECKED;
/* Does making v, or group g, need what is searched for? */
bool rg_fuse_needs_value(rg_fuse_search *s, rg_vid v);
bool rg_fuse_needs_group(rg_fuse_search *s, int32_t g);

/* May v be used at this site of group g (-1: from outside) without going through memory? `operand`:
 * whose prologue; -1 in an epilogue, map or vec site. */
bool rg_fuse_is_inside(const rg_fusion *fu, rg_vid v, int32_t g, int32_t operand);

/* The stored values that the inlined tree of v reads, seen from group g (-1: from outside).
 * Internal values are not leaves; but the anchor's own result is noted in *acc. */
void rg_fuse_collect(const rg_fusion *fu, rg_vid v, int32_t g, rg_fuse_leaves *set, bool *acc);
/* The same of all inputs of a node, from an empty set. */
void rg_fuse_collect_inputs(const rg_fusion *fu, const rg_node *node, int32_t g,
                            rg_fuse_leaves *set, bool *acc);
/* Can `node`'s value be made inside group g? Its tree must touch g, and nothing it reads from
 * elsewhere may need g. */
rg_status rg_fuse_fits(rg_fuse_state *st, const rg_node *node, int32_t g, bool must_touch,
                       bool *ok) RG_CHECKED;

#endif
