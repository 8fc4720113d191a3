/* Every row of templates/variants.lua on every case that it applies to, against the
 * double-precision meaning; and the three convolutions against one another. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rg_cases.h"
#include "rg_core.h"
#include "rg_device_cpu.h"
#include "rg_harness.h"
#include "rg_harness_adjoint.h"
#include "rg_harness_data.h"

enum { KERNELS = 1024 };

/* One variant of one case, emitted. */
typedef struct subject {
    const char *label;
    rg_kdesc desc;
    int32_t live;
    rg_emitted text;
    rg_cpu_kernel kernel;
} subject;

typedef struct bench {
    rg_ctx ctx;
    rg_target target;
    rg_tpl *tpl;
    subject *subject;
    int32_t count;
    rg_cpu_library *library;
} bench;

static void fail_with(const rg_ctx *ctx, const char *what) {
    char *line = ctx->last ? rg_diag_format(ctx->arena, ctx->last) : NULL;
    fail_msg("%s: %s", what, line ? line : "no diagnostic");
}

static void bench_open(bench *b, const char *isa, int32_t vector) {
    *b = (bench){.target = {.name = "cpu", .isa = isa, .vector = vector, .max_blocks = 4}};
    assert_int_equal(rg_ctx_init(&b->ctx), RG_OK);
    if (rg_tpl_open(&b->ctx, &b->target, &b->tpl) != RG_OK) fail_with(&b->ctx, "templates");
    b->subject = RG_NEW_ARRAY(b->ctx.arena, subject, KERNELS);
    assert_non_null(b->subject);
}

static void bench_close(bench *b) {
    rg_cpu_close(b->library);
    rg_tpl_close(b->tpl);
    rg_ctx_free(&b->ctx);
}

static rg_kdesc copy_desc(bench *b, const rg_kdesc *desc) {
    rg_kdesc copy = *desc;
    copy.arg = rg_arena_copy(b->ctx.arena, desc->arg, (size_t)desc->arg_count * sizeof *desc->arg);
    assert_non_null(copy.arg);
    return copy;
}

static subject *add_subject(bench *b, const rg_case *one, const rg_candidate *candidate) {
    assert_true(b->count < KERNELS);
    subject *to = &b->subject[b->count++];
    *to = (subject){.label = one->label, .desc = copy_desc(b, &one->desc), .live = one->live};
    rg_case_settle(&to->desc, &candidate->variant, candidate->wino_m);
    if (rg_kdesc_check(&b->ctx, &to->desc) != RG_OK) fail_with(&b->ctx, one->label);
    if (rg_emit_kernel(&b->ctx, b->tpl, &to->desc, &to->text) != RG_OK)
        fail_with(&b->ctx, one->label);
    return to;
}

static void add_case(bench *b, const rg_case *one) {
    rg_candidate *list;
    int32_t count;
    rg_status status = rg_tpl_candidates(&b->ctx, b->tpl, &one->desc, one->dgrad, &list, &count);
    if (status == RG_E_UNSUPPORTED && one->optional) return;
    if (status != RG_OK) fail_with(&b->ctx, one->label);
    for (int32_t i = 0; i < count; i++) add_subject(b, one, &list[i]);
}

/* RG_SAMPLE=n leaves one in n, for builds in which a kernel takes long to compile. */
static int32_t sample_step(void) {
    const char *text = getenv("RG_SAMPLE");
    long step = text ? strtol(text, NULL, 10) : 1;
    return step < 1 || step > KERNELS ? 1 : (int32_t)step;
}

/* The first kernel of each variant stays in any sample. */
static bool is_sampled(const bench *b, int32_t i) {
    if (i % sample_step() == 0) return true;
    for (int32_t k = 0; k < i; k++)
        if (strcmp(b->subject[k].desc.variant.name, b->subject[i].desc.variant.name) == 0)
            return false;
    return true;
}

static void keep_sample(bench *b) {
    int32_t kept = 0;
    bool *stays = RG_NEW_ARRAY(b->ctx.arena, bool, b->count + 1);
    assert_non_null(stays);
    for (int32_t i = 0; i < b->count; i++) stays[i] = is_sampled(b, i);
    for (int32_t i = 0; i < b->count; i++)
        if (stays[i]) b->subject[kept++] = b->subject[i];
    b->count = kept;
}

static void build_all(bench *b) {
    rg_cpu_options options = {
        .isa = b->target.isa, .optimise = 1, .cache_dir = RG_BINARY_DIR "/variants-cache"};
#ifdef RG_ADDRESS_SANITIZER
    options.sanitize = true;
#endif
    rg_cpu_source *source = RG_NEW_ARRAY(b->ctx.arena, rg_cpu_source, b->count);
    rg_cpu_kernel *kernel = RG_NEW_ARRAY(b->ctx.arena, rg_cpu_kernel, b->count);
    rg_cpu_stats stats;
    assert_true(source && kernel);
    for (int32_t i = 0; i < b->count; i++) {
        const rg_emitted *text = &b->subject[i].text;
        source[i] = (rg_cpu_source){text->symbol, text->key, text->source};
    }
    if (rg_cpu_build(&b->ctx, source, b->count, &options, kernel, &stats, &b->library) != RG_OK)
        fail_with(&b->ctx, "build");
    for (int32_t i = 0; i < b->count; i++) b->subject[i].kernel = kernel[i];
}

/* ---- against the meaning ---- */

/* At most one element in fifty may hang on a comparison that is too close to call. */
static bool check_subject(bench *b, const subject *s) {
    rg_harness_result result;
    if (rg_harness_check(&b->ctx, &s->desc, s->kernel, s->live, 7, &result) != RG_OK)
        fail_with(&b->ctx, s->label);
    bool good = result.passed && result.compared > 0 && result.open * 50 <= result.compared;
    if (!good || getenv("RG_TEST_VERBOSE"))
        print_message("%s %s, %s, %s: error %.2g, of its bound %.2g, %lld of %lld open: %s\n",
                      good ? "      " : "WRONG ", s->label, s->desc.variant.name, s->text.symbol,
                      result.error, result.worst, (long long)result.open,
                      (long long)result.compared, result.trouble ? result.trouble : "");
    return good;
}

static bool was_tried(const bench *b, const char *name, size_t length) {
    for (int32_t i = 0; i < b->count; i++)
        if (strncmp(b->subject[i].desc.variant.name, name, length) == 0) return true;
    return false;
}

/* Is the row of the list that is open at `at` the GPU's? Those have a test of their own. */
static bool is_cuda_row(const char *list, const char *at) {
    const char *row = at;
    while (row > list && strncmp(row, "row {", 5) != 0) row--;
    const char *target = strstr(row, "target = \"cuda\"");
    return target && target < at;
}

/* Each `name = "..."` of the list (which may be the beginning of a name that is put together)
 * stands among the subjects. */
static void assert_all_rows_tried(const bench *b) {
    const char *field = "name = \"", *list = rg_tpl_file("variants.lua"), *at = list;
    assert_non_null(at);
    int rows = 0;
    while ((at = strstr(at, field)) != NULL) {
        if (is_cuda_row(list, at++)) continue;
        at += strlen(field) - 1;
        const char *end = strchr(at, '"');
        assert_non_null(end);
        if (!was_tried(b, at, (size_t)(end - at)))
            fail_msg("no case tries variant '%.*s'", (int)(end - at), at);
        rows++;
    }
    assert_true(rows > 0);
}

static void check_all(const char *isa, int32_t vector) {
    bench b;
    bench_open(&b, isa, vector);
    int32_t count, wrong = 0;
    rg_case *cases = rg_cases(b.ctx.arena, vector, &count);
    assert_non_null(cases);
    for (int32_t i = 0; i < count; i++) add_case(&b, &cases[i]);
    assert_all_rows_tried(&b);
    keep_sample(&b);
    build_all(&b);
    for (int32_t i = 0; i < b.count; i++) wrong += !check_subject(&b, &b.subject[i]);
    print_message("%s: %d kernels of %d cases, %d wrong\n", isa, b.count, count, wrong);
    assert_int_equal(wrong, 0);
    bench_close(&b);
}

static bool machine_has(const char *isa) {
    const char *native = rg_cpu_native_isa();
    if (native && (strcmp(native, isa) == 0 || strcmp(native, "avx512") == 0)) return true;
    print_message("skipped: the processor has no %s\n", isa);
    return false;
}

static void test_every_variant_computes_what_its_description_means_avx2(void **state) {
    (void)state;
    if (machine_has("avx2")) check_all("avx2", 8);
}

static void test_every_variant_computes_what_its_description_means_avx512(void **state) {
    (void)state;
    if (machine_has("avx512")) check_all("avx512", 16);
}

static void run(const subject *s, rg_hdata *data) {
    for (int32_t tile = 0; tile < rg_harness_tiles(&s->desc, data->ctrl.blocks); tile++)
        s->kernel(data->arg, &data->ctrl, tile, data->arg[s->desc.arg_count]);
}

/* ---- adjoints ---- */

static void check_triple(bench *b, const rg_conv_shape *shape,
                         const subject *const subject[RG_HROLES]) {
    rg_hbare bare[RG_HROLES];
    rg_cpu_kernel kernel[RG_HROLES];
    rg_hadjoint result;
    for (int i = 0; i < RG_HROLES; i++) {
        kernel[i] = subject[i]->kernel;
        bare[i] = (rg_hbare){&subject[i]->desc, rg_harness_run_cpu(&kernel[i])};
    }
    if (rg_harness_adjoint(&b->ctx, bare, 21, 3, &result) != RG_OK) fail_with(&b->ctx, "adjoint");
    if (!result.passed)
        fail_msg("%dx%dx%d k%d %dx%d stride %d, %s %s %s: <conv(x),y> %.9g, <x,dgrad(y)> %.9g, "
                 "<w,wgrad(x,y)> %.9g",
                 shape->h, shape->w, shape->c, shape->k, shape->r, shape->s, shape->stride,
                 subject[RG_HFPROP]->desc.variant.name, subject[RG_HDGRAD]->desc.variant.name,
                 subject[RG_HWGRAD]->desc.variant.name, result.product[RG_HFPROP],
                 result.product[RG_HDGRAD], result.product[RG_HWGRAD]);
}

/* All variants of the three kernels of a shape; list[i] has count[i] of them. */
static void add_triples(bench *b, const rg_conv_shape *shape, int32_t first[3], int32_t count[3]) {
    static bool (*const make[])(rg_arena *, int32_t, const rg_conv_shape *,
                                rg_case *) = {rg_case_fprop, rg_case_dgrad, rg_case_wgrad};
    for (int i = 0; i < 3; i++) {
        rg_case one;
        assert_true(make[i](b->ctx.arena, b->target.vector, shape, &one));
        first[i] = b->count;
        add_case(b, &one);
        count[i] = b->count - first[i];
    }
}

/* Every variant of each stands in some triple; the longest list sets their number. */
static void check_adjoints(const char *isa, int32_t vector) {
    int32_t step = sample_step();
    bench b;
    bench_open(&b, isa, vector);
    int32_t(*first)[3] = calloc((size_t)rg_conv_shape_count, sizeof *first),
    (*count)[3] = calloc((size_t)rg_conv_shape_count, sizeof *count);
    assert_true(first && count);
    for (int32_t i = 0; i < rg_conv_shape_count; i += step)
        add_triples(&b, &rg_conv_shapes[i], first[i], count[i]);
    build_all(&b);
    for (int32_t i = 0; i < rg_conv_shape_count; i += step)
        for (int32_t j = 0; j < count[i][0] || j < count[i][1] || j < count[i][2]; j++) {
            const subject *triple[RG_HROLES];
            for (int s = 0; s < 3; s++) triple[s] = &b.subject[first[i][s] + j % count[i][s]];
            check_triple(&b, &rg_conv_shapes[i], triple);
        }
    free(first);
    free(count);
    bench_close(&b);
}

static void test_gradients_are_adjoint_to_their_convolution(void **state) {
    (void)state;
    if (machine_has("avx512"))
        check_adjoints("avx512", 16);
    else if (machine_has("avx2"))
        check_adjoints("avx2", 8);
}

/* ---- the optimiser's way of writing where it reads ---- */

static void test_a_run_may_write_where_it_reads(void **state) {
    (void)state;
    if (!machine_has("avx2")) return;
    bench b;
    bench_open(&b, "avx2", 8);
    int32_t count;
    rg_case *cases = rg_cases(b.ctx.arena, 8, &count);
    assert_non_null(cases);
    for (int32_t i = 0; i < count; i++)
        if (strcmp(cases[i].label, "Adam") == 0) add_case(&b, &cases[i]);
    assert_true(b.count > 0);
    build_all(&b);
    const subject *s = &b.subject[0];
    rg_hdata apart, shared;
    assert_int_equal(rg_hdata_new(&b.ctx, &s->desc, 16, &apart), RG_OK);
    assert_int_equal(rg_hdata_new(&b.ctx, &s->desc, 16, &shared), RG_OK);
    assert_int_equal(rg_hdata_fill(&b.ctx, &s->desc, 1, &apart), RG_OK);
    assert_int_equal(rg_hdata_fill(&b.ctx, &s->desc, 1, &shared), RG_OK);
    /* arguments: parameter, gradient, two moments; the new parameter, the new moments */
    static const int from[] = {0, 2, 3};
    for (int i = 0; i < 3; i++) shared.arg[4 + i] = shared.arg[from[i]];
    run(s, &apart);
    run(s, &shared);
    for (int i = 0; i < 3; i++)
        assert_memory_equal(shared.arg[from[i]], apart.arg[4 + i], apart.buffer[4 + i].bytes);
    rg_hdata_free(&apart);
    rg_hdata_free(&shared);
    bench_close(&b);
}

/* ---- NaN ---- */

/* The harness has no NaN among live values: here every fifth is one. */
static void check_nan(bench *b, const subject *s) {
    rg_hdata data;
    if (rg_hdata_new(&b->ctx, &s->desc, s->live, &data) != RG_OK) fail_with(&b->ctx, "data");
    if (rg_hdata_fill(&b->ctx, &s->desc, 1, &data) != RG_OK) fail_with(&b->ctx, "data");
    double *value[3];
    for (int i = 0; i < 3; i++) {
        value[i] = RG_NEW_ARRAY(b->ctx.arena, double, data.buffer[i].elements);
        assert_non_null(value[i]);
    }
    for (int64_t i = 0; i < data.buffer[0].elements; i += 5) data.arg[0][i] = NAN;
    for (int64_t i = 0; i < data.buffer[0].elements; i++) value[0][i] = (double)data.arg[0][i];
    if (rg_kdesc_interpret(&b->ctx, &s->desc, &data.ctrl, value) != RG_OK)
        fail_with(&b->ctx, "meaning");
    run(s, &data);
    const rg_karg *y = &s->desc.arg[1];
    for (int32_t i = 0; i < y->h * y->w * y->c; i++) {
        int64_t at = rg_karg_index(y, s->live - 1, i / y->c / y->w, i / y->c % y->w, i % y->c);
        assert_true(isnan(value[1][at]) ? isnan(data.arg[1][at])
                                        : value[1][at] == (double)data.arg[1][at]);
        assert_true(value[2][at] == (double)data.arg[2][at]);
    }
    rg_hdata_free(&data);
}

static void test_nan_wins_every_maximum(void **state) {
    (void)state;
    const char *isa = rg_cpu_native_isa();
    if (!isa) {
        print_message("skipped: the processor has no AVX2\n");
        return;
    }
    bench b;
    bench_open(&b, isa, strcmp(isa, "avx512") == 0 ? 16 : 8);
    int32_t count;
    rg_case *cases = rg_cases(b.ctx.arena, b.target.vector, &count);
    assert_non_null(cases);
    for (int32_t i = 0; i < count; i++)
        if (strcmp(cases[i].label, "maximum") == 0) add_case(&b, &cases[i]);
    assert_true(b.count > 0);
    build_all(&b);
    for (int32_t i = 0; i < b.count; i++) check_nan(&b, &b.subject[i]);
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_variant_computes_what_its_description_means_avx512),
        cmocka_unit_test(test_every_variant_computes_what_its_description_means_avx2),
        cmocka_unit_test(test_gradients_are_adjoint_to_their_convolution),
        cmocka_unit_test(test_a_run_may_write_where_it_reads),
        cmocka_unit_test(test_nan_wins_every_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
