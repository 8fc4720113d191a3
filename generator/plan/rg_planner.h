/* select, expand, schedule: from fused programs to the plan. */
#ifndef RG_PLANNER_H
#define RG_PLANNER_H

#include "rg_emit.h"
#include "rg_fuse.h"
#include "rg_plan.h"

/* A buffer while the plan is made. */
typedef struct rg_pbuffer {
    const char *name;
    rg_plan_arena arena;
    rg_plan_layout layout;
    uint32_t dim[4], cp, kb;
    rg_ktype type;
    int64_t elements;    /* at the largest batch of its program */
    uint64_t offset;     /* bytes */
    bool placed;         /* IO, DERIVED: its offset is given */
    int32_t program;     /* WORK: whose; else -1 */
    int32_t first, last; /* WORK: phases of that program in which it holds something */
} rg_pbuffer;

static inline int64_t rg_pbuffer_bytes(const rg_pbuffer *buffer) {
    return buffer->elements * rg_ktype_bytes(buffer->type);
}

/* Groups of equal descriptions that will share a launch: the first of them, and how many they are
 * (under 2: it is alone). */
typedef struct rg_mates {
    int32_t first, count;
} rg_mates;

/* One launch: a kernel and its buffers. */
typedef struct rg_launch {
    rg_kdesc desc;
    uint32_t *buffer; /* by argument: index of a rg_pbuffer */
    rg_plan_program_id program;
    const char *label; /* the layer */
    int32_t group;     /* of its program's fusion; -1: made by expand */
    rg_mates mates;    /* until they are one; its variant is that of all together */
    int32_t need_count;
    int32_t *need; /* launches of the same program that must be complete */
    int32_t phase;
    bool wait;
    int32_t blocks;          /* image blocks at the program's full batch */
    rg_emitted name;         /* symbol and key; source NULL */
    int32_t candidate_count; /* what select chose from, cheapest first */
    rg_candidate *candidate;
    bool dgrad;
    const char *why; /* the pick, in one phrase */
} rg_launch;

typedef struct rg_program_graph {
    const rg_graph *graph; /* after simplify */
    rg_fusion *fusion;
    int32_t batch;
    uint32_t *buffer; /* by value: where it is stored; UINT32_MAX: nowhere (yet) */
} rg_program_graph;

/* In: graphs of GRAD, EVAL, PREDICT (graph NULL: not wanted), the data part of the plan, the
 * optimiser. */
typedef struct rg_planned {
    rg_program_graph program[RG_PP_COUNT];
    int32_t launch_count, launch_capacity;
    rg_launch *launch; /* after scheduling: by program, in order of execution */
    int32_t buffer_count, buffer_capacity;
    rg_pbuffer *buffer;
    rg_plan plan;
    rg_optim optim;
} rg_planned;

/* Fills everything of `planned` but program[].graph, program[].batch, optim and plan.data, which
 * are given. Owner: ctx's arena. */
rg_status rg_planner_run(rg_ctx *ctx, rg_tpl *tpl, const rg_target *target,
                         rg_planned *planned) RG_CHECKED;

/* ---- between the parts ---- */

typedef struct rg_planner {
    rg_ctx *ctx;
    rg_tpl *tpl;
    const rg_target *target;
    rg_planned *out;
    const rg_graph *table;  /* whose parameter table is the plan's */
    uint32_t *param_buffer; /* by row of the graph's table: PARAM or STATE buffer */
    uint32_t *grad_buffer;  /* by row: GRAD buffer, UINT32_MAX for states */
    uint32_t flat[4];       /* whole arenas PARAM, GRAD, MOMENT1, MOMENT2 as runs */
    uint32_t copy;          /* all parameters in the target's format; UINT32_MAX: f32 */
    uint32_t *copy_buffer;  /* by row: its part of that; UINT32_MAX for states */
    struct {
        uint32_t scale, steps, factor; /* f16: one number each, in STATE; UINT32_MAX: none */
    } loss_scale;
    uint32_t *part_buffer[RG_PP_COUNT]; /* by value: partial sums */
    rg_plan_io io;
    rg_plan_set set;
} rg_planner;

/* Fuses a program; where the target can keep two sums, with the rides that its cost model finds
 * cheaper than two launches. */
rg_status rg_rides_fuse(rg_planner *pl, rg_plan_program_id program) RG_CHECKED;

rg_status rg_buffers_init(rg_planner *pl) RG_CHECKED;
/* The buffer of a value or of partial sums as argument `arg` of a kernel sees it; made where there
 * is none. */
rg_status rg_buffers_bind(rg_planner *pl, rg_plan_program_id program, const rg_bind *bind,
                          const rg_karg *arg, uint32_t *buffer) RG_CHECKED;
/* A new buffer; UINT32_MAX when memory runs out. */
uint32_t rg_buffers_add(rg_planner *pl, const rg_pbuffer *buffer) RG_CHECKED;

/* Launches of all programs: groups, derived weights, finishing stages, the optimiser. */
rg_status rg_expand(rg_planner *pl) RG_CHECKED;
/* Its parts: an empty launch (NULL when memory runs out), the cheapest variant for it, the one site
 * of a run. */
rg_launch *rg_expand_add(rg_planner *pl);
rg_status rg_expand_select(rg_planner *pl, rg_launch *launch) RG_CHECKED;
rg_status rg_expand_site(rg_planner *pl, rg_kdesc *desc, int64_t length) RG_CHECKED;
/* Launches over whole arenas: the optimiser (the first of all), copies of the parameters, the loss
 * scale. */
rg_status rg_update_expand(rg_planner *pl) RG_CHECKED;
/* The program `input`, where the target has one and the data set's images are known. */
rg_status rg_input_expand(rg_planner *pl) RG_CHECKED;
/* Which launches each must wait for. */
rg_status rg_schedule_needs(rg_planner *pl) RG_CHECKED;
/* Target cuda: VEC launches that gather the parts of one launch become its tails. */
rg_status rg_tails(rg_planner *pl) RG_CHECKED;
/* By group of a program: which weight gradients will share a launch. Before select. Owner: ctx's
 * arena. */
rg_status rg_mates_find(rg_planner *pl, rg_plan_program_id program, rg_mates **mates) RG_CHECKED;
/* The cheapest variant for launch `index` and its mates together; where that cannot have several
 * instances, it has no mates any more. */
rg_status rg_mates_select(rg_planner *pl, int32_t index) RG_CHECKED;
/* Mates become one launch, and equal VEC launches that nothing waits for. */
rg_status rg_mates_join(rg_planner *pl) RG_CHECKED;
/* Does a launch read (write) the buffer, where that is asked? */
bool rg_launch_touches(const rg_launch *launch, uint32_t buffer, bool reads, bool writes);
/* Those that stay (home[i] == i) close up; what waited for another waits for its home. */
rg_status rg_launches_close_up(rg_planner *pl, const int32_t *home) RG_CHECKED;
/* Order, phases, liveness, offsets. */
rg_status rg_schedule(rg_planner *pl) RG_CHECKED;
/* The tables of the plan. */
rg_status rg_assemble(rg_planner *pl) RG_CHECKED;
/* Every invariant that the runtime relies on: each buffer is written before it is read, nothing
 * overlaps what is live, gradients are complete, no launch has more arguments than can be passed.
 */
rg_status rg_plan_verify(rg_planner *pl) RG_CHECKED;

#endif
