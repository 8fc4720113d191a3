/* Looks at a plan that came from anywhere: nothing that passes can lead the runtime outside its
 * memory. */
#include "rg_plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 64, MAX_DIM = 1 << 24, MAX_SIDE = 1 << 16 };
#define MAX_ARENA_BYTES   (UINT64_C(1) << 46)
#define MAX_SCRATCH_BYTES (UINT64_C(1) << 32)
#define NONE              UINT32_MAX

static const char *const arena_names[] = {
#define X(id, name) name,
    RG_PLAN_ARENA_LIST(X)
#undef X
};
static const char *const program_names[] = {
#define X(id, name) name,
    RG_PLAN_PROGRAM_LIST(X)
#undef X
};

#define BAD(...) return rg_fail(ctx, RG_E_FORMAT, "bad plan: " __VA_ARGS__)

static bool is_name(const rg_plan *plan, rg_pname name) {
    return name < plan->text_bytes;
}

/* ---- header ---- */

static rg_status check_header(rg_ctx *ctx, const rg_plan *plan) {
    if (plan->magic != RG_PLAN_MAGIC) BAD("it does not begin with RGP1");
    if (plan->version != RG_PLAN_VERSION)
        BAD("version %u, this program reads %u", plan->version, RG_PLAN_VERSION);
    if (plan->max_blocks < 1 || plan->max_blocks > RG_PLAN_MAX_BLOCKS)
        BAD("%u image blocks, must be 1 to %d", plan->max_blocks, RG_PLAN_MAX_BLOCKS);
    if (plan->text_bytes == 0 || !plan->text || plan->text[plan->text_bytes - 1] != 0)
        BAD("its text is not terminated");
    if ((plan->buffer_count && !plan->buffer) || (plan->kernel_count && !plan->kernel) ||
        (plan->arg_count && !plan->arg) || (plan->op_count && !plan->op) ||
        (plan->param_count && !plan->param))
        BAD("a table is missing");
    for (int i = 0; i < RG_ARENA_COUNT; i++)
        if (plan->arena_bytes[i] > MAX_ARENA_BYTES)
            BAD("the arena '%s' has %llu bytes", arena_names[i],
                (unsigned long long)plan->arena_bytes[i]);
    /* The runtime finds gradient and moments of a parameter at the parameter's own offset. */
    for (int i = RG_ARENA_GRAD; i <= RG_ARENA_MOMENT2; i++)
        if (plan->arena_bytes[i] && plan->arena_bytes[i] < plan->arena_bytes[RG_ARENA_PARAM])
            BAD("the arena '%s' is smaller than 'param'", arena_names[i]);
    if (plan->work_lower_bound > plan->arena_bytes[RG_ARENA_WORK])
        BAD("its lower bound of work memory is above the arena's size");
    return RG_OK;
}

static rg_status check_data(rg_ctx *ctx, const rg_plan *plan) {
    const rg_plan_data *data = &plan->data;
    uint32_t most = plan->max_blocks * RG_BLOCK;
    if (!is_name(plan, data->dataset)) BAD("the data set's name lies outside its text");
    if (data->channels < 1 || data->channels > 4 || data->height < 1 || data->width < 1 ||
        data->height > MAX_SIDE || data->width > MAX_SIDE || data->classes < 1 ||
        data->classes > MAX_DIM)
        BAD("images of %u x %u x %u in %u classes", data->height, data->width, data->channels,
            data->classes);
    if (data->batch < 1 || data->batch > most || data->eval_batch < 1 || data->eval_batch > most)
        BAD("batches of %u and %u, its buffers hold 1 to %u", data->batch, data->eval_batch, most);
    for (uint32_t c = 0; c < data->channels; c++)
        if (!isfinite(data->mean[c]) || !isfinite(data->std[c]) || data->std[c] <= 0)
            BAD("mean or deviation of channel %u is out of range", c);
    if (data->optim_kind > 1 || !isfinite(data->lr) || !isfinite(data->beta1) ||
        !isfinite(data->beta2))
        BAD("its optimiser is out of range");
    return RG_OK;
}

/* ---- buffers ---- */

/* Bytes that a layout needs for so many image blocks; UINT64_MAX where the extents are wrong. */
static uint64_t layout_bytes(const rg_plan_buffer *buffer, uint32_t blocks) {
    const uint32_t *dim = buffer->dim;
    uint64_t need = sizeof(float);
    uint32_t factor[6] = {1, 1, 1, 1, 1, 1};
    switch (buffer->layout) {
    case RG_PL_RAW:
        return 0;
    case RG_PL_ACT:
        if (dim[3] < dim[2] || dim[2] < 1) return UINT64_MAX;
        memcpy(factor, (uint32_t[6]){blocks, RG_BLOCK, dim[0], dim[1], dim[3], 1}, sizeof factor);
        break;
    case RG_PL_VEC:
        if (dim[1] < dim[0] || dim[0] < 1) return UINT64_MAX;
        factor[0] = dim[1];
        break;
    case RG_PL_WEIGHT:
        if (buffer->kb < 1 || buffer->cp < dim[0] || buffer->cp % buffer->kb || dim[0] < 1)
            return UINT64_MAX;
        memcpy(factor, (uint32_t[6]){buffer->cp, dim[1], dim[2], dim[3], 1, 1}, sizeof factor);
        break;
    default:
        return UINT64_MAX;
    }
    for (int i = 0; i < 6; i++)
        if (factor[i] < 1 || factor[i] > MAX_DIM || __builtin_mul_overflow(need, factor[i], &need))
            return UINT64_MAX;
    return need;
}

static rg_status check_buffer(rg_ctx *ctx, const rg_plan *plan, uint32_t index) {
    const rg_plan_buffer *buffer = &plan->buffer[index];
    if (!is_name(plan, buffer->name)) BAD("the name of buffer %u lies outside its text", index);
    const char *name = rg_plan_text(plan, buffer->name);
    if (buffer->arena >= RG_ARENA_COUNT) BAD("buffer '%s' is in arena %u", name, buffer->arena);
    uint64_t end;
    if (__builtin_add_overflow(buffer->offset, buffer->bytes, &end) ||
        end > plan->arena_bytes[buffer->arena])
        BAD("buffer '%s' reaches beyond the arena '%s'", name, arena_names[buffer->arena]);
    if (buffer->offset % LINE_BYTES) BAD("buffer '%s' is not aligned to %d", name, LINE_BYTES);
    /* The batch for which an activation is sized depends on its program: see check_arg. */
    uint64_t need = layout_bytes(buffer, 1);
    if (need == UINT64_MAX) BAD("layout or extents of buffer '%s' are wrong", name);
    if (need > buffer->bytes)
        BAD("buffer '%s' has %llu bytes, its layout needs %llu", name,
            (unsigned long long)buffer->bytes, (unsigned long long)need);
    return RG_OK;
}

/* ---- overlaps ---- */

static int by_offset(const void *left, const void *right) {
    const rg_plan_buffer *a = *(const rg_plan_buffer *const *)left;
    const rg_plan_buffer *b = *(const rg_plan_buffer *const *)right;
    if (a->arena != b->arena) return a->arena < b->arena ? -1 : 1;
    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    return (a > b) - (a < b);
}

/* Sorts the list; two different buffers of it that share bytes, or false. */
static bool find_overlap(const rg_plan_buffer **list, size_t count, const rg_plan_buffer **first,
                         const rg_plan_buffer **second) {
    const rg_plan_buffer *reach = NULL; /* of those before, the one that ends last */
    qsort(list, count, sizeof *list, by_offset);
    for (size_t i = 0; i < count; i++) {
        if (reach == list[i] || list[i]->bytes == 0) continue;
        if (reach && reach->arena == list[i]->arena &&
            list[i]->offset < reach->offset + reach->bytes) {
            *first = reach;
            *second = list[i];
            return true;
        }
        reach = list[i];
    }
    return false;
}

/* ---- kernels and programs ---- */

static bool is_identifier(const char *text) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    return *text && strchr(letters, *text) && text[strspn(text, allowed)] == 0;
}

static rg_status check_kernel(rg_ctx *ctx, const rg_plan *plan, uint32_t index) {
    const rg_plan_kernel *kernel = &plan->kernel[index];
    if (!is_name(plan, kernel->symbol) || !is_name(plan, kernel->key))
        BAD("symbol or key of kernel %u lies outside its text", index);
    const char *symbol = rg_plan_text(plan, kernel->symbol), *key = rg_plan_text(plan, kernel->key);
    if (!is_identifier(symbol)) BAD("the symbol of kernel %u is not a C name", index);
    if (strlen(key) != 32 || strspn(key, "0123456789abcdef") != 32)
        BAD("the key of kernel '%s' is not 32 hex digits", symbol);
    uint64_t tiles = (uint64_t)kernel->tiles_per_block * plan->max_blocks + kernel->tiles_fixed;
    if (tiles > INT32_MAX) BAD("kernel '%s' has too many tiles", symbol);
    if (kernel->scratch_bytes > MAX_SCRATCH_BYTES)
        BAD("kernel '%s' wants %llu bytes of scratch", symbol,
            (unsigned long long)kernel->scratch_bytes);
    if (!(kernel->flop_per_image >= 0) || !isfinite(kernel->flop_per_image) ||
        !(kernel->bytes_per_image >= 0) || !isfinite(kernel->bytes_per_image))
        BAD("FLOP or bytes of kernel '%s' are out of range", symbol);
    return RG_OK;
}

/* Blocks that a program's launches cover; 0 where it sees no images. */
static uint32_t program_blocks(const rg_plan *plan, int program) {
    uint32_t batch = program == RG_PP_GRAD                               ? plan->data.batch
                     : program == RG_PP_EVAL || program == RG_PP_PREDICT ? plan->data.eval_batch
                                                                         : 0;
    if (program == RG_PP_INPUT) return plan->max_blocks;
    return (batch + RG_BLOCK - 1) / RG_BLOCK;
}

static rg_status check_op(rg_ctx *ctx, const rg_plan *plan, const rg_plan_op *op, uint32_t blocks) {
    if (!is_name(plan, op->label)) BAD("the label of an op lies outside its text");
    const char *label = rg_plan_text(plan, op->label);
    if (op->kind > RG_PO_FILL || op->wait > 1) BAD("op '%s' has a wrong kind or wait", label);
    if (op->arg_count > plan->arg_count || op->first_arg > plan->arg_count - op->arg_count)
        BAD("the arguments of op '%s' lie outside their table", label);
    if (op->kind == RG_PO_LAUNCH && op->kernel >= plan->kernel_count)
        BAD("op '%s' launches kernel %u of %u", label, op->kernel, plan->kernel_count);
    uint32_t want = op->kind == RG_PO_LAUNCH ? plan->kernel[op->kernel].arg_count : 1;
    if (op->arg_count != want)
        BAD("op '%s' has %u arguments, wants %u", label, op->arg_count, want);
    for (uint32_t i = 0; i < op->arg_count; i++) {
        const rg_plan_buffer *buffer = &plan->buffer[plan->arg[op->first_arg + i]];
        if (buffer->layout == RG_PL_ACT &&
            layout_bytes(buffer, blocks ? blocks : 1) > buffer->bytes)
            BAD("op '%s': buffer '%s' is too small for %u image blocks", label,
                rg_plan_text(plan, buffer->name), blocks);
    }
    return RG_OK;
}

/* Ops first..end run without a barrier between them, so that no two buffers of theirs may share
 * bytes of WORK. */
static rg_status check_phase(rg_ctx *ctx, const rg_plan *plan, uint32_t first, uint32_t end,
                             const rg_plan_buffer **list) {
    size_t count = 0;
    for (uint32_t i = first; i < end; i++)
        for (uint32_t a = 0; a < plan->op[i].arg_count; a++) {
            const rg_plan_buffer *buffer = &plan->buffer[plan->arg[plan->op[i].first_arg + a]];
            if (buffer->arena == RG_ARENA_WORK) list[count++] = buffer;
        }
    const rg_plan_buffer *one, *two;
    if (find_overlap(list, count, &one, &two))
        BAD("buffers '%s' and '%s' share memory at op '%s'", rg_plan_text(plan, one->name),
            rg_plan_text(plan, two->name), rg_plan_text(plan, plan->op[first].label));
    return RG_OK;
}

/* The list has room for the arguments of all ops of a program. */
static rg_status new_list(rg_ctx *ctx, const rg_plan *plan, uint32_t first, uint32_t end,
                          const rg_plan_buffer ***list) {
    uint64_t total = 1;
    for (uint32_t i = first; i < end; i++) total += plan->op[i].arg_count;
    *list = RG_NEW_ARRAY(ctx->arena, const rg_plan_buffer *, total);
    return *list ? RG_OK : rg_nomem(ctx);
}

static rg_status check_program(rg_ctx *ctx, const rg_plan *plan, int id) {
    const rg_plan_program *program = &plan->program[id];
    if (program->op_count > plan->op_count ||
        program->first_op > plan->op_count - program->op_count)
        BAD("the ops of program '%s' lie outside their table", program_names[id]);
    uint32_t end = program->first_op + program->op_count, phase = program->first_op;
    for (uint32_t i = program->first_op; i < end; i++)
        RG_TRY(check_op(ctx, plan, &plan->op[i], program_blocks(plan, id)));
    const rg_plan_buffer **list;
    RG_TRY(new_list(ctx, plan, program->first_op, end, &list));
    for (uint32_t i = program->first_op; i < end; i++) {
        if (i + 1 < end && !plan->op[i + 1].wait) continue;
        RG_TRY(check_phase(ctx, plan, phase, i + 1, list));
        phase = i + 1;
    }
    return RG_OK;
}

/* ---- parameters ---- */

static bool shape_fits(const rg_plan_param *param, const rg_plan_buffer *buffer) {
    const uint32_t *dim = buffer->dim;
    const uint64_t *shape = param->shape;
    if (buffer->layout == RG_PL_VEC) return param->rank == 1 && shape[0] == dim[0];
    if (buffer->layout != RG_PL_WEIGHT || shape[0] != dim[0]) return false;
    if (param->rank == 2) return shape[1] == (uint64_t)dim[3] * dim[1] * dim[2];
    return param->rank == 4 && shape[1] == dim[3] && shape[2] == dim[1] && shape[3] == dim[2];
}

static rg_status check_param(rg_ctx *ctx, const rg_plan *plan, uint32_t index) {
    const rg_plan_param *param = &plan->param[index];
    if (!is_name(plan, param->name)) BAD("the name of parameter %u lies outside its text", index);
    const char *name = rg_plan_text(plan, param->name);
    if (param->kind > RG_PK_COUNTER) BAD("parameter '%s' has kind %u", name, param->kind);
    if (param->kind == RG_PK_COUNTER) {
        if (param->rank != 0) BAD("counter '%s' has rank %u", name, param->rank);
        return RG_OK;
    }
    if (param->buffer >= plan->buffer_count)
        BAD("parameter '%s' is in buffer %u of %u", name, param->buffer, plan->buffer_count);
    const rg_plan_buffer *buffer = &plan->buffer[param->buffer];
    uint32_t arena = param->kind == RG_PK_TRAINED ? RG_ARENA_PARAM : RG_ARENA_STATE;
    if (buffer->arena != arena)
        BAD("parameter '%s' is in the arena '%s'", name, arena_names[buffer->arena]);
    if (!shape_fits(param, buffer)) BAD("the shape of parameter '%s' is not its buffer's", name);
    if (param->init > RG_PI_UNIFORM || !isfinite(param->value) ||
        (param->init == RG_PI_UNIFORM && param->value < 0))
        BAD("the initialisation of parameter '%s' is out of range", name);
    return RG_OK;
}

static int by_text(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Two rows with one name or with common memory would make files ambiguous. */
static rg_status check_param_table(rg_ctx *ctx, const rg_plan *plan) {
    const char **name = RG_NEW_ARRAY(ctx->arena, const char *, plan->param_count + 1);
    const rg_plan_buffer **list =
        RG_NEW_ARRAY(ctx->arena, const rg_plan_buffer *, plan->param_count + 1);
    const rg_plan_buffer *one, *two;
    size_t count = 0;
    if (!name || !list) return rg_nomem(ctx);
    for (uint32_t i = 0; i < plan->param_count; i++) {
        RG_TRY(check_param(ctx, plan, i));
        name[i] = rg_plan_text(plan, plan->param[i].name);
        if (plan->param[i].kind != RG_PK_COUNTER)
            list[count++] = &plan->buffer[plan->param[i].buffer];
    }
    qsort(name, plan->param_count, sizeof *name, by_text);
    for (uint32_t i = 1; i < plan->param_count; i++)
        if (strcmp(name[i - 1], name[i]) == 0) BAD("two parameters are called '%s'", name[i]);
    if (find_overlap(list, count, &one, &two))
        BAD("parameters in buffers '%s' and '%s' share memory", rg_plan_text(plan, one->name),
            rg_plan_text(plan, two->name));
    for (size_t i = 1; i < count; i++)
        if (list[i - 1] == list[i])
            BAD("two parameters are in buffer '%s'", rg_plan_text(plan, list[i]->name));
    return RG_OK;
}

/* ---- well-known buffers ---- */

static rg_status check_io_buffer(rg_ctx *ctx, const rg_plan *plan, const char *what, uint32_t index,
                                 bool needed, const rg_plan_buffer *want) {
    if (index == NONE && !needed) return RG_OK;
    if (index >= plan->buffer_count) BAD("it has no buffer '%s'", what);
    const rg_plan_buffer *got = &plan->buffer[index];
    size_t dims = want->layout == RG_PL_ACT ? 3 : 1;
    if (got->arena != RG_ARENA_IO || got->layout != want->layout ||
        memcmp(got->dim, want->dim, dims * sizeof *got->dim) != 0)
        BAD("the buffer '%s' has a wrong arena, layout or shape", what);
    if (layout_bytes(got, plan->max_blocks) > got->bytes)
        BAD("the buffer '%s' is too small for %u image blocks", what, plan->max_blocks);
    return RG_OK;
}

static rg_status check_io(rg_ctx *ctx, const rg_plan *plan) {
    const rg_plan_data *data = &plan->data;
    bool predict = plan->program[RG_PP_PREDICT].op_count > 0;
    bool loss = plan->program[RG_PP_GRAD].op_count > 0 || plan->program[RG_PP_EVAL].op_count > 0;
    const rg_plan_buffer image = {.layout = RG_PL_ACT,
                                  .dim = {data->height, data->width, data->channels}};
    const rg_plan_buffer label = {.layout = RG_PL_ACT, .dim = {1, 1, 1}};
    const rg_plan_buffer scalar = {.layout = RG_PL_VEC, .dim = {1}};
    const rg_plan_buffer logits = {.layout = RG_PL_ACT, .dim = {1, 1, data->classes}};
    const rg_plan_io *io = &plan->io;
    RG_TRY(check_io_buffer(ctx, plan, "image", io->image, loss || predict, &image));
    RG_TRY(check_io_buffer(ctx, plan, "label", io->label, loss, &label));
    RG_TRY(check_io_buffer(ctx, plan, "loss", io->loss, loss, &scalar));
    RG_TRY(check_io_buffer(ctx, plan, "correct", io->correct, loss, &scalar));
    return check_io_buffer(ctx, plan, "logits", io->logits, predict, &logits);
}

static rg_status check_scaling(rg_ctx *ctx, const rg_plan *plan) {
    const uint32_t buffer[] = {plan->scaling.scale, plan->scaling.steps};
    if (buffer[0] == NONE && buffer[1] == NONE) return RG_OK;
    for (int i = 0; i < 2; i++) {
        if (buffer[i] >= plan->buffer_count)
            BAD("number %d of the loss scaling is in buffer %u of %u", i, buffer[i],
                plan->buffer_count);
        const rg_plan_buffer *at = &plan->buffer[buffer[i]];
        if (at->arena != RG_ARENA_STATE || at->layout != RG_PL_VEC || at->dim[0] != 1)
            BAD("number %d of the loss scaling has a wrong arena, layout or shape", i);
    }
    return RG_OK;
}

static rg_status check_set(rg_ctx *ctx, const rg_plan *plan) {
    const rg_plan_set *set = &plan->set;
    const uint32_t buffer[] = {set->pixels, set->labels, set->order, set->weights};
    if (plan->program[RG_PP_INPUT].op_count == 0) return RG_OK;
    if (plan->data.set_height < 1 || plan->data.set_height > MAX_SIDE || plan->data.set_width < 1 ||
        plan->data.set_width > MAX_SIDE)
        BAD("a data set of %u x %u pixels", plan->data.set_height, plan->data.set_width);
    for (int i = 0; i < 4; i++)
        if (buffer[i] >= plan->buffer_count || plan->buffer[buffer[i]].arena != RG_ARENA_DATA)
            BAD("the data set's buffer %d lies elsewhere", i);
    return RG_OK;
}

rg_status rg_plan_check(rg_ctx *ctx, const rg_plan *plan) {
    RG_TRY(check_header(ctx, plan));
    RG_TRY(check_data(ctx, plan));
    for (uint32_t i = 0; i < plan->buffer_count; i++) RG_TRY(check_buffer(ctx, plan, i));
    for (uint32_t i = 0; i < plan->kernel_count; i++) RG_TRY(check_kernel(ctx, plan, i));
    for (uint32_t i = 0; i < plan->arg_count; i++)
        if (plan->arg[i] >= plan->buffer_count)
            BAD("argument %u is buffer %u of %u", i, plan->arg[i], plan->buffer_count);
    for (int i = 0; i < RG_PP_COUNT; i++) RG_TRY(check_program(ctx, plan, i));
    RG_TRY(check_param_table(ctx, plan));
    RG_TRY(check_io(ctx, plan));
    RG_TRY(check_scaling(ctx, plan));
    return check_set(ctx, plan);
}
