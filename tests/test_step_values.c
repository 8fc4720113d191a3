/* A training step on the emulator and by the graph's interpreter, value by value: each that the
 * kernels store is what its node makes of the values before it, but for what a kernel in f32 may be
 * off. A value that is rounded may be off by that, or be rounded the other way where it lies that
 * near to a tie: nothing else stands between the losses of the two. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver.h"
#include "rg_harness_data.h"

/* Arrays are by buffer of the plan. */
typedef struct step {
    rg_ctx ctx;
    rg_cli cli;
    rg_job job;
    rg_exec *exec;
    rg_ctrl ctrl;
    double **value;        /* before the step, then as the launches so far have left it */
    double **bound;        /* of what the step writes: by how much a kernel may be off; else NULL */
    const rg_karg **shape; /* as a kernel sees it */
    int64_t stored, flips; /* elements of 16 bits; those that were rounded the other way */
    bool ties_alone;       /* the interpreter is given those, else all that the kernels store */
} step;

static void must(const step *s, rg_status status) {
    if (status == RG_OK) return;
    for (const rg_diag *diag = s->ctx.first; diag; diag = diag->next)
        print_error("%s\n", rg_diag_format(s->ctx.arena, diag));
    fail_msg("%s: %s", s->cli.spec, rg_status_name(status));
}

static const rg_program_graph *program(const step *s) {
    return &s->job.planned.program[RG_PP_GRAD];
}

static void *table(step *s, int64_t count, size_t size) {
    void *at = rg_arena_alloc(s->ctx.arena, (size_t)(count + 1) * size, sizeof(double));
    assert_non_null(at);
    memset(at, 0, (size_t)(count + 1) * size);
    return at;
}

/* ---- a step on the emulator ---- */

/* No two buffers share memory, so that all of them can be read when the step is over. */
static void spread_buffers(step *s) {
    rg_plan *plan = &s->job.planned.plan;
    rg_plan_buffer *buffer = table(s, plan->buffer_count, sizeof *buffer);
    uint64_t end = 0;
    for (uint32_t i = 0; i < plan->buffer_count; i++) {
        buffer[i] = plan->buffer[i];
        if (buffer[i].arena != RG_ARENA_WORK) continue;
        buffer[i].offset = end;
        end += (buffer[i].bytes + 255) / 256 * 256;
    }
    plan->buffer = buffer;
    plan->arena_bytes[RG_ARENA_WORK] = end;
}

static void fill_batch(step *s) {
    const rg_plan *plan = &s->job.planned.plan;
    rg_dataset train = {0}, valid = {0};
    const char *told;
    rg_resize *resize;
    must(s, rg_job_data(&s->job, &train, &valid, &told));
    must(s, rg_resize_new(&s->ctx, train.height, train.width, plan->data.height, plan->data.width,
                          &resize));
    uint32_t *order = table(s, s->ctrl.live, sizeof *order);
    for (int32_t i = 0; i < s->ctrl.live; i++) order[i] = (uint32_t)i;
    must(s, rg_data_fill(&s->ctx, s->exec, &train, resize, order, s->ctrl.live));
    must(s, rg_exec_finish(&s->ctx, s->exec));
    rg_dataset_free(&train);
    rg_dataset_free(&valid);
}

/* What a buffer holds now. */
static double *fetch(step *s, uint32_t index) {
    const rg_pbuffer *from = &s->job.planned.buffer[index];
    double *to = table(s, from->elements, sizeof *to);
    if (from->arena == RG_ARENA_DATA) return to;
    must(s, rg_exec_fetch(&s->ctx, s->exec, index));
    rg_hbuffer held = {.data = (unsigned char *)rg_exec_buffer(s->exec, index), .type = from->type};
    const rg_hdata data = {.count = 1, .buffer = &held};
    for (int64_t i = 0; i < from->elements; i++) to[i] = rg_hdata_get(&data, 0, i);
    return to;
}

static void run_step(step *s, const char *spec, const char *precision) {
    *s = (step){.cli = {.command = "train",
                        .spec = spec,
                        .target = "cuda",
                        .device = "emulate",
                        .isa = "native",
                        .arch = "sm_90",
                        .precision = precision,
                        .data = "synthetic",
                        .cache = RG_BINARY_DIR "/step-cache",
                        .optimise = 1,
                        .quiet = true}};
    assert_int_equal(rg_ctx_init(&s->ctx), RG_OK);
    s->job = (rg_job){.ctx = &s->ctx, .cli = &s->cli};
    must(s, rg_job_compile(&s->job));
    spread_buffers(s);
    must(s, rg_job_build(&s->job));
    must(s, rg_job_exec(&s->job, &s->exec));
    const rg_plan *plan = &s->job.planned.plan;
    s->ctrl = rg_exec_ctrl(plan, s->job.spec->batch, 1, plan->data.lr);
    rg_params_init(s->exec, s->job.spec->seed);
    must(s, rg_exec_run(&s->ctx, s->exec, RG_PP_DERIVE, &s->ctrl));
    fill_batch(s);
    s->value = table(s, plan->buffer_count, sizeof *s->value);
    for (uint32_t i = 0; i < plan->buffer_count; i++) s->value[i] = fetch(s, i);
    must(s, rg_exec_run(&s->ctx, s->exec, RG_PP_GRAD, &s->ctrl));
    must(s, rg_exec_finish(&s->ctx, s->exec));
}

static void end_step(step *s) {
    rg_exec_free(s->exec);
    rg_job_close(&s->job);
    rg_ctx_free(&s->ctx);
}

/* ---- how far each kernel may be off, on the numbers that it was given ---- */

static bool is_partial(const rg_karg *arg) {
    return arg->layout == RG_LAYOUT_PART || arg->layout == RG_LAYOUT_PARTW;
}

/* What gathers parts is off by as much as they are, besides. */
static void bound_launch(step *s, const rg_launch *launch) {
    const rg_kdesc *desc = &launch->desc;
    double **arg = table(s, desc->arg_count, sizeof *arg);
    double **error = table(s, desc->arg_count, sizeof *error);
    for (int32_t a = 0; a < desc->arg_count; a++) {
        uint32_t b = launch->buffer[a];
        int64_t count = s->job.planned.buffer[b].elements;
        arg[a] = table(s, count, sizeof **arg);
        memcpy(arg[a], s->value[b], (size_t)count * sizeof **arg);
        error[a] = desc->arg[a].written        ? table(s, count, sizeof **error)
                   : is_partial(&desc->arg[a]) ? s->bound[b]
                                               : NULL;
    }
    must(s, rg_kdesc_interpret_bound(&s->ctx, desc, &s->ctrl, arg, error));
    for (int32_t a = 0; a < desc->arg_count; a++) {
        uint32_t b = launch->buffer[a];
        s->shape[b] = &desc->arg[a];
        if (!desc->arg[a].written) continue;
        s->bound[b] = error[a];
        s->value[b] = fetch(s, b);
    }
}

static void bound_kernels(step *s) {
    const rg_planned *planned = &s->job.planned;
    s->bound = table(s, planned->buffer_count, sizeof *s->bound);
    s->shape = table(s, planned->buffer_count, sizeof *s->shape);
    for (int32_t i = 0; i < planned->launch_count; i++)
        if (planned->launch[i].program == RG_PP_GRAD) bound_launch(s, &planned->launch[i]);
}

/* ---- the interpreter beside it ---- */

/* Where element i of a value lies in its buffer. */
static int64_t place(const step *s, uint32_t buffer, const rg_type *type, int64_t i) {
    const rg_pbuffer *from = &s->job.planned.buffer[buffer];
    const int32_t *d = type->dim;
    int32_t c = (int32_t)(i % d[3]), w = (int32_t)(i / d[3] % d[2]);
    int32_t h = (int32_t)(i / d[3] / d[2] % d[1]), n = (int32_t)(i / d[3] / d[2] / d[1]);
    if (type->cls == RG_T_WEIGHT) {
        const rg_karg weight = {.layout = RG_LAYOUT_WEIGHT,
                                .k = d[0],
                                .r = d[1],
                                .s = d[2],
                                .c = d[3],
                                .kp = (int32_t)from->cp,
                                .kb = (int32_t)from->kb};
        return rg_karg_weight_index(&weight, n, h, w, c);
    }
    const rg_karg *shape = s->shape[buffer];
    return shape && shape->layout == RG_LAYOUT_ACT ? rg_karg_index(shape, n, h, w, c) : i;
}

static void check_element(step *s, const rg_node *node, uint32_t buffer, int64_t at, double *made) {
    bool narrow = s->job.planned.buffer[buffer].type != RG_KTYPE_F32;
    double stored = s->value[buffer][at], off = fabs(stored - *made);
    double bound = s->bound[buffer][at];
    bool flip = narrow && off != 0;
    if (!s->ties_alone && !(off <= bound))
        fail_msg("%s, %s: %s of '%s': %.9g is stored, %.9g is made, bound %.3g", s->cli.spec,
                 s->cli.precision, rg_op_name(node->op), node->name ? node->name : "", stored,
                 *made, bound);
    s->stored += narrow;
    s->flips += flip;
    if (flip || !s->ties_alone) *made = stored;
}

static void check_node(void *user, rg_interp *interp, const rg_node *node) {
    step *s = user;
    for (int32_t o = 0; o < node->out_count; o++) {
        rg_vid v = node->out[o];
        uint32_t buffer = program(s)->buffer[v];
        if (buffer == UINT32_MAX || !s->bound[buffer]) continue;
        double *made = rg_interp_value(interp, v);
        const rg_type *type = &program(s)->graph->value[v].type;
        for (int64_t i = 0; i < rg_interp_count(interp, v); i++)
            check_element(s, node, buffer, place(s, buffer, type, i), &made[i]);
    }
}

/* `before`: the buffers before the step, statistics among them. */
static void fill_leaves(const step *s, double *const *before, rg_interp *interp) {
    const rg_graph *graph = program(s)->graph;
    for (rg_vid v = 0; v < graph->value_count; v++) {
        if (graph->value[v].kind == RG_V_NODE) continue;
        uint32_t buffer = program(s)->buffer[v];
        double *to = rg_interp_value(interp, v);
        for (int64_t i = 0; i < rg_interp_count(interp, v); i++)
            to[i] = before[buffer][place(s, buffer, &graph->value[v].type, i)];
    }
}

static double interpret(step *s, double *const *before) {
    const rg_graph *graph = program(s)->graph;
    rg_interp *interp;
    double loss = NAN;
    s->stored = s->flips = 0;
    must(s, rg_interp_new(&s->ctx, graph, s->ctrl.live, &interp));
    fill_leaves(s, before, interp);
    rg_interp_watch_nodes(interp, check_node, s);
    must(s, rg_interp_run(&s->ctx, interp, &s->ctrl));
    for (int32_t i = 0; i < graph->result_count; i++)
        if (graph->result[i].kind == RG_O_LOSS)
            loss = rg_interp_value(interp, graph->result[i].value)[0];
    rg_interp_free(interp);
    return loss;
}

/* One rounding in 1000 at most goes the other way: a tie must lie within some units of 2^-24 of it,
 * where the roundings are to 2^-11 or 2^-8. The losses then differ by f32's roundings alone. */
static void check_step(const char *spec, const char *precision) {
    step s;
    run_step(&s, spec, precision);
    size_t buffers = s.job.planned.plan.buffer_count;
    double **before = table(&s, (int64_t)buffers, sizeof *before);
    memcpy(before, s.value, buffers * sizeof *before);
    bound_kernels(&s);
    double loss = s.value[s.job.planned.plan.io.loss][0];
    interpret(&s, before);
    bool narrow = strcmp(precision, "bf16") == 0 || strcmp(precision, "f16") == 0;
    assert_true((s.stored > 10000) == narrow);
    assert_true(s.flips * 1000 <= s.stored);
    print_message("%s, %s: %lld of %lld values of 16 bits were rounded the other way", spec,
                  precision, (long long)s.flips, (long long)s.stored);
    s.ties_alone = true;
    double again = interpret(&s, before);
    print_message("; the loss is %.9g, of the graph given such values alone %.9g\n", loss, again);
    assert_true(fabs(again - loss) <= 1e-6);
    end_step(&s);
}

static void test_ties_alone_part_the_kernels_of_branches_from_their_graph(void **state) {
    (void)state;
    check_step("specs/tiny/branches.lua", "f16");
}

static void test_ties_alone_part_the_kernels_of_a_residual_network_from_their_graph(void **state) {
    (void)state;
    check_step("specs/tiny/tiny_residual.lua", "bf16");
}

/* Numbers are what this is about: kernels without the checks of memory are built in less time. */
static int setup(void **state) {
    (void)state;
    return setenv("RG_EMULATE_CHECKS", "0", 1) || chdir(RG_SOURCE_DIR);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ties_alone_part_the_kernels_of_branches_from_their_graph),
        cmocka_unit_test(test_ties_alone_part_the_kernels_of_a_residual_network_from_their_graph),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
