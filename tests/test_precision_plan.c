/* Mixed precision in the plan: copies of the parameters, types of buffers, f16's loss scale, and no
 * more launches than in f32. Compiles for sm_90; nothing is built or run. */
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

typedef struct compiled {
    rg_ctx ctx;
    rg_cli cli;
    rg_job job;
} compiled;

static void begin(compiled *c, const char *spec, const char *precision) {
    *c = (compiled){.cli = {.command = "build",
                            .spec = spec,
                            .target = "cuda",
                            .device = "cuda",
                            .isa = "native",
                            .arch = "sm_90",
                            .precision = precision,
                            .dump = "", /* no library is looked for, and nothing is printed */
                            .optimise = 1,
                            .quiet = true}};
    assert_int_equal(rg_ctx_init(&c->ctx), RG_OK);
    c->job = (rg_job){.ctx = &c->ctx, .cli = &c->cli};
}

static void end(compiled *c) {
    rg_job_close(&c->job);
    rg_ctx_free(&c->ctx);
}

static void compile(compiled *c, const char *spec, const char *precision) {
    begin(c, spec, precision);
    if (rg_job_compile(&c->job) == RG_OK) return;
    for (const rg_diag *diag = c->ctx.first; diag; diag = diag->next)
        print_error("%s\n", rg_diag_format(c->ctx.arena, diag));
    fail_msg("%s does not compile in %s", spec, precision);
}

static int setup(void **state) {
    (void)state;
    return chdir(RG_SOURCE_DIR);
}

/* Without the finishing stages of split weight gradients: whether there are any is the variant's
 * business. */
static int launches(const compiled *c, rg_plan_program_id program) {
    int count = 0;
    for (int32_t i = 0; i < c->job.planned.launch_count; i++) {
        const rg_launch *launch = &c->job.planned.launch[i];
        bool finish = strncmp(launch->desc.name, "wgrad_finish", 12) == 0;
        count += launch->program == program && !finish;
    }
    return count;
}

static const rg_launch *find_launch(const compiled *c, rg_plan_program_id program,
                                    const char *name) {
    for (int32_t i = 0; i < c->job.planned.launch_count; i++) {
        const rg_launch *launch = &c->job.planned.launch[i];
        if (launch->program == program && strcmp(launch->desc.name, name) == 0) return launch;
    }
    return NULL;
}

/* ---- launches ---- */

static const char *const specs[] = {"specs/tiny/branches.lua", "specs/tiny/plain.lua",
                                    "specs/tiny/squeeze.lua", "specs/tiny/tiny_residual.lua"};
static const char *const narrow[] = {"bf16", "f16"}, *const all[] = {"tf32", "bf16", "f16"};

/* f16's loss scale takes two small ones more. */
static void test_a_step_has_no_more_launches_than_in_f32(void **state) {
    (void)state;
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        compiled plain, c;
        compile(&plain, specs[s], "f32");
        for (size_t p = 0; p < sizeof all / sizeof *all; p++) {
            compile(&c, specs[s], all[p]);
            bool f16 = strcmp(all[p], "f16") == 0;
            assert_true(launches(&c, RG_PP_GRAD) <= launches(&plain, RG_PP_GRAD));
            assert_true(launches(&c, RG_PP_EVAL) <= launches(&plain, RG_PP_EVAL));
            assert_true(launches(&c, RG_PP_UPDATE) <= launches(&plain, RG_PP_UPDATE) + 2 * f16);
            end(&c);
        }
        end(&plain);
    }
}

/* ---- weights ---- */

/* An argument that a contraction takes its weights from. */
static void check_weights(const compiled *c, const rg_launch *launch, uint32_t whole) {
    const rg_planned *out = &c->job.planned;
    for (int32_t i = 0; i < launch->desc.contr_count; i++) {
        int32_t w = launch->desc.contr[i].w_arg;
        const rg_karg *arg = &launch->desc.arg[w];
        const rg_pbuffer *part = &out->buffer[launch->buffer[w]], *all_of = &out->buffer[whole];
        assert_int_equal(part->arena, RG_ARENA_DERIVED);
        assert_int_equal(part->type, all_of->type);
        assert_int_equal(part->elements, rg_karg_elements(arg, 1));
        assert_true(part->offset >= all_of->offset);
        assert_true(part->offset + (uint64_t)rg_pbuffer_bytes(part) <=
                    all_of->offset + (uint64_t)rg_pbuffer_bytes(all_of));
        assert_int_equal(arg->turned, launch->dgrad);
    }
}

/* The buffer that holds a parameter lies where its copy lies, element for element. */
static void check_offsets(const compiled *c) {
    const rg_planned *out = &c->job.planned;
    int found = 0;
    for (int32_t i = 0; i < out->buffer_count; i++)
        for (int32_t k = 0; k < out->buffer_count; k++) {
            const rg_pbuffer *master = &out->buffer[i], *copy = &out->buffer[k];
            size_t length = strlen(master->name);
            if (master->arena != RG_ARENA_PARAM || copy->arena != RG_ARENA_DERIVED) continue;
            if (strncmp(master->name, copy->name, length) != 0 || copy->name[length] != '.' ||
                strcmp(copy->name + length + 1, c->cli.precision) != 0)
                continue;
            found++;
            assert_int_equal(master->elements, copy->elements);
            assert_int_equal(master->offset / 4,
                             copy->offset / (uint64_t)rg_ktype_bytes(copy->type));
        }
    assert_true(found > 5);
}

static void test_contractions_read_one_copy_of_the_parameters(void **state) {
    (void)state;
    for (size_t p = 0; p < sizeof all / sizeof *all; p++) {
        compiled c;
        compile(&c, "specs/tiny/tiny_residual.lua", all[p]);
        const rg_launch *update = find_launch(&c, RG_PP_UPDATE, "adam");
        const rg_launch *derive = find_launch(&c, RG_PP_DERIVE, "round_weights");
        assert_non_null(update);
        assert_non_null(derive);
        uint32_t whole = derive->buffer[derive->desc.arg_count - 1];
        assert_int_equal(update->buffer[update->desc.arg_count - 1], whole);
        for (int32_t i = 0; i < c.job.planned.launch_count; i++) {
            const rg_launch *launch = &c.job.planned.launch[i];
            assert_int_not_equal(launch->desc.kind, RG_K_PACK);
            if (launch->desc.kind == RG_K_CONV) check_weights(&c, launch, whole);
        }
        check_offsets(&c);
        end(&c);
    }
}

/* ---- f16 ---- */

static double run_leaf(void *user, rg_expr_op op, int32_t leaf) {
    const double *value = user; /* of FIN 0, then of the arguments */
    return op == RG_EXPR_FIN ? value[0] : value[1 + leaf];
}

/* The outputs of a run over one number, given its parts' largest and its arguments. */
static void run_one(const rg_launch *launch, double *leaf, double *out) {
    const rg_ksite *site = launch->desc.tail_count ? &launch->desc.tail[0].site : launch->desc.site;
    double value[64];
    assert_true(site->expr.count <= 64);
    rg_expr_eval(&site->expr, run_leaf, leaf, value);
    for (int32_t i = 0; i < site->out_count; i++) out[i] = value[site->out[i].root];
}

/* The numbers of a kernel are those of the reference, over good steps and bad ones. */
static void test_the_loss_scale_follows_its_rule(void **state) {
    (void)state;
    compiled c;
    compile(&c, "specs/tiny/tiny_residual.lua", "f16");
    const rg_launch *next = find_launch(&c, RG_PP_UPDATE, "largest_gradient_tail");
    assert_non_null(next);
    assert_int_equal(next->desc.tail_count, 1);
    rg_loss_scaling want = {.scale = RG_LOSS_SCALE_FIRST};
    double scale = want.scale, steps = 0, out[3];
    for (int step = 0; step < 9000; step++) {
        double largest = step % 4500 == 4000 ? INFINITY : step == 4100 ? NAN : 3.0;
        double leaf[1 + 4] = {largest, 0, 0, scale, steps}; /* and gradients, parts */
        run_one(next, leaf, out);
        assert_true(out[2] == rg_loss_scaling_next(&want, largest));
        scale = out[0];
        steps = out[1];
        assert_true(scale == want.scale && steps == want.steps);
    }
    assert_true(scale ==
                RG_LOSS_SCALE_FIRST * 2); /* doubled at 2000, 4000, 6100, 8100, halved thrice */
    end(&c);
}

static void test_a_step_with_an_overflow_changes_nothing(void **state) {
    (void)state;
    compiled c;
    compile(&c, "specs/tiny/tiny_residual.lua", "f16");
    const rg_launch *update = find_launch(&c, RG_PP_UPDATE, "adam");
    assert_non_null(update);
    const rg_ksite *site = update->desc.site;
    double leaf[1 + 5] = {0, 0.5, INFINITY, 0.25, 0.125, 0}, *value;
    value = rg_arena_alloc(c.ctx.arena, (size_t)site->expr.count, sizeof *value);
    assert_non_null(value);
    rg_expr_eval(&site->expr, run_leaf, leaf, value);
    const double kept[4] = {0.5, 0.25, 0.125, 0.5};
    assert_int_equal(site->out_count, 4);
    for (int i = 0; i < 4; i++) assert_true(value[site->out[i].root] == kept[i]);
    end(&c);
}

/* ---- refusals ---- */

static void expect_usage(const char *const *words, int count, const char *line) {
    rg_ctx ctx;
    rg_cli cli;
    char *argv[8] = {NULL};
    assert_int_equal(rg_ctx_init(&ctx), RG_OK);
    for (int i = 0; i < count; i++) argv[i] = rg_arena_strdup(ctx.arena, words[i]);
    assert_int_equal(rg_cli_parse(&ctx, count, argv, &cli), RG_E_USAGE);
    assert_int_equal(ctx.count, 1);
    assert_string_equal(ctx.first->text, line);
    rg_ctx_free(&ctx);
}

static void test_what_cannot_be_had_is_refused_in_one_line(void **state) {
    (void)state;
    expect_usage((const char *const[]){"resgen", "a.lua", "--target=cuda", "--precision=fp8"}, 4,
                 "--precision=fp8: expected f32, tf32, bf16 or f16");
    expect_usage((const char *const[]){"resgen", "a.lua", "--precision=bf16"}, 3,
                 "--precision=bf16: the cpu target computes in f32 alone");
    static const char *const wide[] = {"bf16", "tf32"};
    for (int i = 0; i < 2; i++) {
        compiled c;
        begin(&c, "specs/tiny/mlp.lua", wide[i]);
        c.cli.arch = "sm_75";
        assert_int_equal(rg_job_compile(&c.job), RG_E_UNSUPPORTED);
        assert_int_equal(c.ctx.count, 1);
        assert_non_null(strstr(c.ctx.first->text, ": sm_75 has f32 and f16 alone"));
        end(&c);
    }
}

/* ---- types ---- */

static void test_no_argument_is_wider_than_its_format_needs(void **state) {
    (void)state;
    for (size_t p = 0; p < sizeof narrow / sizeof *narrow; p++) {
        compiled c;
        compile(&c, "specs/tiny/tiny_residual.lua", narrow[p]);
        rg_ktype type = rg_kformat_type(c.job.target.precision);
        for (int32_t i = 0; i < c.job.planned.launch_count; i++) {
            const rg_launch *launch = &c.job.planned.launch[i];
            for (int32_t a = 0; a < launch->desc.arg_count; a++) {
                const rg_karg *arg = &launch->desc.arg[a];
                bool io = c.job.planned.buffer[launch->buffer[a]].arena == RG_ARENA_IO;
                bool pixels = arg->layout == RG_LAYOUT_ACT && arg->h * arg->w > 1;
                if (pixels && !io) assert_int_equal(arg->type, type);
                if (io || arg->layout == RG_LAYOUT_VEC || arg->layout == RG_LAYOUT_PART)
                    assert_int_equal(arg->type, RG_KTYPE_F32);
            }
        }
        end(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_step_has_no_more_launches_than_in_f32),
        cmocka_unit_test(test_contractions_read_one_copy_of_the_parameters),
        cmocka_unit_test(test_no_argument_is_wider_than_its_format_needs),
        cmocka_unit_test(test_the_loss_scale_follows_its_rule),
        cmocka_unit_test(test_a_step_with_an_overflow_changes_nothing),
        cmocka_unit_test(test_what_cannot_be_had_is_refused_in_one_line),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
