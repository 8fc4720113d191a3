/* The parameter table: between PyTorch's logical order and the layouts of the kernels, in memory
 * and in files. */
#include "rg_core.h"
#include "rg_json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int64_t rg_params_count(const rg_plan *plan, uint32_t row) {
    uint64_t count = 1;
    for (uint32_t i = 0; i < plan->param[row].rank; i++) count *= plan->param[row].shape[i];
    return (int64_t)count;
}

/* Where a row's tensor begins; NULL where there is none: a counter, the gradient of a running
 * statistic, the moments of SGD. GRAD and the moments share PARAM's offsets but need not have a
 * buffer for each parameter: any buffer tells where they begin. */
static float *find_tensor(rg_exec *exec, uint32_t row, rg_plan_arena which) {
    const rg_plan *plan = rg_exec_plan(exec);
    const rg_plan_param *param = &plan->param[row];
    if (param->kind == RG_PK_COUNTER) return NULL;
    const rg_plan_buffer *home = &plan->buffer[param->buffer];
    if (which == RG_ARENA_PARAM || which == RG_ARENA_STATE)
        return rg_exec_buffer(exec, param->buffer);
    if (param->kind == RG_PK_STATE) return NULL;
    for (uint32_t i = 0; i < plan->buffer_count; i++) {
        const rg_plan_buffer *buffer = &plan->buffer[i];
        if (buffer->arena == which)
            return rg_exec_buffer(exec, i) +
                   (int64_t)(home->offset - buffer->offset) / (int64_t)sizeof(float);
    }
    return NULL;
}

/* Where logical element i = [k][c][tap] lies in [ceil(K/KB)][taps][C][KB]; vectors lie as they are.
 */
static size_t stored_index(const rg_plan_buffer *buffer, uint64_t i) {
    if (buffer->layout != RG_PL_WEIGHT) return i;
    uint64_t taps = (uint64_t)buffer->dim[1] * buffer->dim[2], channels = buffer->dim[3],
             kb = buffer->kb;
    uint64_t tap = i % taps, c = i / taps % channels, k = i / taps / channels;
    return ((k / kb * taps + tap) * channels + c) * kb + k % kb;
}

static const rg_plan_buffer *row_buffer(rg_exec *exec, uint32_t row) {
    const rg_plan *plan = rg_exec_plan(exec);
    return &plan->buffer[plan->param[row].buffer];
}

void rg_params_read(rg_exec *exec, uint32_t row, rg_plan_arena which, float *to) {
    const float *stored = find_tensor(exec, row, which);
    int64_t count = rg_params_count(rg_exec_plan(exec), row);
    if (!stored) {
        memset(to, 0, (size_t)count * sizeof *to);
        return;
    }
    const rg_plan_buffer *buffer = row_buffer(exec, row);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++) to[i] = stored[stored_index(buffer, (uint64_t)i)];
}

void rg_params_write(rg_exec *exec, uint32_t row, rg_plan_arena which, const float *from) {
    float *stored = find_tensor(exec, row, which);
    if (!stored) return;
    int64_t count = rg_params_count(rg_exec_plan(exec), row);
    const rg_plan_buffer *buffer = row_buffer(exec, row);
    memset(stored, 0, (size_t)buffer->bytes);
    rg_exec_touch(exec, which == RG_ARENA_PARAM ? buffer->arena : which);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++) stored[stored_index(buffer, (uint64_t)i)] = from[i];
}

/* ---- initialisation ---- */

static float init_value(const rg_plan_param *param, uint64_t seed, uint32_t row, uint64_t i) {
    if (param->init == RG_PI_CONST) return (float)param->value;
    double unit = rg_random_unit(seed, RG_STREAM_INIT, row, i);
    return (float)((2.0 * unit - 1.0) * param->value);
}

static void init_row(rg_exec *exec, uint32_t row, uint64_t seed) {
    const rg_plan_param *param = &rg_exec_plan(exec)->param[row];
    float *stored = find_tensor(exec, row, RG_ARENA_PARAM);
    if (!stored) return;
    int64_t count = rg_params_count(rg_exec_plan(exec), row);
    const rg_plan_buffer *buffer = row_buffer(exec, row);
    memset(stored, 0, (size_t)buffer->bytes);
    rg_exec_touch(exec, buffer->arena);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; i++)
        stored[stored_index(buffer, (uint64_t)i)] = init_value(param, seed, row, (uint64_t)i);
}

void rg_params_init(rg_exec *exec, uint64_t seed) {
    for (uint32_t row = 0; row < rg_exec_plan(exec)->param_count; row++) init_row(exec, row, seed);
}

/* ---- files: everything is looked at before anything is changed ---- */

enum { ERRORS_SHOWN = 20, SHAPE_TEXT = 128, HEADER_ROOM = 100000000 + 8 };

typedef struct load {
    rg_ctx *ctx;
    rg_arena *arena;
    rg_exec *exec;
    const rg_plan *plan;
    const char *path;
    rg_safetensors file;
    float **value; /* of each row, in logical order; NULL for counters */
    uint64_t steps;
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

static bool check_entry(load *l, const rg_plan_param *param, const rg_tensor_entry *entry) {
    bool counter = param->kind == RG_PK_COUNTER, same = entry->rank == param->rank;
    for (uint32_t i = 0; same && i < param->rank; i++) same = entry->shape[i] == param->shape[i];
    char has[SHAPE_TEXT], wants[SHAPE_TEXT];
    bool type = counter ? strcmp(entry->dtype, "I64") == 0
                        : strcmp(entry->dtype, "F32") == 0 || strcmp(entry->dtype, "F64") == 0;
    if (same && type) return true;
    if (count_error(l))
        rg_fail(l->ctx, RG_E_FORMAT, "'%s': tensor '%s' is %s %s, the network wants %s %s", l->path,
                entry->name, entry->dtype, shape_text(entry->rank, entry->shape, has),
                counter ? "I64" : "F32 or F64", shape_text(param->rank, param->shape, wants));
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

static rg_status stage_counter(load *l, const rg_tensor_entry *entry) {
    int64_t steps;
    memcpy(&steps, entry->data, sizeof steps);
    if (steps < 0 && count_error(l))
        rg_fail(l->ctx, RG_E_FORMAT, "'%s': tensor '%s' is %lld", l->path, entry->name,
                (long long)steps);
    if (steps > 0 && (uint64_t)steps > l->steps) l->steps = (uint64_t)steps;
    return RG_OK;
}

static rg_status stage_row(load *l, uint32_t row) {
    const rg_plan_param *param = &l->plan->param[row];
    const char *name = rg_plan_text(l->plan, param->name);
    const rg_tensor_entry *entry = rg_safetensors_find(&l->file, name);
    if (!entry) { /* PyTorch before 0.4 had no num_batches_tracked */
        if (param->kind != RG_PK_COUNTER && count_error(l))
            rg_fail(l->ctx, RG_E_FORMAT, "'%s': tensor '%s' is missing", l->path, name);
        return RG_OK;
    }
    if (!check_entry(l, param, entry)) return RG_OK;
    if (param->kind == RG_PK_COUNTER) return stage_counter(l, entry);
    int64_t count = rg_params_count(l->plan, row);
    l->value[row] = RG_NEW_ARRAY(l->arena, float, count);
    if (!l->value[row]) return rg_nomem(l->ctx);
    if (!convert(entry, count, l->value[row]) && count_error(l))
        rg_fail(l->ctx, RG_E_FORMAT, "'%s': tensor '%s' has a value beyond the range of F32",
                l->path, name);
    return RG_OK;
}

static void check_strangers(load *l) {
    char text[RG_JSON_SHOWN];
    for (uint32_t i = 0; i < l->file.count; i++) {
        uint32_t row = 0;
        const char *name = l->file.entry[i].name;
        while (row < l->plan->param_count &&
               strcmp(rg_plan_text(l->plan, l->plan->param[row].name), name) != 0)
            row++;
        if (row == l->plan->param_count && count_error(l))
            rg_fail(l->ctx, RG_E_FORMAT, "'%s': tensor '%s' is none of the network's", l->path,
                    rg_json_shown(name, text));
    }
}

/* As large as a file with every parameter in F64 can be: a huge file is refused before it is read.
 */
static size_t largest_file(const rg_plan *plan) {
    size_t bytes = HEADER_ROOM;
    for (uint32_t row = 0; row < plan->param_count; row++)
        bytes += (size_t)rg_params_count(plan, row) * sizeof(double);
    return bytes;
}

static rg_status load_file(load *l) {
    char *bytes;
    size_t length;
    RG_TRY(rg_file_read(l->ctx, l->arena, l->path, largest_file(l->plan), &bytes, &length));
    RG_TRY(rg_safetensors_parse(l->ctx, l->arena, l->path, (uint8_t *)bytes, length, &l->file));
    l->value = RG_NEW_ARRAY(l->arena, float *, l->plan->param_count + 1);
    if (!l->value) return rg_nomem(l->ctx);
    for (uint32_t row = 0; row < l->plan->param_count; row++) RG_TRY(stage_row(l, row));
    check_strangers(l);
    if (l->errors > ERRORS_SHOWN)
        rg_fail(l->ctx, RG_E_FORMAT, "'%s': and %d more", l->path, l->errors - ERRORS_SHOWN);
    if (l->errors > 0) return RG_E_FORMAT;
    for (uint32_t row = 0; row < l->plan->param_count; row++)
        if (l->value[row]) rg_params_write(l->exec, row, RG_ARENA_PARAM, l->value[row]);
    return RG_OK;
}

rg_status rg_params_load(rg_ctx *ctx, rg_exec *exec, const char *path, uint64_t *steps) {
    load l = {.ctx = ctx,
              .arena = rg_arena_new(),
              .exec = exec,
              .plan = rg_exec_plan(exec),
              .path = path};
    if (!l.arena) return rg_nomem(ctx);
    rg_status status = load_file(&l);
    if (status == RG_OK && steps) *steps = l.steps;
    rg_arena_free(l.arena);
    return status;
}

static rg_status save_entry(rg_ctx *ctx, rg_arena *arena, rg_exec *exec, uint32_t row,
                            const int64_t *steps, rg_tensor_entry *entry) {
    const rg_plan *plan = rg_exec_plan(exec);
    const rg_plan_param *param = &plan->param[row];
    *entry = (rg_tensor_entry){
        .name = rg_plan_text(plan, param->name), .dtype = "I64", .rank = param->rank};
    entry->data = (const uint8_t *)steps;
    entry->bytes = sizeof *steps;
    if (param->kind == RG_PK_COUNTER) return RG_OK;
    memcpy(entry->shape, param->shape, sizeof param->shape);
    entry->dtype = "F32";
    entry->bytes = (uint64_t)rg_params_count(plan, row) * sizeof(float);
    float *value = RG_NEW_ARRAY(arena, float, entry->bytes / sizeof(float));
    if (!value) return rg_nomem(ctx);
    rg_params_read(exec, row, RG_ARENA_PARAM, value);
    entry->data = (const uint8_t *)value;
    return RG_OK;
}

static rg_status save_file(rg_ctx *ctx, rg_arena *arena, rg_exec *exec, const char *path,
                           int64_t steps) {
    const rg_plan *plan = rg_exec_plan(exec);
    const char *meta[1][2] = {{"format", "pt"}};
    rg_safetensors file = {.meta_count = 1, .meta = meta};
    file.entry = RG_NEW_ARRAY(arena, rg_tensor_entry, plan->param_count + 1);
    if (!file.entry) return rg_nomem(ctx);
    /* eight-byte numbers first, so that every tensor is aligned for readers that map the file */
    for (int counters = 1; counters >= 0; counters--)
        for (uint32_t row = 0; row < plan->param_count; row++)
            if ((plan->param[row].kind == RG_PK_COUNTER) == counters)
                RG_TRY(save_entry(ctx, arena, exec, row, &steps, &file.entry[file.count++]));
    return rg_safetensors_write(ctx, path, &file);
}

rg_status rg_params_save(rg_ctx *ctx, rg_exec *exec, const char *path, uint64_t steps) {
    rg_arena *arena = rg_arena_new();
    if (!arena) return rg_nomem(ctx);
    rg_status status = rg_exec_fetch_params(ctx, exec);
    if (status == RG_OK) status = save_file(ctx, arena, exec, path, (int64_t)steps);
    rg_arena_free(arena);
    return status;
}
