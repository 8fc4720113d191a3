/* What the machine can do at best: arithmetic and memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver_parts.h"

double rg_now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

double rg_number_for_json(double value) {
    return isfinite(value) ? value : 1e300;
}

/* ---- measuring ---- */

enum { FMA_ROUNDS = 200000, FMA_CHAINS = 12, RESULT_FLOATS = 1024, PROBE_RUNS = 64 };
#define STREAM_FLOATS ((size_t)64 << 20) /* 256 MiB: more than a cache holds */

#define VECTORS                                                                                    \
    "#if defined(__AVX512F__)\n#define VW 16\n"                                                    \
    "#define FMA(a,b,c) __builtin_ia32_vfmaddps512_mask(a,b,c,-1,4)\n"                             \
    "#else\n#define VW 8\n#define FMA(a,b,c) __builtin_ia32_vfmaddps256(a,b,c)\n#endif\n"          \
    "typedef float vf __attribute__((vector_size(VW*4)));\nstruct rg_ctrl;\n"

/* Twelve chains of fused multiply-adds on vectors of the target. */
static const char fma_source[] =
    VECTORS "void rg_peak(float *const *a, const struct rg_ctrl *c, int tile, float *s) {\n"
            "    (void)c; (void)s; (void)tile;\n    float *o = a[0];\n"
            "    vf x = {0}, acc[12];\n    x += o[0];\n"
            "    for (int i = 0; i < 12; i++) acc[i] = x + (float)i;\n"
            "    for (int n = 0; n < 200000; n++)\n"
            "        for (int i = 0; i < 12; i++) acc[i] = FMA(acc[i], x, x);\n"
            "    vf r = acc[0];\n    for (int i = 1; i < 12; i++) r += acc[i];\n"
            "    for (int i = 0; i < VW; i++) o[i] = r[i];\n}\n";

/* A piece of memory, read once; its length, in steps of four vectors, is an argument. */
static const char stream_source[] =
    VECTORS "void rg_stream(float *const *a, const struct rg_ctrl *c, int tile, float *s) {\n"
            "    (void)c; (void)s; (void)tile;\n    float *o = a[0];\n"
            "    const long n = (long)a[2][0] * 4;\n"
            "    const vf *x = (const vf *)a[1];\n    vf acc[4] = {{0}};\n"
            "    for (long i = 0; i < n; i += 4)\n"
            "        for (int j = 0; j < 4; j++) acc[j] += x[i + j];\n"
            "    vf r = acc[0] + acc[1] + acc[2] + acc[3];\n"
            "    for (int i = 0; i < VW; i++) o[i] = r[i];\n}\n";

typedef struct probe {
    rg_cpu_kernel kernel;
    float *result;
    const float *memory; /* NULL: none is read */
    float steps;         /* of four vectors, that a run reads */
    double work;         /* of a run */
} probe;

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Work per millisecond of this thread, by the median of short runs: where others use the machine
 * too, few of them are interrupted. Each run reads another piece of the thread's memory. */
static double thread_rate(const probe *p, int thread, int vector) {
    double took[PROBE_RUNS];
    size_t piece = (size_t)p->steps * 4 * (size_t)vector;
    for (int run = 0; run < PROBE_RUNS; run++) {
        size_t at = ((size_t)thread * PROBE_RUNS + (size_t)run) * piece;
        float steps = p->steps;
        float *const arg[] = {p->result + thread * RESULT_FLOATS,
                              p->memory ? (float *)(uintptr_t)(p->memory + at) : NULL, &steps};
        double start = rg_now_ms();
        p->kernel(arg, NULL, 0, NULL);
        took[run] = rg_now_ms() - start;
    }
    qsort(took, PROBE_RUNS, sizeof *took, by_size);
    return p->work / took[PROBE_RUNS / 2];
}

static double rate(const probe *p, int threads, int vector) {
    double total = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : total)
    for (int t = 0; t < threads; t++) total += thread_rate(p, t, vector);
    return total;
}

static rg_status measure(rg_job *job, const rg_cpu_kernel kernel[2], rg_peak *peak) {
    int threads = rg_job_threads(job), vector = job->target.vector;
    size_t steps = STREAM_FLOATS / ((size_t)threads * PROBE_RUNS * 4 * (size_t)vector);
    float *result = calloc((size_t)threads * RESULT_FLOATS, sizeof *result);
    float *memory = aligned_alloc(64, STREAM_FLOATS * sizeof *memory);
    rg_status status = result && memory ? RG_OK : rg_nomem(job->ctx);
    if (status == RG_OK) {
        memset(memory, 0, STREAM_FLOATS * sizeof *memory);
        probe fma = {.kernel = kernel[0], .result = result};
        fma.work = 2.0 * FMA_CHAINS * vector * FMA_ROUNDS;
        probe stream = {.kernel = kernel[1], .result = result, .memory = memory};
        stream.steps = (float)steps;
        stream.work = 4.0 * 4 * vector * (double)steps;
        peak->gflops = rate(&fma, threads, vector) / 1e6;
        peak->gbps = rate(&stream, threads, vector) / 1e6;
    }
    free(result);
    free(memory);
    return status;
}

rg_status rg_peak_measure(rg_job *job, rg_peak *peak) {
    char key[2][33];
    rg_hash_hex(rg_hash_bytes(fma_source, sizeof fma_source), key[0]);
    rg_hash_hex(rg_hash_bytes(stream_source, sizeof stream_source), key[1]);
    rg_cpu_source source[2] = {{"rg_peak", key[0], fma_source},
                               {"rg_stream", key[1], stream_source}};
    rg_cpu_options options = {
        .isa = job->target.isa, .cc = job->cli->cc, .cache_dir = job->cli->cache, .optimise = 3};
    rg_cpu_stats stats;
    rg_cpu_kernel kernel[2];
    rg_cpu_library *library = NULL;
    RG_TRY(rg_cpu_build(job->ctx, source, 2, &options, kernel, &stats, &library));
    rg_status status = measure(job, kernel, peak);
    rg_cpu_close(library);
    return status;
}

/* ---- floors ---- */

/* Winograd's tiles multiply (m+2)^2 numbers for m^2 outputs of nine taps. */
static double least_flop(const rg_kdesc *desc) {
    const rg_karg *w = desc->kind == RG_K_CONV ? &desc->arg[desc->contr[0].w_arg] : NULL;
    if (!w || w->layout != RG_LAYOUT_WINO) return rg_kdesc_flop(desc, true);
    const rg_ksite *out = &desc->site[desc->site_count - 1];
    int32_t m = w->h, points = (m + w->r - 1) * (m + w->r - 1);
    int32_t down = (out->h + m - 1) / m, across = (out->w + m - 1) / m;
    return 2.0 * down * across * points * w->c * w->k;
}

double rg_peak_floor(const rg_peak *peak, const rg_kdesc *desc, int32_t live) {
    double work = least_flop(desc) * live / peak->gflops / 1e3;
    double traffic = rg_kdesc_bytes(desc, (live + RG_BLOCK - 1) / RG_BLOCK) / peak->gbps / 1e3;
    return work > traffic ? work : traffic;
}
