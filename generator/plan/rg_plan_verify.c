#include <string.h>

#include "rg_planner.h"

static rg_status bad(rg_planner *pl, const rg_launch *launch, const char *what,
                     const rg_pbuffer *buffer) {
    return rg_fail(pl->ctx, RG_E_INTERNAL, "plan: kernel %s (%s): %s '%s'", launch->name.symbol,
                   launch->label, what, buffer->name);
}

static bool is_temporary(const rg_pbuffer *buffer) {
    return buffer->arena == RG_ARENA_WORK;
}

/* Written in an earlier phase of the same program, by a launch among those it needs. */
static bool made_before(const rg_planned *out, const rg_launch *reader, uint32_t buffer) {
    for (int32_t i = 0; i < out->launch_count; i++) {
        const rg_launch *launch = &out->launch[i];
        if (launch->program != reader->program || launch->phase >= reader->phase) continue;
        for (int32_t a = 0; a < launch->desc.arg_count; a++)
            if (launch->buffer[a] == buffer && launch->desc.arg[a].written) return true;
    }
    return false;
}

static rg_status check_launch(rg_planner *pl, const rg_launch *launch) {
    bool limited = strcmp(pl->target->name, "cuda") == 0;
    if (limited && launch->desc.arg_count > RG_PLAN_MAX_ARGS)
        return rg_fail(
            pl->ctx, RG_E_LIMIT, "plan: kernel %s (%s) has %d arguments, at most %d can be passed",
            launch->name.symbol, launch->label, launch->desc.arg_count, RG_PLAN_MAX_ARGS);
    for (int32_t a = 0; a < launch->desc.arg_count; a++) {
        const rg_pbuffer *buffer = &pl->out->buffer[launch->buffer[a]];
        const rg_karg *arg = &launch->desc.arg[a];
        if (arg->type != buffer->type || rg_karg_elements(arg, launch->blocks) > buffer->elements)
            return bad(pl, launch, "an argument is larger than its buffer", buffer);
        if (launch->desc.arg[a].written) continue;
        if (is_temporary(buffer) && !made_before(pl->out, launch, launch->buffer[a]))
            return bad(pl, launch, "reads what nothing wrote before:", buffer);
    }
    return RG_OK;
}

static bool alive_together(const rg_pbuffer *a, const rg_pbuffer *b) {
    return is_temporary(a) && is_temporary(b) && a->program == b->program && a->first >= 0 &&
           b->first >= 0 && a->first <= b->last && b->first <= a->last;
}

static rg_status check_overlaps(rg_planner *pl) {
    const rg_planned *out = pl->out;
    for (int32_t i = 0; i < out->buffer_count; i++)
        for (int32_t k = 0; k < i; k++) {
            const rg_pbuffer *a = &out->buffer[i], *b = &out->buffer[k];
            bool apart = a->offset + (uint64_t)rg_pbuffer_bytes(a) <= b->offset ||
                         b->offset + (uint64_t)rg_pbuffer_bytes(b) <= a->offset;
            if (alive_together(a, b) && !apart)
                return rg_fail(pl->ctx, RG_E_INTERNAL,
                               "plan: '%s' and '%s' are alive together and share bytes", a->name,
                               b->name);
        }
    return RG_OK;
}

/* Every trained parameter that has a gradient buffer in use is written once a step. */
static rg_status check_gradients(rg_planner *pl) {
    const rg_planned *out = pl->out;
    const rg_graph *graph = out->program[RG_PP_GRAD].graph;
    if (!graph) return RG_OK;
    for (int32_t r = 0; r < graph->result_count; r++) {
        if (graph->result[r].kind != RG_O_GRAD) continue;
        int writers = 0;
        for (int32_t i = 0; i < out->launch_count; i++)
            for (int32_t a = 0; a < out->launch[i].desc.arg_count; a++)
                writers += out->launch[i].program == RG_PP_GRAD &&
                           out->launch[i].desc.arg[a].written &&
                           out->launch[i].buffer[a] == pl->grad_buffer[graph->result[r].param];
        if (writers != 1)
            return rg_fail(pl->ctx, RG_E_INTERNAL, "plan: the gradient of '%s' is written %d times",
                           graph->param[graph->result[r].param].name, writers);
    }
    return RG_OK;
}

/* No kernel may make a gradient with respect to the image. */
static rg_status check_first_dgrad(rg_planner *pl) {
    const rg_graph *graph = pl->out->program[RG_PP_GRAD].graph;
    for (rg_nid n = 0; graph && n < graph->node_count; n++) {
        const rg_node *node = &graph->node[n];
        if (node->op != RG_OP_CONV2D_FPROP || graph->value[node->in[0]].kind != RG_V_INPUT)
            continue;
        for (rg_nid d = 0; d < graph->node_count; d++)
            if (graph->node[d].op == RG_OP_CONV2D_DGRAD && graph->node[d].in[1] == node->in[1])
                return rg_fail(pl->ctx, RG_E_INTERNAL,
                               "plan: the first convolution's dgrad '%s' was made",
                               graph->node[d].name ? graph->node[d].name : "");
    }
    return RG_OK;
}

/* Graphs and kernels are of one format: the target's. */
static rg_status check_precision(rg_planner *pl) {
    for (int p = 0; p < RG_PP_COUNT; p++)
        if (pl->out->program[p].graph)
            RG_TRY(rg_precision_check(pl->ctx, pl->out->program[p].graph));
    for (int32_t i = 0; i < pl->out->launch_count; i++) {
        const rg_kdesc *desc = &pl->out->launch[i].desc;
        bool contracts = desc->kind == RG_K_CONV || desc->kind == RG_K_WGRAD;
        if (contracts && desc->contr[0].format != pl->target->precision)
            return rg_fail(pl->ctx, RG_E_INTERNAL, "plan: kernel %s computes in %s",
                           pl->out->launch[i].name.symbol, rg_kformat_name(desc->contr[0].format));
    }
    return RG_OK;
}

rg_status rg_plan_verify(rg_planner *pl) {
    RG_TRY(check_precision(pl));
    for (int32_t i = 0; i < pl->out->launch_count; i++)
        RG_TRY(check_launch(pl, &pl->out->launch[i]));
    RG_TRY(check_overlaps(pl));
    RG_TRY(check_gradients(pl));
    return check_first_dgrad(pl);
}
