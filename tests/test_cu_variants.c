/* Every cuda row of templates/variants.lua on every case that it applies to, run by the emulator
 * and held against the double-precision meaning. */
#include <math.h>
#include <stdlib.h>

#include "cu_bench.h"
#include "rg_harness_data.h"

enum { OLD_ARCH = 75, FORMATS = RG_KFORMAT_F16 + 1 };

#define CACHE RG_BINARY_DIR "/cu-variants-cache"

/* The way a plan makes it: tails, where they are asked for, then instances. */
static void add_made(bench *b, const rg_case *one, const rg_candidate *candidate, bool tails,
                     int32_t instances) {
    int32_t added;
    rg_kdesc single = one->desc, made;
    single.arg =
        rg_arena_copy(b->ctx.arena, single.arg, (size_t)single.arg_count * sizeof *single.arg);
    assert_non_null(single.arg);
    rg_case_settle(&single, &candidate->variant, candidate->wino_m);
    if (one->dgrad && strcmp(candidate->weights, "master") == 0) rg_case_turn(&single, VECTOR);
    if (tails) assert_true(rg_case_add_tails(&b->ctx, VECTOR, &single, &added));
    made = single;
    if (instances > 1 && rg_kdesc_repeat(&b->ctx, &single, instances, &made) != RG_OK)
        fail_with(&b->ctx, one->label);
    bench_add(b, one->label, &made, one->live);
}

static void add_subject(bench *b, const rg_case *one, const rg_candidate *candidate) {
    add_made(b, one, candidate, false, 1);
}

/* Nothing on the GPU needs weights in another form. */
static bool may_be_refused(const rg_case *one) {
    return one->optional || one->desc.kind == RG_K_PACK;
}

static int32_t tries_of(const bench *b, rg_kkind kind, const char *name) {
    int32_t tries = 0;
    for (int32_t i = 0; i < b->count; i++)
        tries +=
            b->subject[i].desc.kind == kind && strcmp(b->subject[i].desc.variant.name, name) == 0;
    return tries;
}

static const rg_candidate *least_tried(const bench *b, rg_kkind kind, const rg_candidate *list,
                                       int32_t count) {
    int32_t best = 0, fewest = INT32_MAX;
    for (int32_t i = 0; i < count; i++) {
        int32_t tries = tries_of(b, kind, list[i].variant.name);
        if (tries < fewest) best = i;
        if (tries < fewest) fewest = tries;
    }
    return &list[best];
}

/* Kernels of matrix units take long to compile: of the cases in their formats some are left out, of
 * their variants all but the one that was tried least. RG_TEST_ALL leaves nothing out. */
static bool is_left_out(rg_kformat format, rg_kkind kind, int32_t number) {
    if (getenv("RG_TEST_ALL") || format == RG_KFORMAT_F32 || kind == RG_K_VEC) return false;
    if (kind != RG_K_CONV && kind != RG_K_WGRAD) return number % 2 == 0;
    int32_t fifth = number % 5;
    return (format == RG_KFORMAT_TF32 && fifth >= 2) ||
           (format == RG_KFORMAT_F16 && (fifth < 2 || fifth == 4));
}

typedef enum amount { NONE, THE_LEAST_TRIED, ALL } amount;

static void add_variants(bench *b, const rg_case *one, amount wanted) {
    rg_candidate *list;
    int32_t count;
    rg_status status = rg_tpl_candidates(&b->ctx, b->tpl, &one->desc, one->dgrad, &list, &count);
    if (status == RG_E_UNSUPPORTED && may_be_refused(one)) return;
    if (status != RG_OK) fail_with(&b->ctx, one->label);
    if (wanted == THE_LEAST_TRIED) add_subject(b, one, least_tried(b, one->desc.kind, list, count));
    for (int32_t i = 0; wanted == ALL && i < count; i++) add_subject(b, one, &list[i]);
}

static void add_case(bench *b, const rg_case *one, int32_t number) {
    bool all = b->format == RG_KFORMAT_F32 || getenv("RG_TEST_ALL");
    bool none = is_left_out(b->format, one->desc.kind, number);
    add_variants(b, one, none ? NONE : all ? ALL : THE_LEAST_TRIED);
}

static void add_labelled(bench *b, const rg_case *cases, int32_t count, const char *label) {
    assert_non_null(cases);
    for (int32_t i = 0; i < count; i++)
        if (strncmp(cases[i].label, label, strlen(label)) == 0) add_case(b, &cases[i], i);
}

/* Larger and smaller; the CPU has no such kernel. */
static void add_input(bench *b, const char *label) {
    rg_case cases[2];
    assert_true(rg_case_input(b->ctx.arena, VECTOR, 8, 7, 19, 24, &cases[0]) &&
                rg_case_input(b->ctx.arena, VECTOR, 21, 32, 10, 12, &cases[1]));
    add_labelled(b, cases, 2, label);
}

/* Nor these. */
static void add_riders(bench *b, const char *label) {
    int32_t count;
    const rg_case *cases = rg_rider_cases(b->ctx.arena, VECTOR, &count);
    add_labelled(b, cases, count, label);
}

/* Cases whose label begins with `label`. */
static void add_cases(bench *b, const char *label) {
    int32_t count;
    const rg_case *cases = rg_cases(b->ctx.arena, VECTOR, &count);
    add_labelled(b, cases, count, label);
}

static void add_format_cases(bench *b, rg_kformat format, const char *label) {
    int32_t count;
    const rg_case *cases = rg_format_cases(b->ctx.arena, VECTOR, format, &count);
    add_labelled(b, cases, count, label);
}

/* ---- against the meaning ---- */

/* At most one element in fifty may hang on a comparison that is too close to call. */
static bool check_subject(bench *b, int32_t i) {
    const subject *s = &b->subject[i];
    rg_harness_result result;
    if (!bench_run(b, i, s->live, &result)) return false;
    bool good = result.passed && result.compared > 0 && result.open * 50 <= result.compared;
    if (!good || getenv("RG_TEST_VERBOSE"))
        print_message("%s %s, %s, %s: error %.2g, of its bound %.2g, %lld of %lld open: %s\n",
                      good ? "      " : "WRONG ", s->label, s->desc.variant.name, s->text.symbol,
                      result.error, result.worst, (long long)result.open,
                      (long long)result.compared, result.trouble ? result.trouble : "");
    return good;
}

static bool was_tried(const bench b[FORMATS], const char *name, size_t length) {
    for (int f = 0; f < FORMATS; f++)
        for (int32_t i = 0; i < b[f].count; i++)
            if (strlen(b[f].subject[i].desc.variant.name) == length &&
                strncmp(b[f].subject[i].desc.variant.name, name, length) == 0)
                return true;
    return false;
}

/* Each `target = "cuda", ... name = "..."` of the list stands among the subjects. */
static void assert_all_rows_tried(const bench b[FORMATS]) {
    const char *target = "target = \"cuda\"", *field = "name = \"",
               *at = rg_tpl_file("variants.lua");
    assert_non_null(at);
    int rows = 0;
    while ((at = strstr(at, target)) != NULL && (at = strstr(at, field)) != NULL) {
        at += strlen(field);
        const char *end = strchr(at, '"');
        assert_non_null(end);
        if (!was_tried(b, at, (size_t)(end - at)))
            fail_msg("no case tries variant '%.*s'", (int)(end - at), at);
        rows++;
    }
    assert_true(rows > 0);
}

/* How many are wrong. */
static int32_t check_all(bench *b) {
    int32_t wrong = 0;
    bench_build(b, CACHE);
    for (int32_t i = 0; i < b->count; i++) wrong += !check_subject(b, i);
    print_message("cuda, emulated, sm_%d, %s: %d kernels, %d wrong\n", b->arch,
                  rg_kformat_name(b->format), b->count, wrong);
    bench_close(b);
    return wrong;
}

static void test_every_cuda_variant_computes_what_its_description_means(void **state) {
    (void)state;
    bench b[FORMATS];
    /* To look at some of them alone. */
    const char *label = getenv("RG_TEST_CASE"), *format = getenv("RG_TEST_FORMAT");
    for (rg_kformat f = RG_KFORMAT_F32; f <= RG_KFORMAT_F16; f++) {
        bench_open(&b[f], ARCH, 4, f);
        if (format && strcmp(format, rg_kformat_name(f)) != 0) continue;
        if (f == RG_KFORMAT_F32) {
            add_cases(&b[f], label ? label : "");
            add_input(&b[f], label ? label : "");
            add_riders(&b[f], label ? label : "");
            continue;
        }
        add_format_cases(&b[f], f, label ? label : "");
    }
    if (!label && !format) assert_all_rows_tried(b);
    int32_t wrong = 0;
    for (int f = 0; f < FORMATS; f++) wrong += check_all(&b[f]);
    assert_int_equal(wrong, 0);
}

/* sm_75 multiplies eight channels at a time and has no asynchronous copies: other texts. */
static void test_the_oldest_matrix_units_compute_the_same(void **state) {
    (void)state;
    bench b;
    int32_t count, number = 0;
    const char *format = getenv("RG_TEST_FORMAT"), *label = getenv("RG_TEST_CASE");
    if (format && strcmp(format, "f16") != 0) skip();
    bench_open(&b, OLD_ARCH, 4, RG_KFORMAT_F16);
    const rg_case *cases = rg_format_cases(b.ctx.arena, VECTOR, RG_KFORMAT_F16, &count);
    assert_non_null(cases);
    for (int32_t i = 0; i < count; i++) {
        rg_kkind kind = cases[i].desc.kind;
        if (kind != RG_K_CONV && kind != RG_K_WGRAD) continue;
        if (label ? strncmp(cases[i].label, label, strlen(label)) == 0 : number++ % 5 == 0)
            add_variants(&b, &cases[i], THE_LEAST_TRIED);
    }
    for (int32_t i = 0; i < b.count; i++)
        assert_non_null(strstr(b.subject[i].text.source, "rg_mma_f16_k8("));
    assert_true(b.count > 0 || label);
    assert_int_equal(check_all(&b), 0);
}

/* ---- several instances ---- */

/* Two instances and three in turn; with and without tails. Of weight gradients the first cases that
 * a row applies to; of runs, whose one row has several forms, all in f32. */
static void add_instances(bench *b, const rg_case *one, int32_t number) {
    rg_kkind kind = one->desc.kind;
    int32_t n = 2 + number % 2, count;
    rg_kdesc all;
    rg_candidate *list;
    if (kind != RG_K_WGRAD && (kind != RG_K_VEC || b->format != RG_KFORMAT_F32)) return;
    if (rg_kdesc_repeat(&b->ctx, &one->desc, n, &all) != RG_OK) fail_with(&b->ctx, one->label);
    rg_status status = rg_tpl_candidates(&b->ctx, b->tpl, &all, false, &list, &count);
    if (status == RG_E_UNSUPPORTED && one->optional) return;
    if (status != RG_OK) fail_with(&b->ctx, one->label);
    for (int32_t i = 0; i < count; i++) {
        assert_true(list[i].instances);
        if (kind == RG_K_WGRAD && tries_of(b, kind, list[i].variant.name) > 2) continue;
        add_made(b, one, &list[i], false, n);
        if (list[i].variant.counters > 0) add_made(b, one, &list[i], true, n);
    }
}

static void add_all_instances(bench *b, const char *label) {
    int32_t count;
    const rg_case *cases = b->format == RG_KFORMAT_F32
                               ? rg_cases(b->ctx.arena, VECTOR, &count)
                               : rg_format_cases(b->ctx.arena, VECTOR, b->format, &count);
    assert_non_null(cases);
    for (int32_t i = 0; i < count; i++)
        if (strncmp(cases[i].label, label, strlen(label)) == 0) add_instances(b, &cases[i], i / 4);
}

/* Each row that says `instances = true`; its name stands in the line before. */
static void assert_all_instances_tried(const bench b[FORMATS]) {
    const char *at = rg_tpl_file("variants.lua"), *field = "name = \"";
    int rows = 0;
    assert_non_null(at);
    while ((at = strstr(at, "\n    instances = true,")) != NULL) {
        const char *name = at++;
        while (strncmp(name, field, strlen(field)) != 0) name--;
        name += strlen(field);
        if (!was_tried(b, name, strcspn(name, "\"")))
            fail_msg("no case tries instances of '%.*s'", (int)strcspn(name, "\""), name);
        rows++;
    }
    assert_true(rows > 0);
}

static void test_instances_of_a_launch_have_arguments_of_their_own(void **state) {
    (void)state;
    bench b[FORMATS];
    const char *label = getenv("RG_TEST_CASE"), *format = getenv("RG_TEST_FORMAT");
    for (rg_kformat f = RG_KFORMAT_F32; f <= RG_KFORMAT_F16; f++) {
        bench_open(&b[f], ARCH, 4, f);
        if (format && strcmp(format, rg_kformat_name(f)) != 0) continue;
        add_all_instances(&b[f], label ? label : "");
    }
    if (!label && !format) assert_all_instances_tried(b);
    int32_t wrong = 0;
    for (int f = 0; f < FORMATS; f++) wrong += check_all(&b[f]);
    assert_int_equal(wrong, 0);
}

/* A large batch has tiles enough: they are larger then, and cover all channels. */
static void test_variants_for_a_large_batch_compute_the_same(void **state) {
    (void)state;
    static const char *const labels[] = {"residual", "operators", "maximum", "gradient of a",
                                         "average"};
    bench b;
    bench_open(&b, ARCH, 512, RG_KFORMAT_F32);
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++) add_cases(&b, labels[i]);
    assert_int_equal(check_all(&b), 0);
}

/* Hundreds of parts a channel, as batch norm has them: more than its threads take in one round. */
static void test_hundreds_of_parts_are_gathered_whole(void **state) {
    (void)state;
    bench b;
    bench_open(&b, ARCH, 4, RG_KFORMAT_F32);
    add_cases(&b, "moments finalised");
    add_cases(&b, "parts gathered");
    for (int32_t i = 0; i < b.count; i++) {
        subject *s = &b.subject[i];
        for (int32_t j = 0; j < s->desc.arg_count; j++)
            if (s->desc.arg[j].layout == RG_LAYOUT_PART) s->desc.arg[j].parts_per_block = 99 + j;
        if (rg_emit_kernel(&b.ctx, b.tpl, &s->desc, &s->text) != RG_OK) fail_with(&b.ctx, s->label);
    }
    assert_int_equal(check_all(&b), 0);
}

/* ---- the same bits in every order ---- */

static rg_hdata filled(bench *b, const subject *s, int32_t live, uint64_t seed) {
    rg_hdata data;
    if (rg_hdata_new(&b->ctx, &s->desc, live, &data) != RG_OK) fail_with(&b->ctx, "data");
    if (rg_hdata_fill(&b->ctx, &s->desc, seed, &data) != RG_OK) fail_with(&b->ctx, "data");
    return data;
}

static void run(bench *b, int32_t i, rg_hdata *data, const int32_t *alias) {
    const subject *s = &b->subject[i];
    if (rg_harness_cuda_run(&b->ctx, &b->cuda, &s->desc, &b->object[i], data, alias) != RG_OK)
        fail_with(&b->ctx, s->label);
}

static void assert_same_bits(const subject *s, const rg_hdata *one, const rg_hdata *other) {
    for (int32_t i = 0; i < s->desc.arg_count; i++)
        if (s->desc.arg[i].written)
            assert_memory_equal(one->arg[i], other->arg[i], one->buffer[i].bytes);
}

static void test_bits_do_not_depend_on_the_order_of_threads_and_blocks(void **state) {
    (void)state;
    static const char *const labels[] = {"residual add, moments", "softmax cross-entropy",
                                         "moments finalised", "maximum with prologue"};
    for (size_t l = 0; l < sizeof labels / sizeof *labels; l++) {
        bench b;
        bench_open(&b, ARCH, 4, RG_KFORMAT_F32);
        add_cases(&b, labels[l]);
        bench_build(&b, CACHE);
        for (int32_t i = 0; i < b.count; i++) {
            rg_hdata data[2];
            for (uint64_t order = 0; order < 2; order++) {
                const rg_emulate_options options = {.arch = ARCH, .seed = 11 + order};
                rg_emulate_api(&options);
                data[order] = filled(&b, &b.subject[i], b.subject[i].live, 2);
                run(&b, i, &data[order], NULL);
            }
            assert_same_bits(&b.subject[i], &data[0], &data[1]);
            for (int order = 0; order < 2; order++) rg_hdata_free(&data[order]);
        }
        bench_close(&b);
    }
}

/* ---- the optimiser's way of writing where it reads ---- */

static void test_a_run_may_write_where_it_reads(void **state) {
    (void)state;
    bench b;
    bench_open(&b, ARCH, 4, RG_KFORMAT_F32);
    add_cases(&b, "Adam");
    bench_build(&b, CACHE);
    for (int32_t i = 0; i < b.count; i++) {
        /* arguments: parameter, gradient, two moments; the new parameter, the new moments */
        static const int32_t alias[] = {0, 1, 2, 3, 0, 2, 3};
        rg_hdata apart = filled(&b, &b.subject[i], 16, 2);
        rg_hdata shared = filled(&b, &b.subject[i], 16, 2);
        run(&b, i, &apart, NULL);
        run(&b, i, &shared, alias);
        assert_same_bits(&b.subject[i], &apart, &shared);
        rg_hdata_free(&apart);
        rg_hdata_free(&shared);
    }
    bench_close(&b);
}

/* ---- NaN ---- */

/* The harness has neither NaN nor infinity among live values: here every `step`-th is `odd`. */
static void check_odd(bench *b, int32_t i, float odd, int64_t step) {
    const subject *s = &b->subject[i];
    rg_hdata data = filled(b, s, s->live, 1);
    double *value[3];
    for (int j = 0; j < 3; j++) {
        value[j] = RG_NEW_ARRAY(b->ctx.arena, double, data.buffer[j].elements);
        assert_non_null(value[j]);
    }
    for (int64_t j = 0; j < data.buffer[0].elements; j += step) data.arg[0][j] = odd;
    for (int64_t j = 0; j < data.buffer[0].elements; j++) value[0][j] = (double)data.arg[0][j];
    if (rg_kdesc_interpret(&b->ctx, &s->desc, &data.ctrl, value) != RG_OK)
        fail_with(&b->ctx, "meaning");
    run(b, i, &data, NULL);
    const rg_karg *y = &s->desc.arg[1];
    for (int32_t j = 0; j < y->h * y->w * y->c; j++) {
        int64_t at = rg_karg_index(y, s->live - 1, j / y->c / y->w, j / y->c % y->w, j % y->c);
        assert_true(isnan(value[1][at]) ? isnan(data.arg[1][at])
                                        : value[1][at] == (double)data.arg[1][at]);
        assert_true(value[2][at] == (double)data.arg[2][at]);
    }
    rg_hdata_free(&data);
}

static void test_nan_wins_every_maximum_and_the_first_of_equals(void **state) {
    (void)state;
    bench b;
    bench_open(&b, ARCH, 4, RG_KFORMAT_F32);
    add_cases(&b, "maximum");
    bench_build(&b, CACHE);
    int32_t tried = 0;
    for (int32_t i = 0; i < b.count; i++) {
        if (strcmp(b.subject[i].label, "maximum") != 0) continue; /* not those with a prologue */
        check_odd(&b, i, NAN, 5);
        check_odd(&b, i, -INFINITY, 1);
        tried++;
    }
    assert_true(tried > 0);
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cuda_variant_computes_what_its_description_means),
        cmocka_unit_test(test_the_oldest_matrix_units_compute_the_same),
        cmocka_unit_test(test_instances_of_a_launch_have_arguments_of_their_own),
        cmocka_unit_test(test_variants_for_a_large_batch_compute_the_same),
        cmocka_unit_test(test_hundreds_of_parts_are_gathered_whole),
        cmocka_unit_test(test_bits_do_not_depend_on_the_order_of_threads_and_blocks),
        cmocka_unit_test(test_a_run_may_write_where_it_reads),
        cmocka_unit_test(test_nan_wins_every_maximum_and_the_first_of_equals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
