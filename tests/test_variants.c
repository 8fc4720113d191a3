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

static void build_all(bench *b) {
    rg_cpu_options options = {
        .isa = b->target.isa, .optimise = 1, .cache_dir = RG_BINARY_DIR "/variants-cache"};
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

/* Each `name = "..."` of the list (which may be the beginning of a name that is put together)
 * stands among the subjects. */
static void assert_all_rows_tried(const bench *b) {
    const char *field = "name = \"", *at = rg_tpl_file("variants.lua");
    assert_non_null(at);
    int rows = 0;
    while ((at = strstr(at, field)) != NULL) {
        at += strlen(field);
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

/* ---- adjoints ---- */

/* <conv(x), y> = <x, dgrad(y)> = <w, wgrad(x, y)>: three kernels that share no code of the check
 * above. */
typedef struct triple {
    subject *subject[3]; /* fprop, dgrad, wgrad */
    rg_hdata data[3];
} triple;

typedef struct product {
    const float *a, *b;
    double sum, size;
} product;

static void add_product(void *user, const rg_hplace *at) {
    product *p = user;
    double term = (double)p->a[at->index] * (double)p->b[at->index];
    p->sum += term;
    p->size += fabs(term);
}

static double dot_size;

static double dot(const rg_karg *arg, const rg_ctrl *ctrl, const float *a, const float *b) {
    product p = {a, b, 0, 0};
    rg_hvisit_elements(arg, ctrl, add_product, &p);
    dot_size = fmax(dot_size, p.size);
    return p.sum;
}

static void run(const subject *s, rg_hdata *data) {
    for (int32_t tile = 0; tile < rg_harness_tiles(&s->desc, data->ctrl.blocks); tile++)
        s->kernel(data->arg, &data->ctrl, tile, data->arg[s->desc.arg_count]);
}

/* A kernel's weights from the master: copied, turned or transformed, as its argument's layout and
 * direction ask. */
static void pack_weights(bench *b, const rg_karg *master, const float *from, const subject *to,
                         rg_hdata *data, bool dgrad) {
    rg_karg pair[2] = {*master, to->desc.arg[1]};
    bool wino = pair[1].layout == RG_LAYOUT_WINO;
    pair[0].layout = RG_LAYOUT_WEIGHT;
    pair[0].read = pair[1].written = true;
    int64_t count[2] = {rg_karg_floats(&pair[0], 1), rg_karg_floats(&pair[1], 1)};
    if (!wino && !dgrad) {
        memcpy(data->arg[1], from, (size_t)count[0] * sizeof *from);
        return;
    }
    rg_kdesc pack = {
        .kind = RG_K_PACK, .name = "pack", .arg_count = 2, .arg = pair, .index_arg = -1};
    pack.pack = !wino ? RG_KPACK_TURN : dgrad ? RG_KPACK_WINO_TURN : RG_KPACK_WINO;
    double *in = calloc((size_t)count[0], sizeof *in), *out = calloc((size_t)count[1], sizeof *out);
    assert_true(in && out);
    for (int64_t i = 0; i < count[0]; i++) in[i] = (double)from[i];
    if (rg_kdesc_interpret(&b->ctx, &pack, &data->ctrl, (double *const[]){in, out}) != RG_OK)
        fail_with(&b->ctx, "pack");
    for (int64_t i = 0; i < count[1]; i++) data->arg[1][i] = (float)out[i];
    free(in);
    free(out);
}

static void add_up_parts(const rg_karg *arg, int32_t blocks, float *data) {
    if (arg->layout != RG_LAYOUT_PARTW) return;
    for (int64_t i = 0; i < arg->length; i++)
        for (int64_t p = 1; p < (int64_t)arg->parts_per_block * blocks; p++)
            data[i] += data[p * arg->length + i];
}

static void check_triple(bench *b, const rg_conv_shape *shape, triple *t, int32_t live) {
    const subject *fprop = t->subject[0], *dgrad = t->subject[1], *wgrad = t->subject[2];
    for (int i = 0; i < 3; i++) {
        if (rg_hdata_new(&b->ctx, &t->subject[i]->desc, live, &t->data[i]) != RG_OK)
            fail_with(&b->ctx, "data");
        if (rg_hdata_fill(&b->ctx, &t->subject[i]->desc, 3, &t->data[i]) != RG_OK)
            fail_with(&b->ctx, "data");
    }
    rg_karg master = wgrad->desc.arg[2];
    master.layout = RG_LAYOUT_WEIGHT;
    float *x = t->data[2].arg[0], *dy = t->data[2].arg[1], *dw = t->data[2].arg[2];
    int64_t weights = rg_karg_floats(&master, 1);
    float *w = calloc((size_t)weights, sizeof *w);
    assert_non_null(w);
    for (int64_t i = 0; i < weights; i++)
        w[i] = rg_random_unit(5, RG_STREAM_TEST, 0, (uint64_t)i) - 0.5f;
    memcpy(t->data[0].arg[0], x, (size_t)t->data[0].buffer[0].floats * sizeof *x);
    memcpy(t->data[1].arg[0], dy, (size_t)t->data[1].buffer[0].floats * sizeof *dy);
    pack_weights(b, &master, w, fprop, &t->data[0], false);
    pack_weights(b, &master, w, dgrad, &t->data[1], true);
    for (int i = 0; i < 3; i++) run(t->subject[i], &t->data[i]);
    add_up_parts(&wgrad->desc.arg[2], t->data[2].ctrl.blocks, dw);
    const rg_ctrl *ctrl = &t->data[0].ctrl;
    dot_size = 0;
    double by_y = dot(&fprop->desc.arg[2], ctrl, t->data[0].arg[2], dy);
    double by_x = dot(&dgrad->desc.arg[2], ctrl, t->data[1].arg[2], x);
    double by_w = dot(&master, ctrl, dw, w);
    /* Each product carries a relative error of some units of 2^-24; they add up to less than their
     * worst. */
    double bound = 1e-5 * dot_size + 1e-6;
    if (!(fabs(by_y - by_x) <= bound && fabs(by_y - by_w) <= bound))
        fail_msg("%dx%dx%d k%d %dx%d stride %d, %s %s %s: <conv(x),y> %.9g, <x,dgrad(y)> %.9g, "
                 "<w,wgrad(x,y)> %.9g",
                 shape->h, shape->w, shape->c, shape->k, shape->r, shape->s, shape->stride,
                 fprop->desc.variant.name, dgrad->desc.variant.name, wgrad->desc.variant.name, by_y,
                 by_x, by_w);
    free(w);
    for (int i = 0; i < 3; i++) rg_hdata_free(&t->data[i]);
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
    bench b;
    bench_open(&b, isa, vector);
    int32_t(*first)[3] = calloc((size_t)rg_conv_shape_count, sizeof *first),
    (*count)[3] = calloc((size_t)rg_conv_shape_count, sizeof *count);
    assert_true(first && count);
    for (int32_t i = 0; i < rg_conv_shape_count; i++)
        add_triples(&b, &rg_conv_shapes[i], first[i], count[i]);
    build_all(&b);
    for (int32_t i = 0; i < rg_conv_shape_count; i++)
        for (int32_t j = 0; j < count[i][0] || j < count[i][1] || j < count[i][2]; j++) {
            triple t = {0};
            for (int s = 0; s < 3; s++) t.subject[s] = &b.subject[first[i][s] + j % count[i][s]];
            check_triple(&b, &rg_conv_shapes[i], &t, 21);
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
        assert_memory_equal(shared.arg[from[i]], apart.arg[4 + i],
                            (size_t)apart.buffer[4 + i].floats * sizeof(float));
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
        value[i] = RG_NEW_ARRAY(b->ctx.arena, double, data.buffer[i].floats);
        assert_non_null(value[i]);
    }
    for (int64_t i = 0; i < data.buffer[0].floats; i += 5) data.arg[0][i] = NAN;
    for (int64_t i = 0; i < data.buffer[0].floats; i++) value[0][i] = (double)data.arg[0][i];
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
