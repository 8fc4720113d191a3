/* Parameters in files, and what the optimiser keeps: everything is looked at before anything is
 * changed. */
#include "rg_core.h"
#include "rg_json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ERRORS_SHOWN = 20, SHAPE_TEXT = 128, HEADER_ROOM = 100000000 + 8 };

/* What a file may hold of a row: the parameter, the optimiser's moments. */
enum { FORMS = 3 };
static const rg_plan_arena form_arena[FORMS] = {RG_ARENA_PARAM, RG_ARENA_MOMENT1, RG_ARENA_MOMENT2};
static const char *const form_prefix[FORMS] = {"", "optim.moment1.", "optim.moment2."};

#define TRAIN_STEP  "train.step"
#define TRAIN_BATCH "train.batch"
#define TRAIN_SEED  "train.seed" /* its 64 bits */
#define OPTIM_STEP  "optim.step"
#define SCALE       "optim.loss_scale"
#define SCALE_STEPS "optim.loss_scale_steps"
#define SCALE_MOST  0x1p24f /* as the update keeps it */

/* Does `update` read the arena? */
static bool uses(const rg_plan *plan, rg_plan_arena arena) {
    const rg_plan_program *update = &plan->program[RG_PP_UPDATE];
    for (uint32_t i = 0; i < update->op_count; i++) {
        const rg_plan_op *op = &plan->op[update->first_op + i];
        for (uint32_t a = 0; a < op->arg_count; a++)
            if (plan->buffer[plan->arg[op->first_arg + a]].arena == (uint32_t)arena) return true;
    }
    return false;
}

bool rg_params_has_optim(const rg_plan *plan) {
    return uses(plan, RG_ARENA_MOMENT1) || plan->scaling.scale != UINT32_MAX;
}

static bool has_form(const rg_plan *plan, int form, const rg_plan_param *param) {
    return form == 0 || (param->kind == RG_PK_TRAINED && uses(plan, form_arena[form]));
}

static const char *form_name(rg_arena *arena, const rg_plan *plan, int form, uint32_t row) {
    const char *name = rg_plan_text(plan, plan->param[row].name);
    return form == 0 ? name : rg_arena_printf(arena, "%s%s", form_prefix[form], name);
}

/* ---- loading ---- */

typedef struct load {
    rg_ctx *ctx;
    rg_arena *arena;
    rg_exec *exec;
    const rg_plan *plan;
    const char *path;
    rg_safetensors file;
    float **value[FORMS]; /* of each row, in logical order; NULL for counters */
    float *scale, *scale_steps;
    uint64_t counted; /* the largest of the counters */
    rg_trained trained;
    int errors;
} load;

/* The list stays readable when a file of another network is loaded. */
static bool count_error(load *l) {
    return ++l->errors <= ERRORS_SHOWN;
}

static const char *shape_text(uint32_t rank, const uint64_t *shape, char text[SHAPE_TEXT]) {
    int length = snprintf(text, SHAPE_TEXT, "[");
    for (uint32_t i = 0; i < rank && length < SHAPE_TEXT - 24; i++)
        length += snprintf(text + length, (size_t)(SHAPE_TEXT - length), "%s%llu", i ? "," : "",
                           (unsigned long long)shape[i]);
    snprintf(text + length, (size_t)(SHAPE_TEXT - length), "]");
    return text;
}

static bool check_entry(load *l, const rg_tensor_entry *entry, bool counter, uint32_t rank,
                        const uint64_t *shape) {
    bool same = entry->rank == rank;
    for (uint32_t i = 0; same && i < rank; i++) same = entry->shape[i] == shape[i];
    char has[SHAPE_TEXT], wants[SHAPE_TEXT];
    bool type = counter ? strcmp(entry->dtype, "I64") == 0
                        : strcmp(entry->dtype, "F32") == 0 || strcmp(entry->dtype, "F64") == 0;
    if (same && type) return true;
    if (count_error(l))
        rg_fail(l->ctx, RG_E_FORMAT, "'%s': tensor '%s' is %s %s, the network wants %s %s", l->path,
                entry->name, entry->dtype, shape_text(entry->rank, entry->shape, has),
                counter ? "I64" : "F32 or F64", shape_text(rank, shape, wants));
    return false;
}

/* Tensors of a file may lie at any byte. */
static bool convert(const rg_tensor_entry *entry, int64_t count, float *to) {
    if (strcmp(entry->dtype, "F32") == 0) {
        memcpy(to, entry->data, entry->bytes);
        return true;
    }
    for (int64_t i = 0; i < count; i++) {
        double value;
        memcpy(&value, entry->data + i * (int64_t)sizeof value, sizeof value);
        if (isfinite(value) && fabs(value) >= 0x1.ffffffp127)
            return false; /* from here on it would round to infinity */
        to[i] = (float)value;
    }
    return true;
}

static void stage_count(load *l, const rg_tensor_entry *entry, uint64_t *count) {
    int64_t value;
    if (!check_entry(l, entry, true, 0, NULL)) return;
    memcpy(&value, entry->data, sizeof value);
    if (value < 0 && count_error(l))
        rg_fail(l->ctx, RG_E_FORMAT, "'%s': tensor '%s' is %lld", l->path, entry->name,
                (long long)value);
    if (value > 0) *count = (uint64_t)value;
}

static rg_status stage_values(load *l, const rg_tensor_entry *entry, int64_t count, float **value) {
    *value = RG_NEW_ARRAY(l->arena, float, count);
    if (!*value) return rg_nomem(l->ctx);
    if (!convert(entry, count, *value) && count_error(l))
        rg_fail(l->ctx, RG_E_FORMAT, "'%s': tensor '%s' has a value beyond the range of F32",
                l->path, entry->name);
    return RG_OK;
}

static void count_missing(load *l, const char *name) {
    if (count_error(l)) rg_fail(l->ctx, RG_E_FORMAT, "'%s': tensor '%s' is missing", l->path, name);
}

static rg_status stage_row(load *l, int form, uint32_t row) {
    const rg_plan_param *param = &l->plan->param[row];
    if (!has_form(l->plan, form, param)) return RG_OK;
    const char *name = form_name(l->arena, l->plan, form, row);
    if (!name) return rg_nomem(l->ctx);
    const rg_tensor_entry *entry = rg_safetensors_find(&l->file, name);
    bool counter = param->kind == RG_PK_COUNTER;
    uint64_t count = 0;
    if (!entry) { /* PyTorch before 0.4 had no num_batches_tracked */
        if (!counter) count_missing(l, name);
        return RG_OK;
    }
    if (counter) {
        stage_count(l, entry, &count);
        if (count > l->counted) l->counted = count;
        return RG_OK;
    }
    if (!check_entry(l, entry, false, param->rank, param->shape)) return RG_OK;
    return stage_values(l, entry, rg_params_count(l->plan, row), &l->value[form][row]);
}

/* What the order of the images depends on. */
static void stage_order(load *l) {
    const rg_tensor_entry *batch = rg_safetensors_find(&l->file, TRAIN_BATCH);
    const rg_tensor_entry *seed = rg_safetensors_find(&l->file, TRAIN_SEED);
    if (!batch || !seed) return;
    stage_count(l, batch, &l->trained.batch);
    if (check_entry(l, seed, true, 0, NULL))
        memcpy(&l->trained.seed, seed->data, sizeof l->trained.seed);
}

/* A row of the optimiser's state: it comes from a run whose numbers were finite, and moment2 is a
 * mean of squares. */
static void check_moments(load *l, int form, uint32_t row) {
    const float *value = l->value[form][row];
    bool squares = form_arena[form] == RG_ARENA_MOMENT2;
    for (int64_t i = 0; value && i < rg_params_count(l->plan, row); i++) {
        if (isfinite(value[i]) && !(squares && value[i] < 0)) continue;
        if (count_error(l))
            rg_fail(l->ctx, RG_E_FORMAT, "'%s': tensor '%s%s' holds %g, expected finite numbers%s",
                    l->path, form_prefix[form], rg_plan_text(l->plan, l->plan->param[row].name),
                    (double)value[i], squares ? " not below 0" : "");
        return;
    }
}

/* One number of the loss scaling, 0 or from `least` to `most`; a run in another precision has left
 * none. */
static rg_status stage_number(load *l, const char *name, float least, float most, float **value) {
    const rg_tensor_entry *entry = rg_safetensors_find(&l->file, name);
    if (!entry || l->plan->scaling.scale == UINT32_MAX) return RG_OK;
    if (!check_entry(l, entry, false, 0, NULL)) return RG_OK;
    RG_TRY(stage_values(l, entry, 1, value));
    if (**value != 0 && !(**value >= least && **value <= most) && count_error(l))
        rg_fail(l->ctx, RG_E_FORMAT, "'%s': tensor '%s' is %g, expected 0 or %g to %.9g", l->path,
                name, (double)**value, (double)least, (double)most);
    return RG_OK;
}

/* Moments of a kind that nothing reads. */
static bool has_unused(const load *l, int form) {
    if (uses(l->plan, form_arena[form])) return false;
    for (uint32_t i = 0; i < l->file.count; i++)
        if (strncmp(l->file.entry[i].name, form_prefix[form], strlen(form_prefix[form])) == 0)
            return true;
    return false;
}

/* A file without OPTIM_STEP is none of a run that is to go on, or of PyTorch. */
static rg_status stage_optim(load *l) {
    const rg_tensor_entry *train = rg_safetensors_find(&l->file, TRAIN_STEP);
    const rg_tensor_entry *optim = rg_safetensors_find(&l->file, OPTIM_STEP);
    l->trained.steps = l->counted;
    if (train) stage_count(l, train, &l->trained.steps);
    stage_order(l);
    for (int form = 1; form < FORMS; form++) l->trained.unused[form - 1] = has_unused(l, form);
    if (!optim) return RG_OK;
    stage_count(l, optim, &l->trained.optim_steps);
    for (int form = 1; form < FORMS; form++)
        for (uint32_t row = 0; row < l->plan->param_count; row++) {
            RG_TRY(stage_row(l, form, row));
            check_moments(l, form, row);
        }
    RG_TRY(stage_number(l, SCALE, 1, SCALE_MOST, &l->scale));
    return stage_number(l, SCALE_STEPS, 1, FLT_MAX, &l->scale_steps);
}

static bool is_known(const rg_plan *plan, const char *name) {
    static const char *const numbers[] = {TRAIN_STEP, TRAIN_BATCH, TRAIN_SEED,
                                          OPTIM_STEP, SCALE,       SCALE_STEPS};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(name, numbers[i]) == 0) return true;
    for (int form = 0; form < FORMS; form++) {
        size_t length = strlen(form_prefix[form]);
        if (strncmp(name, form_prefix[form], length) != 0) continue;
        for (uint32_t row = 0; row < plan->param_count; row++)
            if (strcmp(name + length, rg_plan_text(plan, plan->param[row].name)) == 0) return true;
    }
    return false;
}

static void check_strangers(load *l) {
    char text[RG_JSON_SHOWN];
    for (uint32_t i = 0; i < l->file.count; i++) {
        const char *name = l->file.entry[i].name;
        if (!is_known(l->plan, name) && count_error(l))
            rg_fail(l->ctx, RG_E_FORMAT, "'%s': tensor '%s' is none of the network's", l->path,
                    rg_json_shown(name, text));
    }
}

/* As large as a file with every tensor in F64 can be: a huge file is refused before it is read. */
static size_t largest_file(const rg_plan *plan) {
    size_t bytes = HEADER_ROOM;
    for (uint32_t row = 0; row < plan->param_count; row++)
        bytes += FORMS * (size_t)rg_params_count(plan, row) * sizeof(double);
    return bytes;
}

static rg_status stage_file(load *l) {
    char *bytes;
    size_t length;
    RG_TRY(rg_file_read(l->ctx, l->arena, l->path, largest_file(l->plan), &bytes, &length));
    RG_TRY(rg_safetensors_parse(l->ctx, l->arena, l->path, (uint8_t *)bytes, length, &l->file));
    for (int form = 0; form < FORMS; form++) {
        l->value[form] = RG_NEW_ARRAY(l->arena, float *, l->plan->param_count + 1);
        if (!l->value[form]) return rg_nomem(l->ctx);
    }
    for (uint32_t row = 0; row < l->plan->param_count; row++) RG_TRY(stage_row(l, 0, row));
    RG_TRY(stage_optim(l));
    check_strangers(l);
    if (l->errors > ERRORS_SHOWN)
        rg_fail(l->ctx, RG_E_FORMAT, "'%s': and %d more", l->path, l->errors - ERRORS_SHOWN);
    return l->errors > 0 ? RG_E_FORMAT : RG_OK;
}

static void put_number(load *l, uint32_t buffer, const float *value) {
    if (!value) return;
    *rg_exec_buffer(l->exec, buffer) = *value;
    rg_exec_touch(l->exec, RG_ARENA_STATE);
}

static void put_file(load *l) {
    for (int form = 0; form < FORMS; form++)
        for (uint32_t row = 0; row < l->plan->param_count; row++)
            if (l->value[form][row])
                rg_params_write(l->exec, row, form_arena[form], l->value[form][row]);
    put_number(l, l->plan->scaling.scale, l->scale);
    put_number(l, l->plan->scaling.steps, l->scale_steps);
}

rg_status rg_params_load(rg_ctx *ctx, rg_exec *exec, const char *path, rg_trained *trained) {
    load l = {.ctx = ctx,
              .arena = rg_arena_new(),
              .exec = exec,
              .plan = rg_exec_plan(exec),
              .path = path};
    if (!l.arena) return rg_nomem(ctx);
    rg_status status = stage_file(&l);
    if (status == RG_OK) put_file(&l);
    if (status == RG_OK && trained) *trained = l.trained;
    rg_arena_free(l.arena);
    return status;
}

/* ---- saving ---- */

typedef struct save {
    rg_ctx *ctx;
    rg_arena *arena;
    rg_exec *exec;
    const rg_plan *plan;
    int64_t steps, optim_steps, batch, seed;
    rg_safetensors file;
} save;

static void add_count(save *s, const char *name, const int64_t *value) {
    s->file.entry[s->file.count++] = (rg_tensor_entry){
        .name = name, .dtype = "I64", .data = (const uint8_t *)value, .bytes = sizeof *value};
}

static rg_status add_row(save *s, int form, uint32_t row) {
    const rg_plan_param *param = &s->plan->param[row];
    uint64_t count = (uint64_t)rg_params_count(s->plan, row);
    float *value = RG_NEW_ARRAY(s->arena, float, count);
    rg_tensor_entry *entry = &s->file.entry[s->file.count++];
    *entry = (rg_tensor_entry){.name = form_name(s->arena, s->plan, form, row),
                               .dtype = "F32",
                               .rank = param->rank,
                               .data = (const uint8_t *)value,
                               .bytes = count * sizeof *value};
    if (!value || !entry->name) return rg_nomem(s->ctx);
    memcpy(entry->shape, param->shape, sizeof param->shape);
    rg_params_read(s->exec, row, form_arena[form], value);
    return RG_OK;
}

static void add_number(save *s, const char *name, uint32_t buffer) {
    if (buffer == UINT32_MAX) return;
    s->file.entry[s->file.count++] =
        (rg_tensor_entry){.name = name,
                          .dtype = "F32",
                          .data = (const uint8_t *)rg_exec_buffer(s->exec, buffer),
                          .bytes = sizeof(float)};
}

/* Eight-byte numbers first, so that every tensor is aligned for readers that map the file. */
static rg_status add_all(save *s, bool whole) {
    const rg_plan *plan = s->plan;
    if (whole) add_count(s, TRAIN_STEP, &s->steps);
    if (whole) add_count(s, TRAIN_BATCH, &s->batch);
    if (whole) add_count(s, TRAIN_SEED, &s->seed);
    if (whole) add_count(s, OPTIM_STEP, &s->optim_steps);
    for (uint32_t row = 0; row < plan->param_count; row++)
        if (plan->param[row].kind == RG_PK_COUNTER)
            add_count(s, rg_plan_text(plan, plan->param[row].name), &s->steps);
    for (int form = 0; form < (whole ? FORMS : 1); form++)
        for (uint32_t row = 0; row < plan->param_count; row++)
            if (plan->param[row].kind != RG_PK_COUNTER && has_form(plan, form, &plan->param[row]))
                RG_TRY(add_row(s, form, row));
    if (whole) add_number(s, SCALE, plan->scaling.scale);
    if (whole) add_number(s, SCALE_STEPS, plan->scaling.steps);
    return RG_OK;
}

static rg_status save_file(save *s, const char *path, bool whole) {
    const char *meta[1][2] = {{"format", "pt"}};
    s->file = (rg_safetensors){.meta_count = 1, .meta = meta};
    s->file.entry = RG_NEW_ARRAY(s->arena, rg_tensor_entry, FORMS * s->plan->param_count + 6);
    if (!s->file.entry) return rg_nomem(s->ctx);
    RG_TRY(rg_exec_fetch_params(s->ctx, s->exec));
    RG_TRY(add_all(s, whole));
    return rg_safetensors_write(s->ctx, path, &s->file);
}

static rg_status save_params(rg_ctx *ctx, rg_exec *exec, const char *path,
                             const rg_trained *trained, bool whole) {
    save s = {.ctx = ctx,
              .arena = rg_arena_new(),
              .exec = exec,
              .plan = rg_exec_plan(exec),
              .steps = (int64_t)trained->steps,
              .optim_steps = (int64_t)trained->optim_steps,
              .batch = (int64_t)trained->batch,
              .seed = (int64_t)trained->seed};
    if (!s.arena) return rg_nomem(ctx);
    rg_status status = save_file(&s, path, whole);
    rg_arena_free(s.arena);
    return status;
}

rg_status rg_params_save(rg_ctx *ctx, rg_exec *exec, const char *path, uint64_t steps) {
    return save_params(ctx, exec, path, &(rg_trained){.steps = steps}, false);
}

rg_status rg_checkpoint_save(rg_ctx *ctx, rg_exec *exec, const char *path,
                             const rg_trained *trained) {
    return save_params(ctx, exec, path, trained, true);
}
