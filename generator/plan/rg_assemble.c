/* From launches and buffers to the tables of the plan. */
#include <string.h>

#include "rg_planner.h"

typedef struct assembler {
    rg_planner *pl;
    rg_text text;
    rg_plan_buffer *buffer;
    rg_plan_kernel *kernel;
    uint32_t *arg;
    rg_plan_op *op;
    rg_plan_param *param;
} assembler;

static rg_pname intern(assembler *as, const char *name) {
    rg_pname at = (rg_pname)as->text.length;
    rg_text_add_bytes(&as->text, name, strlen(name) + 1);
    return at;
}

static void put_buffers(assembler *as) {
    const rg_planned *out = as->pl->out;
    for (int32_t i = 0; i < out->buffer_count; i++) {
        const rg_pbuffer *from = &out->buffer[i];
        rg_plan_buffer *to = &as->buffer[i];
        *to = (rg_plan_buffer){.name = intern(as, from->name),
                               .arena = from->arena,
                               .layout = from->layout,
                               .cp = from->cp,
                               .kb = from->kb,
                               .offset = from->offset};
        memcpy(to->dim, from->dim, sizeof to->dim);
        to->bytes = (uint64_t)rg_pbuffer_bytes(from);
        bool unused = from->arena == RG_ARENA_WORK && from->first < 0;
        if (unused) to->offset = to->bytes = 0;
    }
}

static uint32_t put_kernel(assembler *as, const rg_launch *launch) {
    rg_plan *plan = &as->pl->out->plan;
    for (uint32_t i = 0; i < plan->kernel_count; i++)
        if (strcmp(as->text.data + as->kernel[i].key, launch->name.key) == 0) return i;
    const rg_kvariant *variant = &launch->desc.variant;
    as->kernel[plan->kernel_count] = (rg_plan_kernel){
        .symbol = intern(as, launch->name.symbol),
        .key = intern(as, launch->name.key),
        .tiles_per_block = (uint32_t)variant->tiles_per_block,
        .tiles_fixed = (uint32_t)variant->tiles_fixed,
        .scratch_bytes = (uint64_t)variant->scratch_floats * 4,
        .threads = (uint32_t)variant->threads,
        .shared_bytes = (uint32_t)variant->shared_bytes,
        .arg_count = (uint32_t)launch->desc.arg_count,
        .flop_per_image = rg_kdesc_flop(&launch->desc, false),
        .bytes_per_image =
            rg_kdesc_bytes(&launch->desc, launch->blocks) / (launch->blocks * RG_BLOCK),
    };
    return plan->kernel_count++;
}

static void put_launches(assembler *as) {
    rg_planned *out = as->pl->out;
    rg_plan *plan = &out->plan;
    for (int p = 0; p < RG_PP_COUNT; p++) {
        plan->program[p].first_op = plan->op_count;
        for (int32_t i = 0; i < out->launch_count; i++) {
            const rg_launch *launch = &out->launch[i];
            if (launch->program != (rg_plan_program_id)p) continue;
            rg_plan_op *op = &as->op[plan->op_count++];
            *op = (rg_plan_op){.kind = RG_PO_LAUNCH,
                               .kernel = put_kernel(as, launch),
                               .first_arg = plan->arg_count,
                               .arg_count = (uint32_t)launch->desc.arg_count,
                               .wait = launch->wait};
            op->label = intern(as, launch->label);
            for (int32_t a = 0; a < launch->desc.arg_count; a++)
                as->arg[plan->arg_count++] = launch->buffer[a];
        }
        plan->program[p].op_count = plan->op_count - plan->program[p].first_op;
    }
}

static bool ends_with(const char *text, const char *end) {
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static rg_status put_params(assembler *as) {
    const rg_graph *table = as->pl->table;
    rg_plan *plan = &as->pl->out->plan;
    for (int32_t i = 0; i < table->param_count; i++) {
        const rg_param *from = &table->param[i];
        rg_plan_param *to = &as->param[plan->param_count++];
        *to = (rg_plan_param){.name = intern(as, from->name),
                              .kind = from->trained ? RG_PK_TRAINED : RG_PK_STATE,
                              .rank = (uint32_t)from->rank,
                              .buffer = as->pl->param_buffer[i],
                              .init = from->init == RG_INIT_CONST ? RG_PI_CONST : RG_PI_UNIFORM,
                              .value = from->value};
        for (int k = 0; k < 4; k++) to->shape[k] = (uint64_t)from->shape[k];
        if (!ends_with(from->name, ".running_var")) continue;
        char *name =
            rg_arena_printf(as->pl->ctx->arena, "%.*s.num_batches_tracked",
                            (int)(strlen(from->name) - strlen(".running_var")), from->name);
        if (!name) return rg_nomem(as->pl->ctx);
        as->param[plan->param_count++] =
            (rg_plan_param){.name = intern(as, name), .kind = RG_PK_COUNTER};
    }
    return RG_OK;
}

static int32_t most_blocks(const rg_planned *out) {
    int32_t blocks = 1;
    for (int p = 0; p < RG_PP_COUNT; p++) {
        int32_t b = (out->program[p].batch + RG_BLOCK - 1) / RG_BLOCK;
        if (b > blocks) blocks = b;
    }
    return blocks;
}

rg_status rg_assemble(rg_planner *pl) {
    rg_planned *out = pl->out;
    rg_plan *plan = &out->plan;
    rg_arena *arena = pl->ctx->arena;
    size_t args = 0, launches = (size_t)out->launch_count + 1;
    for (int32_t i = 0; i < out->launch_count; i++) args += (size_t)out->launch[i].desc.arg_count;
    assembler as = {.pl = pl,
                    .buffer = RG_NEW_ARRAY(arena, rg_plan_buffer, out->buffer_count + 1),
                    .kernel = RG_NEW_ARRAY(arena, rg_plan_kernel, launches),
                    .arg = RG_NEW_ARRAY(arena, uint32_t, args + 1),
                    .op = RG_NEW_ARRAY(arena, rg_plan_op, launches),
                    .param = RG_NEW_ARRAY(arena, rg_plan_param, 2 * pl->table->param_count + 1)};
    if (!as.buffer || !as.kernel || !as.arg || !as.op || !as.param) return rg_nomem(pl->ctx);
    put_buffers(&as);
    put_launches(&as);
    rg_status status = put_params(&as);
    plan->magic = 0x31504752u; /* "RGP1" */
    plan->version = RG_PLAN_VERSION;
    plan->max_blocks = (uint32_t)most_blocks(out);
    plan->buffer_count = (uint32_t)out->buffer_count;
    plan->text_bytes = (uint32_t)as.text.length;
    plan->io = pl->io;
    plan->scaling = (rg_plan_scaling){pl->loss_scale.scale, pl->loss_scale.steps};
    plan->set = pl->set;
    if (status == RG_OK) {
        plan->text = as.text.failed ? NULL : rg_arena_copy(arena, as.text.data, as.text.length);
        if (!plan->text) status = rg_nomem(pl->ctx);
    }
    rg_text_free(&as.text);
    plan->buffer = as.buffer;
    plan->kernel = as.kernel;
    plan->arg = as.arg;
    plan->op = as.op;
    plan->param = as.param;
    return status;
}

rg_status rg_planner_run(rg_ctx *ctx, rg_tpl *tpl, const rg_target *target, rg_planned *planned) {
    rg_planner pl = {.ctx = ctx, .tpl = tpl, .target = target, .out = planned};
    for (int p = 0; p < RG_PP_COUNT; p++)
        if (planned->program[p].graph) RG_TRY(rg_rides_fuse(&pl, (rg_plan_program_id)p));
    RG_TRY(rg_buffers_init(&pl));
    RG_TRY(rg_expand(&pl));
    RG_TRY(rg_schedule_needs(&pl));
    if (strcmp(target->name, "cuda") == 0) RG_TRY(rg_tails(&pl));
    RG_TRY(rg_mates_join(&pl));
    RG_TRY(rg_schedule(&pl));
    RG_TRY(rg_plan_verify(&pl));
    return rg_assemble(&pl);
}
