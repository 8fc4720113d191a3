/* Kernels that were broken on purpose: the emulator or the comparison with the double-precision
 * meaning sees each of them. RG_MUTANTS_DUMP=FOLDER leaves the texts there, RG_MUTANTS=REGEX looks
 * at some alone. */
#include <regex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mutants/mutants.h"
#include "rg_cases.h"
#include "rg_emulate.h"
#include "rg_harness_cuda.h"
#include "rg_harness_data.h"

enum { KERNELS = 2048, RUNS = 512, ARCH = 90, VECTOR = 16, JOBS = 2, LINE = 512, LEAST = 30 };
enum { CPU_SECONDS = 20, SECONDS = 300 }; /* of a run: one that loops, one that hangs */

/* One variant of one case, emitted. */
typedef struct subject {
    rg_kdesc desc;
    int32_t live;
    rg_emitted text;
} subject;

/* A kernel that is to run: a mutant, or (mutant NULL) what the mutants were made of. */
typedef struct trial {
    const mutant *mutant;
    const subject *subject;
    const char *source;
    rg_kdesc desc;
    const char *said; /* by the run; "": nothing was wrong */
    pid_t child;
    int pipe;
} trial;

typedef struct bench {
    rg_ctx ctx;
    rg_tpl *tpl; /* of the format whose kernels are emitted */
    const rg_cuda_api *api;
    subject *subject;
    trial *trial;
    rg_cuda_object *object; /* of each trial */
    int32_t subject_count, trial_count;
    int nowhere; /* mutants that fit no kernel any more */
} bench;

static void fail_with(const rg_ctx *ctx, const char *what) {
    fail_msg("%s: %s", what, ctx->last ? ctx->last->text : "no diagnostic");
}

/* ---- kernels ---- */

static void bench_open(bench *b) {
    const rg_emulate_options options = {.arch = ARCH, .seed = 1, .threads = 1};
    *b = (bench){.api = rg_emulate_api(&options)};
    assert_int_equal(rg_ctx_init(&b->ctx), RG_OK);
    b->subject = RG_NEW_ARRAY(b->ctx.arena, subject, KERNELS);
    b->trial = RG_NEW_ARRAY(b->ctx.arena, trial, RUNS);
    assert_true(b->subject && b->trial);
}

/* With `tails`, what gathers its parts is a tail of the kernel; with `instances`, it is several. */
static void add_subject(bench *b, const rg_case *one, const rg_candidate *candidate, bool tails,
                        int32_t instances) {
    assert_true(b->subject_count < KERNELS);
    subject *to = &b->subject[b->subject_count++];
    *to = (subject){.desc = one->desc, .live = one->live};
    to->desc.arg = rg_arena_copy(b->ctx.arena, one->desc.arg,
                                 (size_t)one->desc.arg_count * sizeof *one->desc.arg);
    assert_non_null(to->desc.arg);
    int32_t added = 0;
    rg_case_settle(&to->desc, &candidate->variant, candidate->wino_m);
    if (one->dgrad && strcmp(candidate->weights, "master") == 0) rg_case_turn(&to->desc, VECTOR);
    if (tails) assert_true(rg_case_add_tails(&b->ctx, VECTOR, &to->desc, &added));
    if (tails && added == 0) {
        b->subject_count--;
        return;
    }
    const rg_kdesc single = to->desc;
    if (instances > 1 && rg_kdesc_repeat(&b->ctx, &single, instances, &to->desc) != RG_OK)
        fail_with(&b->ctx, one->label);
    if (rg_emit_kernel(&b->ctx, b->tpl, &to->desc, &to->text) != RG_OK)
        fail_with(&b->ctx, one->label);
}

static void add_cases(bench *b, const rg_case *cases, int32_t count, bool tails,
                      int32_t instances) {
    assert_non_null(cases);
    for (int32_t i = 0; i < count; i++) {
        int32_t variants;
        rg_candidate *list;
        rg_kdesc desc = cases[i].desc;
        if (instances > 1 && rg_kdesc_repeat(&b->ctx, &cases[i].desc, instances, &desc) != RG_OK)
            fail_with(&b->ctx, cases[i].label);
        rg_status status =
            rg_tpl_candidates(&b->ctx, b->tpl, &desc, cases[i].dgrad, &list, &variants);
        if (status == RG_E_UNSUPPORTED) continue; /* test_cu_variants knows which may be */
        if (status != RG_OK) fail_with(&b->ctx, cases[i].label);
        for (int32_t j = 0; j < variants; j++)
            add_subject(b, &cases[i], &list[j], tails, instances);
    }
}

static void open_templates(bench *b, rg_kformat format) {
    const rg_target target = {.name = "cuda",
                              .isa = "cuda",
                              .vector = VECTOR,
                              .arch = ARCH,
                              .precision = format,
                              .max_blocks = 4};
    if (rg_tpl_open(&b->ctx, &target, &b->tpl) != RG_OK) fail_with(&b->ctx, "templates");
}

static void add_format(bench *b, rg_kformat format) {
    bool plain = format == RG_KFORMAT_F32;
    int32_t count;
    open_templates(b, format);
    const rg_case *cases = plain ? rg_cases(b->ctx.arena, VECTOR, &count)
                                 : rg_format_cases(b->ctx.arena, VECTOR, format, &count);
    add_cases(b, cases, count, false, 1);
    if (plain) add_cases(b, cases, count, true, 1);
    if (plain) add_cases(b, cases, count, false, 2);
    if (plain) add_cases(b, cases, count, true, 2);
    rg_case input;
    if (plain) assert_true(rg_case_input(b->ctx.arena, VECTOR, 8, 7, 19, 24, &input));
    if (plain) add_cases(b, &input, 1, false, 1);
    const rg_case *riders = rg_rider_cases(b->ctx.arena, VECTOR, &count);
    if (plain) add_cases(b, riders, count, false, 1);
    rg_tpl_close(b->tpl);
}

static void dump(const bench *b) {
    const char *folder = getenv("RG_MUTANTS_DUMP");
    for (int32_t i = 0; folder && i < b->subject_count; i++) {
        char path[LINE];
        snprintf(path, sizeof path, "%s/%03d_%s.cu", folder, i, b->subject[i].text.symbol);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(b->subject[i].text.source, file);
        fclose(file);
    }
}

/* ---- patterns ---- */

static regex_t pattern(const char *text) {
    regex_t compiled;
    if (regcomp(&compiled, text, REG_EXTENDED | REG_NEWLINE) != 0)
        fail_msg("'%s' is no regular expression", text);
    return compiled;
}

static bool holds(const char *text, const char *wanted) {
    regex_t compiled = pattern(wanted);
    bool found = regexec(&compiled, text, 0, NULL, 0) == 0;
    regfree(&compiled);
    return found;
}

/* `put` with its groups, which lie in `from`. */
static void add_replacement(rg_text *to, const char *put, const char *from,
                            const regmatch_t *group) {
    for (; *put; put++) {
        if (put[0] != '\\' || put[1] < '1' || put[1] > '9') {
            rg_text_add_bytes(to, put, 1);
            continue;
        }
        const regmatch_t *at = &group[*++put - '0'];
        if (at->rm_so >= 0)
            rg_text_add_bytes(to, from + at->rm_so, (size_t)(at->rm_eo - at->rm_so));
    }
}

/* The text with the n-th match (0: with all of them) replaced. NULL: there is none. */
static const char *replaced(bench *b, const char *from, const mutant *m) {
    regex_t compiled = pattern(m->find);
    regmatch_t group[10];
    rg_text text = {0};
    int count = 0, done = 0;
    while (regexec(&compiled, from, 10, group, count ? REG_NOTBOL : 0) == 0) {
        assert_true(group[0].rm_eo > group[0].rm_so);
        bool here = m->at == 0 || ++count == m->at;
        rg_text_add_bytes(&text, from, (size_t)(here ? group[0].rm_so : group[0].rm_eo));
        if (here) add_replacement(&text, m->put, from, group);
        done += here;
        from += group[0].rm_eo;
    }
    rg_text_add(&text, "%s", from);
    assert_false(text.failed);
    const char *result = done ? rg_arena_strdup(b->ctx.arena, text.data) : NULL;
    assert_true(result || !done);
    rg_text_free(&text);
    regfree(&compiled);
    return result;
}

/* ---- mutants ---- */

static void add_trial(bench *b, const mutant *m, const subject *s, const char *source) {
    assert_true(b->trial_count < RUNS);
    b->trial[b->trial_count++] =
        (trial){.mutant = m, .subject = s, .source = source, .desc = s->desc};
}

static void add_original(bench *b, const subject *s) {
    for (int32_t i = 0; i < b->trial_count; i++)
        if (!b->trial[i].mutant && b->trial[i].subject == s) return;
    add_trial(b, NULL, s, s->text.source);
}

/* The first kernel that it fits. */
static void add_mutant(bench *b, const mutant *m) {
    for (int32_t i = 0; i < b->subject_count; i++) {
        const subject *s = &b->subject[i];
        if (!holds(s->text.symbol, m->kernel)) continue;
        if (s->live <= m->images || (m->partial && s->live % RG_BLOCK == 0)) continue;
        if (m->with && !holds(s->text.source, m->with)) continue;
        const char *source = m->find ? replaced(b, s->text.source, m) : s->text.source;
        if (!source) continue;
        add_original(b, s);
        add_trial(b, m, s, source);
        b->trial[b->trial_count - 1].desc.variant.shared_bytes += m->shared_bytes;
        return;
    }
    print_message("NOWHERE  %s: no kernel '%s' with '%s' holds '%s'\n", m->name, m->kernel,
                  m->with ? m->with : "", m->find ? m->find : "");
    b->nowhere++;
}

static void add_mutants(bench *b, const mutant *list) {
    const char *some = getenv("RG_MUTANTS");
    for (; list->name; list++)
        if (!some || holds(list->name, some)) add_mutant(b, list);
}

static void build(bench *b) {
    const rg_cuda_build_options options = {.arch = ARCH,
                                           .cache_dir = RG_BINARY_DIR "/mutants-cache"};
    rg_cuda_source *source = RG_NEW_ARRAY(b->ctx.arena, rg_cuda_source, b->trial_count + 1);
    b->object = RG_NEW_ARRAY(b->ctx.arena, rg_cuda_object, b->trial_count + 1);
    rg_cuda_stats stats;
    assert_true(source && b->object);
    for (int32_t i = 0; i < b->trial_count; i++)
        source[i] = (rg_cuda_source){b->trial[i].subject->text.symbol, b->trial[i].source};
    if (rg_cuda_build(&b->ctx, b->api, source, b->trial_count, &options, b->object, &stats) !=
        RG_OK)
        fail_with(&b->ctx, "build");
}

/* ---- runs, each in a process of its own ---- */

/* What is wrong with the kernel; "": nothing. */
static const char *verdict(bench *b, int32_t i) {
    const trial *t = &b->trial[i];
    rg_harness_cuda cuda;
    rg_harness_result result;
    if (rg_harness_cuda_open(&b->ctx, b->api, 0, &cuda) != RG_OK) return "no device";
    rg_status status = rg_harness_cuda_check(&b->ctx, &cuda, &t->desc, &b->object[i],
                                             t->subject->live, 7, &result);
    if (status != RG_OK) return *rg_emulate_fault() ? rg_emulate_fault() : b->ctx.last->text;
    if (!result.passed) return result.trouble;
    return result.compared > 0 ? "" : "nothing was compared";
}

static void start(bench *b, int32_t i) {
    int end[2];
    assert_int_equal(pipe(end), 0);
    b->trial[i].child = fork();
    assert_true(b->trial[i].child >= 0);
    if (b->trial[i].child == 0) {
        setrlimit(RLIMIT_CPU, &(struct rlimit){CPU_SECONDS, CPU_SECONDS});
        alarm(SECONDS);
        const char *said = verdict(b, i);
        size_t length = strlen(said);
        _exit(write(end[1], said, length) == (ssize_t)length ? 0 : 1);
    }
    close(end[1]);
    b->trial[i].pipe = end[0];
}

static void finish(bench *b, int32_t i) {
    char said[LINE];
    size_t length = 0;
    ssize_t got;
    int status;
    trial *t = &b->trial[i];
    while ((got = read(t->pipe, said + length, LINE - 1 - length)) > 0) length += (size_t)got;
    close(t->pipe);
    assert_int_equal(waitpid(t->child, &status, 0), t->child);
    int ended = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (ended == SIGALRM || ended == SIGXCPU || ended == SIGKILL)
        length = (size_t)snprintf(said, LINE, "it does not end");
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        length = (size_t)snprintf(said, LINE, "the process broke down");
    t->said = rg_arena_printf(b->ctx.arena, "%.*s", (int)length, said);
    assert_non_null(t->said);
}

static void run_all(bench *b) {
    for (int32_t i = 0; i < b->trial_count + JOBS; i++) {
        if (i >= JOBS) finish(b, i - JOBS);
        if (i < b->trial_count) start(b, i);
    }
}

/* ---- the table ---- */

/* Who caught it, by words of what was said; the first that fits. */
static const struct {
    const char *words, *catcher;
} catchers[] = {
    {"no device|no memory|broke down|nothing was compared", NULL},
    {"asynchronous copy of thread", "late copy"},
    {"race with (block|other)", "race between blocks"},
    {"race with", "race in shared memory"},
    {"nothing has been written", "read of unwritten memory"},
    {"out of bounds|not in (shared|device) memory", "outside its memory"},
    {"misaligned|not a multiple", "misaligned access"},
    {"divergent", "divergent barrier"},
    {"did not begin at 0|left counters", "counter not reset"},
    {"wrote outside|changed argument", "red zone, input changed"},
    {"argument [0-9]+ at .*: -?nan", "poison (NaN)"},
    {"argument [0-9]+ at", "wrong numbers"},
    {"does not end", "does not end"},
    {"cu[A-Z]", "launch refused"},
};

/* NULL: nobody. */
static const char *catcher_of(const char *said) {
    for (size_t i = 0; *said && i < sizeof catchers / sizeof *catchers; i++)
        if (holds(said, catchers[i].words)) return catchers[i].catcher;
    return NULL;
}

static int print_trial(const trial *t) {
    const char *catcher = catcher_of(t->said);
    if (!t->mutant) {
        if (*t->said)
            print_message("WRONG    as emitted: %s: %s\n", t->subject->text.symbol, t->said);
        return *t->said != '\0';
    }
    print_message("%-62s %-66s %s\n", t->mutant->name, t->subject->text.symbol,
                  catcher ? catcher : "SURVIVED");
    if (!catcher || getenv("RG_TEST_VERBOSE")) print_message("    %s\n", t->said);
    return !catcher;
}

static void test_every_broken_kernel_is_caught(void **state) {
    (void)state;
    bench b;
    bench_open(&b);
    for (rg_kformat f = RG_KFORMAT_F32; f <= RG_KFORMAT_F16; f++) add_format(&b, f);
    dump(&b);
    const mutant *const list[] = {mutants_conv, mutants_wgrad,     mutants_rest, mutants_mma,
                                  mutants_tail, mutants_instances, mutants_rider};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) add_mutants(&b, list[i]);
    build(&b);
    run_all(&b);
    int wrong = 0, mutants = 0;
    for (int32_t i = 0; i < b.trial_count; i++) {
        wrong += print_trial(&b.trial[i]);
        mutants += b.trial[i].mutant != NULL;
    }
    print_message("%d mutants of %d kernels, %d survived\n", mutants, b.trial_count - mutants,
                  wrong);
    assert_true(mutants >= LEAST || getenv("RG_MUTANTS"));
    assert_int_equal(wrong, 0);
    assert_int_equal(b.nowhere, 0);
    rg_ctx_free(&b.ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_broken_kernel_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
