#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

const char *rg_cli_usage(void) {
    return "usage: resgen SPEC.lua [options]          generate, build, print shapes, kernels and "
           "memory\n"
           "       resgen train SPEC.lua [options]    train; one line an epoch\n"
           "       resgen eval SPEC.lua --init=FILE   loss and accuracy of a checkpoint\n"
           "       resgen verify SPEC.lua [options]   every kernel against the double-precision "
           "reference\n"
           "       resgen bench SPEC.lua [options]    every kernel, every variant that applies, "
           "timed\n"
           "       resgen explain SPEC.lua [options]  each value: fused into what, or why not\n"
           "\n"
           "  --target=cpu|cuda          what is generated\n"
           "  --device=cpu|reference     what runs: kernels, or the graph's interpreter in double "
           "precision\n"
           "  --device=cuda[:N]|emulate  target cuda: a GPU, or kernels checked on this processor\n"
           "  --arch=sm_90|native        target cuda: the architecture (the device's own)\n"
           "  --precision=NAME           target cuda: f32, tf32, bf16 or f16, of contractions; 16 "
           "bits "
           "also of\n"
           "                             what is stored (f32)\n"
           "  --cuda-path=DIR            where libcuda and libnvrtc are looked for first\n"
           "  --stream                   target cuda: kernel by kernel instead of graphs, for "
           "debugging\n"
           "  --isa=avx2|avx512|native   instruction set of the kernels (native)\n"
           "  --threads=N                threads (as many as processors)\n"
           "  --data=DIR|synthetic       CIFAR-10 in its binary version, or made-up images\n"
           "  --epochs=N --steps=N       how long to train (the spec's epochs; no limit on steps); "
           "with\n"
           "                             --resume both count from the start of the training\n"
           "  --eval-steps=N             batches of an evaluation, 0: none (the whole set; on the "
           "emulator one;\n"
           "                             with --steps on the reference none)\n"
           "  --batch=N                  images a training step (the spec's)\n"
           "  --seed=N --no-shuffle      random numbers; the order of the images\n"
           "  --init=FILE --save=FILE    parameters in safetensors, under PyTorch's names\n"
           "  --resume=FILE              train: goes on from FILE where it is there, and keeps it "
           "up to date\n"
           "  --out=DIR                  where the generated sources go "
           "(generated/<spec>-<target>)\n"
           "  --variant=NAME[,NAME]...   use these variants alone wherever one of them applies "
           "(direct,split: no\n"
           "                             Winograd)\n"
           "  --cache=DIR --cc=PROGRAM   where built kernels are kept; the C compiler\n"
           "  --dump=STAGE               print one stage: infer grad decompose fold simplify "
           "precision fuse\n"
           "                             select expand schedule check plan floor\n"
           "  --step                     bench: the whole step and evaluation alone\n"
           "  --json --quiet             machine-readable output; no progress\n";
}

typedef enum option_kind { OPT_TEXT, OPT_FLAG, OPT_INT, OPT_U32, OPT_U64 } option_kind;

typedef struct option_row {
    const char *name;
    option_kind kind;
    size_t offset;
    uint64_t least, most;
} option_row;

#define AT(field) offsetof(rg_cli, field)

static const option_row rows[] = {
    {"target", OPT_TEXT, AT(target), 0, 0},
    {"device", OPT_TEXT, AT(device), 0, 0},
    {"isa", OPT_TEXT, AT(isa), 0, 0},
    {"arch", OPT_TEXT, AT(arch), 0, 0},
    {"precision", OPT_TEXT, AT(precision), 0, 0},
    {"cuda-path", OPT_TEXT, AT(cuda_path), 0, 0},
    {"stream", OPT_FLAG, AT(stream), 0, 0},
    {"data", OPT_TEXT, AT(data), 0, 0},
    {"init", OPT_TEXT, AT(init), 0, 0},
    {"save", OPT_TEXT, AT(save), 0, 0},
    {"resume", OPT_TEXT, AT(resume), 0, 0},
    {"out", OPT_TEXT, AT(out), 0, 0},
    {"dump", OPT_TEXT, AT(dump), 0, 0},
    {"cc", OPT_TEXT, AT(cc), 0, 0},
    {"cache", OPT_TEXT, AT(cache), 0, 0},
    {"variant", OPT_TEXT, AT(only), 0, 0},
    {"threads", OPT_INT, AT(threads), 1, 256},
    {"optimise", OPT_INT, AT(optimise), 0, 3},
    {"seed", OPT_U64, AT(seed), 0, UINT64_MAX},
    {"steps", OPT_U64, AT(steps), 1, UINT64_MAX},
    {"eval-steps", OPT_U64, AT(eval_steps), 0, RG_EVAL_UNSET - 1},
    {"epochs", OPT_U32, AT(epochs), 1, 1000000},
    {"batch", OPT_U32, AT(batch), 1, 65536},
    {"no-shuffle", OPT_FLAG, AT(no_shuffle), 0, 0},
    {"json", OPT_FLAG, AT(json), 0, 0},
    {"quiet", OPT_FLAG, AT(quiet), 0, 0},
    {"step", OPT_FLAG, AT(step_only), 0, 0},
    {"sanitize", OPT_FLAG, AT(sanitize), 0, 0},
};

enum { ROWS = sizeof rows / sizeof *rows };

static rg_status put_number(rg_ctx *ctx, const option_row *row, const char *text, void *at) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value < row->least || value > row->most)
        return rg_fail(ctx, RG_E_USAGE, "--%s=%s: expected a whole number from %llu to %llu",
                       row->name, text, (unsigned long long)row->least,
                       (unsigned long long)row->most);
    if (row->kind == OPT_INT) *(int *)at = (int)value;
    if (row->kind == OPT_U32) *(uint32_t *)at = (uint32_t)value;
    if (row->kind == OPT_U64) *(uint64_t *)at = value;
    return RG_OK;
}

static rg_status put_option(rg_ctx *ctx, rg_cli *cli, const option_row *row, const char *text) {
    void *at = (char *)cli + row->offset;
    if (row->offset == AT(seed)) cli->seed_given = true;
    switch (row->kind) {
    case OPT_TEXT:
        *(const char **)at = text;
        return RG_OK;
    case OPT_FLAG:
        *(bool *)at = true;
        return RG_OK;
    default:
        return put_number(ctx, row, text, at);
    }
}

static bool one_of(const char *text, const char *const *list) {
    for (; *list; list++)
        if (strcmp(text, *list) == 0) return true;
    return false;
}

static bool is_cuda_device(const char *device) {
    return strcmp(device, "emulate") == 0 || strcmp(device, "cuda") == 0 ||
           strncmp(device, "cuda:", 5) == 0;
}

/* What is generated and what it runs on; either follows from the other. */
static rg_status settle_device(rg_ctx *ctx, rg_cli *cli) {
    static const char *const targets[] = {"cpu", "cuda", NULL}, *const devices[] = {
                                                                    "cpu", "reference", NULL};
    if (cli->target && !one_of(cli->target, targets))
        return rg_fail(ctx, RG_E_USAGE, "--target=%s: expected cpu or cuda", cli->target);
    if (cli->device && !one_of(cli->device, devices) && !is_cuda_device(cli->device))
        return rg_fail(ctx, RG_E_USAGE,
                       "--device=%s: expected cpu, reference, cuda, cuda:N or emulate",
                       cli->device);
    bool gpu = cli->device && is_cuda_device(cli->device);
    bool rounded = cli->device && strcmp(cli->device, "reference") == 0 &&
                   strcmp(cli->precision, "f32") != 0; /* only target cuda has such graphs */
    if (!cli->target) cli->target = gpu || rounded ? "cuda" : "cpu";
    if (!cli->device) cli->device = cli->target;
    gpu = is_cuda_device(cli->device);
    if (strcmp(cli->device, "reference") == 0 || gpu == (strcmp(cli->target, "cuda") == 0))
        return RG_OK;
    return rg_fail(ctx, RG_E_USAGE, "--target=%s does not run on --device=%s", cli->target,
                   cli->device);
}

/* The architecture's part of this is looked at when that is known (driver_cuda.c). */
static rg_status check_precision(rg_ctx *ctx, const rg_cli *cli) {
    rg_kformat format;
    if (!rg_kformat_find(cli->precision, &format))
        return rg_fail(ctx, RG_E_USAGE, "--precision=%s: expected f32, tf32, bf16 or f16",
                       cli->precision);
    if (format == RG_KFORMAT_F32 || strcmp(cli->target, "cuda") == 0) return RG_OK;
    return rg_fail(ctx, RG_E_USAGE, "--precision=%s: the cpu target computes in f32 alone",
                   cli->precision);
}

static rg_status check_choices(rg_ctx *ctx, const rg_cli *cli) {
    static const char *const isas[] = {"avx2", "avx512", "native", NULL};
    static const char *const commands[] = {"build", "train",   "eval", "verify",
                                           "bench", "explain", NULL};
    bool reference = strcmp(cli->device, "reference") == 0;
    if (reference && strcmp(cli->command, "train") != 0 && !cli->dump)
        return rg_fail(ctx, RG_E_USAGE, "--device=reference is for train alone, found '%s'",
                       cli->command);
    static const char *const stages[] = {"infer",     "grad", "decompose", "fold",   "simplify",
                                         "precision", "fuse", "select",    "expand", "schedule",
                                         "check",     "plan", "floor",     NULL};
    if (!one_of(cli->command, commands))
        return rg_fail(ctx, RG_E_USAGE, "unknown command '%s'", cli->command);
    if (!cli->spec)
        return rg_fail(ctx, RG_E_USAGE,
                       "no spec: expected a .lua file (specs/resnet18_cifar.lua is one)");
    if (cli->resume && (reference || strcmp(cli->command, "train") != 0))
        return rg_fail(ctx, RG_E_USAGE,
                       "--resume is for train, on kernels: --init=FILE reads such "
                       "a file everywhere");
    if (cli->resume && cli->save && strcmp(cli->resume, cli->save) == 0)
        return rg_fail(ctx, RG_E_USAGE,
                       "--save and --resume are both '%s': expected two files, since --save leaves "
                       "out what --resume needs",
                       cli->save);
    if (cli->eval_steps == 0 && strcmp(cli->command, "eval") == 0)
        return rg_fail(ctx, RG_E_USAGE, "--eval-steps=0: eval has nothing else to do");
    if (!one_of(cli->isa, isas))
        return rg_fail(ctx, RG_E_USAGE, "--isa=%s: expected avx2, avx512 or native", cli->isa);
    if (cli->dump && !one_of(cli->dump, stages))
        return rg_fail(
            ctx, RG_E_USAGE,
            "--dump=%s: expected infer, grad, decompose, fold, simplify, precision, fuse, "
            "select, expand, schedule, check, plan or floor",
            cli->dump);
    return RG_OK;
}

static rg_status take_words(rg_ctx *ctx, rg_cli *cli, int argc, char **argv) {
    int words = argc - optind;
    const char *first = words > 0 ? argv[optind] : NULL;
    size_t length = first ? strlen(first) : 0;
    bool is_spec = length > 4 && strcmp(first + length - 4, ".lua") == 0;
    if (first && !is_spec) {
        cli->command = first;
        optind++;
        words--;
    }
    if (words > 0) cli->spec = argv[optind];
    if (words > 1)
        return rg_fail(ctx, RG_E_USAGE, "one spec at a time: '%s' is too much", argv[optind + 1]);
    return RG_OK;
}

/* What getopt_long did not take: it leaves the number of a known option in optopt. */
static rg_status bad_option(rg_ctx *ctx, char **argv) {
    if (optopt >= 1 && optopt <= ROWS)
        return rg_fail(ctx, RG_E_USAGE, "--%s %s", rows[optopt - 1].name,
                       rows[optopt - 1].kind == OPT_FLAG ? "takes no value" : "needs a value");
    const char *word = argv[optind - 1][0] == '-' ? argv[optind - 1] : argv[optind];
    return rg_fail(ctx, RG_E_USAGE, "unknown option '%s' (resgen --help lists them)", word);
}

rg_status rg_cli_parse(rg_ctx *ctx, int argc, char **argv, rg_cli *cli) {
    *cli = (rg_cli){.command = "build",
                    .isa = "native",
                    .precision = "f32",
                    .eval_steps = RG_EVAL_UNSET,
                    .optimise = 3};
    struct option table[ROWS + 1];
    memset(table, 0, sizeof table);
    for (int i = 0; i < ROWS; i++)
        table[i] = (struct option){
            rows[i].name, rows[i].kind == OPT_FLAG ? no_argument : required_argument, NULL, i + 1};
    opterr = 0;
    optind = 1;
    for (int code; (code = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (code == '?') return bad_option(ctx, argv);
        RG_TRY(put_option(ctx, cli, &rows[code - 1], optarg));
    }
    RG_TRY(take_words(ctx, cli, argc, argv));
    RG_TRY(settle_device(ctx, cli));
    RG_TRY(check_precision(ctx, cli));
    return check_choices(ctx, cli);
}
