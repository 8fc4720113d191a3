/* The parameter table: between PyTorch's logical order and the layouts of the kernels. */
#include "rg_core.h"

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
