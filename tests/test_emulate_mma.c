/* The emulated matrix unit: where each register's value goes, the bits of the sums for each
 * architecture, loads of matrices, and what must be a fault. The same texts go through NVRTC. */
#include "emulate_prelude.h"

#include <math.h>

/* ---- kernels, each with the prelude that it names ---- */

enum { LANES = 32, M = 16, N = 8, K = 16 };

/* Warps of fragments: per lane a[4], b[2], d[4]. */
static const char mma_text[] =
    "RG_KERNEL void RG_BOUNDS(64, 1) k(float *a0, const unsigned *a1, int kind) {\n"
    "    const int at = rg_block() * 64 + rg_tid();\n"
    "    float d[4];\n    unsigned a[4], b[2];\n"
    "    for (int i = 0; i < 4; i++) d[i] = a0[4 * at + i], a[i] = a1[6 * at + i];\n"
    "    for (int i = 0; i < 2; i++) b[i] = a1[6 * at + 4 + i];\n"
    "    if (kind == 2) rg_mma_f16_k8(d, a, b);\n"
    "#ifndef TURING\n"
    "    if (kind == 0) rg_mma_bf16(d, a, b);\n"
    "    if (kind == 1) rg_mma_f16(d, a, b);\n"
    "    if (kind == 3) rg_mma_tf32(d, a, b);\n"
    "#endif\n"
    "    for (int i = 0; i < 4; i++) a0[4 * at + i] = d[i];\n"
    "}\n";

/* Row r of matrix m lies at row (5 (8 m + r) + 3) % 32 of the tile. */
static const char rows_text[] =
    "RG_KERNEL void RG_BOUNDS(32, 1) k(unsigned *a0, const rg_u16 *a1) {\n"
    "    RG_SHARED(rg_u16, tile, 32 * 8);\n"
    "    const int t = rg_tid();\n    unsigned r[12];\n"
    "    for (int i = 0; i < 8; i++) tile[8 * t + i] = a1[8 * t + i];\n"
    "    rg_barrier();\n"
    "    const rg_u16 *row = tile + (5 * t + 3) % 32 * 8;\n"
    "    rg_ldmatrix4(r, row);\n    rg_ldmatrix4_trans(r + 4, row);\n"
    "    rg_ldmatrix2(r + 8, row);\n    rg_ldmatrix2_trans(r + 10, row);\n"
    "    for (int i = 0; i < 12; i++) a0[12 * t + i] = r[i];\n"
    "}\n";

/* ---- fragments, as the PTX manual tells them ---- */

typedef struct shape {
    const char *name;
    int k, words_a, words_b, halves; /* values in a register */
    int fraction, bias, field;       /* of a value's bits, shifted down to its lowest */
    int drop;                        /* tf32: bits below */
} shape;

static const shape shapes[] = {{"bf16", 16, 4, 2, 2, 7, 127, 255, 0},
                               {"f16", 16, 4, 2, 2, 10, 15, 31, 0},
                               {"f16 k8", 8, 2, 1, 2, 10, 15, 31, 0},
                               {"tf32", 8, 4, 2, 1, 10, 127, 255, 13}};

/* One warp's matrices: bits of the values. */
typedef struct matrices {
    uint32_t a[M][K], b[K][N], d[M][N];
} matrices;

typedef struct lane_words {
    uint32_t d[4], a[4], b[2];
} lane_words;

/* Row and column of value i of the lane's a. */
static void place_of_a(const shape *s, int lane, int i, int *row, int *column) {
    int group = lane >> 2, in_group = lane % 4;
    if (s->halves == 1) {
        *row = i == 0 || i == 2 ? group : group + 8;
        *column = i < 2 ? in_group : in_group + 4;
    } else {
        *row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
        *column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
    }
}

static void place_of_b(const shape *s, int lane, int i, int *row, int *column) {
    int in_group = lane % 4;
    *column = lane >> 2;
    *row = s->halves == 1 ? in_group + (i == 1 ? 4 : 0) : in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
}

static void place_of_d(int lane, int i, int *row, int *column) {
    *row = i < 2 ? lane >> 2 : (lane >> 2) + 8;
    *column = lane % 4 * 2 + (i & 1);
}

static void put_half(uint32_t *word, const shape *s, int i, uint32_t bits) {
    if (s->halves == 1)
        word[i] = bits;
    else
        word[i / 2] |= bits << i % 2 * 16;
}

static lane_words fragments_of(const shape *s, const matrices *m, int lane) {
    lane_words words = {0};
    int row, column;
    for (int i = 0; i < s->words_a * s->halves; i++) {
        place_of_a(s, lane, i, &row, &column);
        put_half(words.a, s, i, m->a[row][column]);
    }
    for (int i = 0; i < s->words_b * s->halves; i++) {
        place_of_b(s, lane, i, &row, &column);
        put_half(words.b, s, i, m->b[row][column]);
    }
    for (int i = 0; i < 4; i++) {
        place_of_d(lane, i, &row, &column);
        words.d[i] = m->d[row][column];
    }
    return words;
}

/* ---- launches ---- */

enum { MAX_WARPS = 512 };

static uint32_t words_d[MAX_WARPS * LANES * 4], words_ab[MAX_WARPS * LANES * 6];

/* Multiplies `warps` (even) matrices; leaves the sums in d. */
static void run_mma(rg_cu_module module, int kind, matrices *m, int warps) {
    const size_t d_bytes = (size_t)warps * LANES * 16, ab_bytes = (size_t)warps * LANES * 24;
    for (int i = 0; i < warps * LANES; i++) {
        lane_words words = fragments_of(&shapes[kind], &m[i / LANES], i % LANES);
        memcpy(words_d + 4 * i, words.d, sizeof words.d);
        memcpy(words_ab + 6 * i, words.a, sizeof words.a);
        memcpy(words_ab + 6 * i + 4, words.b, sizeof words.b);
    }
    rg_cu_ptr a0 = alloc(d_bytes, words_d), a1 = alloc(ab_bytes, words_ab);
    void *params[] = {&a0, &a1, &kind};
    if (launch(module, (unsigned)warps / 2, 64, 0, params) != RG_CU_SUCCESS)
        fail_msg("%s", message);
    OK(driver->copy_out(words_d, a0, d_bytes));
    OK(driver->memory_free(a0));
    OK(driver->memory_free(a1));
    for (int i = 0; i < warps * LANES * 4; i++) {
        int row, column;
        place_of_d(i / 4 % LANES, i % 4, &row, &column);
        m[i / 4 / LANES].d[row][column] = words_d[i];
    }
}

static const int archs[] = {75, 80, 86, 89, 90, 100, 120};
enum { ARCHS = sizeof archs / sizeof *archs };

/* Can the architecture do it? */
static bool has(int arch, int kind) {
    return arch >= 80 || kind == 2;
}

/* A value that the format has. */
static uint32_t narrow(const shape *s, float v) {
    if (s->bias == 127) return s->drop ? bits_of(v) : bits_of(v) >> 16;
    int exponent;
    float fraction = frexpf(fabsf(v), &exponent);
    uint32_t sign = v < 0 ? 0x8000u : 0;
    return v == 0 ? sign
                  : sign | (uint32_t)(exponent + 14) << 10 |
                        ((uint32_t)(int)(fraction * 2048) & 0x3ff);
}

/* ---- positions ---- */

static int small_integer(void) {
    return (int)(draw() >> 5 & 127) - 64;
}

/* Integers, so that every order of summation gives the same sum. */
static void check_positions(rg_cu_module module, int kind) {
    static matrices m[2];
    int a[M][K], b[K][N], d[2][M][N];
    const shape *s = &shapes[kind];
    memset(m, 0, sizeof m);
    for (int w = 0; w < 2; w++) {
        for (int i = 0; i < M * K; i++) a[i / K][i % K] = small_integer();
        for (int i = 0; i < K * N; i++) b[i / N][i % N] = small_integer();
        for (int i = 0; i < M * K; i++) {
            const int number = a[i / K][i % K];
            m[w].a[i / K][i % K] = narrow(s, (float)number);
        }
        for (int i = 0; i < K * N; i++) {
            const int number = b[i / N][i % N];
            m[w].b[i / N][i % N] = narrow(s, (float)number);
        }
        for (int i = 0; i < M * N; i++) {
            int sum = 1000 * small_integer();
            m[w].d[i / N][i % N] = bits_of((float)sum);
            for (int k = 0; k < s->k; k++) sum += a[i / N][k] * b[k][i % N];
            d[w][i / N][i % N] = sum;
        }
    }
    run_mma(module, kind, m, 2);
    for (int i = 0; i < 2 * M * N; i++) {
        int w = i / (M * N), row = i / N % M, column = i % N;
        float got = value_of(m[w].d[row][column]);
        if (got != (float)d[w][row][column])
            fail_msg("%s: row %d, column %d: %g, not %d", s->name, row, column, (double)got,
                     d[w][row][column]);
    }
}

static void test_every_register_stands_for_its_element(void **state) {
    (void)state;
    for (int i = 0; i < ARCHS; i += 2) {
        rg_cu_module module = build_for(archs[i], mma_text);
        for (int kind = 0; kind < 4; kind++)
            if (has(archs[i], kind)) check_positions(module, kind);
        OK(driver->module_unload(module));
    }
}

/* ---- bits ---- */

/* A value taken apart: significand as the bits have it, not normalised. */
typedef struct part {
    double significand; /* with its sign; zero, infinite and NaN included */
    int exponent;
} part;

static part part_of(uint32_t bits, int fraction, int bias, int field) {
    int e = (int)(bits >> fraction) & field;
    double low = (double)(bits & ((1u << fraction) - 1)) * ldexp(1, -fraction);
    double size = e == field ? (low > 0 ? NAN : INFINITY) : low + (e > 0 ? 1 : 0);
    bool negative = bits >> fraction & (uint32_t)(field + 1);
    return (part){negative ? -size : size, (e > 0 ? e : 1) - bias};
}

/* The model's sum over one step, in double: every number here has fewer than 53 bits. */
static uint32_t model_step(const part *a, const part *b, int count, uint32_t c_bits, int kept,
                           int zero) {
    part c = part_of(c_bits, 23, 127, 255), term[K + 1];
    double total = c.significand;
    for (int i = 0; i < count; i++) {
        term[i] = (part){a[i].significand * b[i].significand, a[i].exponent + b[i].exponent};
        total += term[i].significand;
    }
    if (isnan(total)) return 0x7fffffff;
    if (isinf(total)) return total > 0 ? 0x7f800000 : 0xff800000;
    term[count] = c;
    int largest = -10000;
    for (int i = 0; i <= count; i++) {
        if (term[i].significand == 0) term[i].exponent = zero;
        if (term[i].exponent > largest) largest = term[i].exponent;
    }
    double sum = 0;
    for (int i = 0; i <= count; i++)
        sum += trunc(ldexp(term[i].significand, term[i].exponent - largest + kept));
    if (sum == 0) return 0;
    int exponent;
    sum = ldexp(sum, largest - kept);
    (void)frexp(sum, &exponent);
    int lowest = (exponent - 1 < -126 ? -126 : exponent - 1) - 23;
    double cut = ldexp(trunc(ldexp(sum, -lowest)), lowest);
    if (cut == 0) return sum < 0 ? 0x80000000 : 0;
    if (fabs(cut) >= 0x1p128) return cut > 0 ? 0x7f800000 : 0xff800000;
    return bits_of((float)cut);
}

static uint32_t model(int arch, int kind, const matrices *m, int row, int column) {
    const shape *s = &shapes[kind];
    part a[K], b[K];
    int step = (arch >= 90 ? 32 : 16) / (s->drop ? 4 : 2);
    uint32_t sum = m->d[row][column];
    if (step > s->k) step = s->k;
    for (int k = 0; k < s->k; k++) {
        a[k] = part_of(m->a[row][k] >> s->drop, s->fraction, s->bias, s->field);
        b[k] = part_of(m->b[k][column] >> s->drop, s->fraction, s->bias, s->field);
    }
    for (int k = 0; k < s->k; k += step)
        sum = model_step(a + k, b + k, step, sum, arch >= 90 ? 25 : 24, arch >= 90 ? -133 : -132);
    return sum;
}

/* Any bits; or exponents of a range, so that many terms meet; the smallest; mostly zeros. */
static uint32_t some_bits(const shape *s, int way) {
    uint32_t bits = draw() ^ draw() << 13, low = bits & ((1u << s->fraction) - 1);
    uint32_t sign = (bits >> 20 & 1) * (uint32_t)(s->field + 1) << s->fraction;
    uint32_t all = (uint32_t)(s->field + 1) * 2 << s->fraction;
    uint32_t near = (uint32_t)s->bias - 6 + (bits >> 24) % 12, small = (bits >> 24) % 3;
    uint32_t value = way == 0   ? bits & (all - 1)
                     : way == 1 ? sign | near << s->fraction | low
                     : way == 2 ? sign | small << s->fraction | low
                     : way == 3 ? (bits >> 28 ? sign : sign | near << s->fraction | low)
                                : sign | (uint32_t)s->bias << s->fraction | low;
    return value << s->drop | (s->drop ? draw() & ((1u << s->drop) - 1) : 0);
}

static void draw_matrices(const shape *s, int way, matrices *m) {
    static const shape f32 = {.fraction = 23, .bias = 127, .field = 255};
    for (int i = 0; i < M * K; i++) m->a[i / K][i % K] = some_bits(s, way);
    for (int i = 0; i < K * N; i++)
        m->b[i / N][i % N] = some_bits(s, way == 2 ? (int)(draw() % 3) : way);
    for (int i = 0; i < M * N; i++) m->d[i / N][i % N] = some_bits(&f32, way == 3 ? 2 : way);
    /* one NaN, one infinite here and there among numbers */
    if (draw() % 4 == 0)
        m->a[draw() % M][draw() % K] = (uint32_t)s->field << s->fraction << s->drop;
    if (draw() % 8 == 0) m->b[draw() % K][draw() % N] = 0xffffffffu << s->drop;
    if (draw() % 8 == 0) m->d[draw() % M][draw() % N] = 0xff800000;
    if (s->halves == 2)
        for (int i = 0; i < K * N; i++) m->b[i / N][i % N] &= 0xffff;
}

static void check_bits(int arch, rg_cu_module module, int kind) {
    static matrices before[MAX_WARPS], after[MAX_WARPS];
    for (int w = 0; w < MAX_WARPS; w++) draw_matrices(&shapes[kind], w % 5, &before[w]);
    memcpy(after, before, sizeof after);
    run_mma(module, kind, after, MAX_WARPS);
    for (int i = 0; i < MAX_WARPS * M * N; i++) {
        int w = i / (M * N), row = i / N % M, column = i % N;
        uint32_t wanted = model(arch, kind, &before[w], row, column);
        if (after[w].d[row][column] != wanted)
            fail_msg("sm_%d, %s, warp %d (row %d, column %d): %08x, not %08x", arch,
                     shapes[kind].name, w, row, column, after[w].d[row][column], wanted);
    }
}

static void test_bits_are_those_of_the_model_on_every_architecture(void **state) {
    (void)state;
    for (int i = 0; i < ARCHS; i++) {
        rg_cu_module module = build_for(archs[i], mma_text);
        for (int kind = 0; kind < 4; kind++)
            if (has(archs[i], kind)) check_bits(archs[i], module, kind);
        OK(driver->module_unload(module));
    }
}

/* Products a[i] * b[i] and an accumulator, and the sum's bits where 24 bits are kept and 16 bytes
 * of an operand are taken at once (sm_80), and where they are 25 and 32 (sm_90). */
typedef struct cut_case {
    const char *what;
    int kind;
    float a[K], b[K], c;
    uint32_t ampere, hopper;
} cut_case;

static const cut_case cuts[] = {
    /* 1 + 4 * 2^-25: the 25th bit is kept or not */
    {"the 25th bit",
     0,
     {1, 0x1p-12f, 0x1p-12f, 0x1p-12f, 0x1p-12f},
     {1, 0x1p-13f, 0x1p-13f, 0x1p-13f, 0x1p-13f},
     0,
     0x3f800000,
     0x3f800001},
    /* 1 + 2^-24 is cut to 1 after each half, or the whole is 1 + 2^-23 */
    {"two halves",
     0,
     {1, 0x1p-12f, 0, 0, 0, 0, 0, 0, 0x1p-12f},
     {1, 0x1p-12f, 0, 0, 0, 0, 0, 0, 0x1p-12f},
     0,
     0x3f800000,
     0x3f800001},
    {"two halves of tf32",
     3,
     {1, 0x1p-12f, 0, 0, 0x1p-12f},
     {1, 0x1p-12f, 0, 0, 0x1p-12f},
     0,
     0x3f800000,
     0x3f800001},
    /* the accumulator is a term like any other: 2^-24 + 2^-24 beside 1 */
    {"the accumulator's bits", 1, {1, 0x1p-12f}, {1, 0x1p-12f}, 0x1p-24f, 0x3f800001, 0x3f800001},
    {"the accumulator cut", 1, {1, 0x1p-12f}, {1, 0x1p-12f}, 0x1.8p-24f, 0x3f800001, 0x3f800001},
    /* toward zero, both ways: 1 - 2^-25 is 1 or the number below 1 */
    {"toward zero", 0, {1, -0x1p-12f}, {1, 0x1p-13f}, 0, 0x3f800000, 0x3f7fffff},
    {"toward zero, below", 0, {-1, 0x1p-12f}, {1, 0x1p-13f}, 0, 0xbf800000, 0xbf7fffff},
    {"the sum toward zero", 0, {-1, -0x1p-12f}, {1, 0x1p-12f}, 0, 0xbf800000, 0xbf800000},
    /* 2.25 = 1.5 * 1.5 counts with exponent 0, so that 4 * 2^-24 are kept beside it */
    {"a product is not normalised",
     0,
     {1.5f, 0x1p-12f, 0x1p-12f, 0x1p-12f, 0x1p-12f},
     {1.5f, 0x1p-12f, 0x1p-12f, 0x1p-12f, 0x1p-12f},
     0,
     0x40100001,
     0x40100001},
    /* cancelled terms leave what was kept: 2^12 - 2^12 + 2^-13 (the 25th bit) */
    {"cancellation", 0, {0x1p6f, -0x1p6f, 0x1p-6f}, {0x1p6f, 0x1p6f, 0x1p-7f}, 0, 0, 0x39000000},
    /* 2^-149 less some: a zero counts with exponent -132 (-133), so that the last bit kept is
     * 2^-156 (2^-158) */
    {"the exponent of zero", 0, {0x1p-23f, -0x1p-30f}, {0x1p-126f, 0x1p-126f}, 0, 0, 0},
    {"the exponent of zero, one less", 0, {0x1p-23f, -0x1p-31f}, {0x1p-126f, 0x1p-126f}, 0, 1, 0},
    {"the exponent of zero, the least", 0, {0x1p-23f, -0x1p-33f}, {0x1p-126f, 0x1p-126f}, 0, 1, 1},
    /* 1 + 2^-11 - 2^-13 is 1 + 2^-11 * 0.75: the unit takes 10 bits of it */
    {"tf32's inputs are cut", 3, {0x1.0018p0f}, {1}, 0, 0x3f800000, 0x3f800000},
    {"tf32's inputs, ten bits", 3, {0x1.007fp0f}, {1}, 0, 0x3f802000, 0x3f802000},
};

static void check_cut(int arch, rg_cu_module module, const cut_case *one) {
    static matrices m[2];
    const shape *s = &shapes[one->kind];
    memset(m, 0, sizeof m);
    for (int k = 0; k < s->k; k++) {
        m[1].a[11][k] = narrow(s, one->a[k]);
        m[1].b[k][5] = narrow(s, one->b[k]);
    }
    m[1].d[11][5] = bits_of(one->c);
    run_mma(module, one->kind, m, 2);
    uint32_t wanted = arch >= 90 ? one->hopper : one->ampere;
    if (m[1].d[11][5] != wanted)
        fail_msg("sm_%d, %s: %08x, not %08x", arch, one->what, m[1].d[11][5], wanted);
}

static void test_sums_are_cut_as_computed_by_hand(void **state) {
    (void)state;
    for (int arch = 80; arch <= 90; arch += 10) {
        rg_cu_module module = build_for(arch, mma_text);
        for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) check_cut(arch, module, &cuts[i]);
        OK(driver->module_unload(module));
    }
}

/* ---- loads of matrices ---- */

static uint32_t tile_value(int matrix, int row, int column) {
    return (uint32_t)((5 * (8 * matrix + row) + 3) % 32 * 8 + column);
}

static void test_rows_come_to_their_lanes(void **state) {
    (void)state;
    uint16_t tile[256];
    uint32_t got[LANES * 12];
    for (int i = 0; i < 256; i++) tile[i] = (uint16_t)i;
    rg_cu_module module = build_for(75, rows_text);
    rg_cu_ptr a0 = alloc(sizeof got, NULL), a1 = alloc(sizeof tile, tile);
    void *params[] = {&a0, &a1};
    if (launch(module, 1, 32, 0, params) != RG_CU_SUCCESS) fail_msg("%s", message);
    OK(driver->copy_out(got, a0, sizeof got));
    for (int lane = 0; lane < LANES; lane++)
        for (int i = 0; i < 12; i++) {
            int matrix = i < 8 ? i % 4 : i % 2, major = lane / 4, minor = lane % 4 * 2;
            bool trans = (i >= 4 && i < 8) || i >= 10;
            uint32_t low =
                trans ? tile_value(matrix, minor, major) : tile_value(matrix, major, minor);
            uint32_t high =
                trans ? tile_value(matrix, minor + 1, major) : tile_value(matrix, major, minor + 1);
            assert_int_equal(got[12 * lane + i], low | high << 16);
        }
    OK(driver->memory_free(a0));
    OK(driver->memory_free(a1));
    OK(driver->module_unload(module));
}

/* ---- faults ---- */

typedef struct fault_case {
    int arch;
    unsigned threads;
    const char *body, *expected; /* of k(float *a0, const rg_u16 *a1); WRONG is defined in one */
} fault_case;

static const char load_tile[] =
    "RG_KERNEL void RG_BOUNDS(64, 1) k(float *a0, const rg_u16 *a1) {\n"
    "    RG_SHARED(rg_u16, tile, 64 * 8);\n"
    "    const int t = rg_tid();\n    unsigned r[4] = {}, b[2] = {};\n    float d[4] = {};\n"
    "    for (int i = 0; i < 8; i++) tile[8 * t + i] = a1[8 * t + i];\n"
    "    rg_warp_barrier();\n    const rg_u16 *row = tile + 8 * t;\n"
    "#ifdef WRONG\n    const bool wrong = true;\n#else\n    const bool wrong = false;\n#endif\n";

static const fault_case faults[] = {
    {90, 64, "    rg_ldmatrix4(r, row + (wrong && t == 37 ? 4 : 0));\n",
     "thread 37: ldmatrix of line 14: row at an address that is not a multiple of 16"},
    {90, 64, "    rg_ldmatrix4(r, wrong && t == 5 ? a1 : row);\n",
     "thread 5: ldmatrix of line 14: row at an address that is not in shared memory"},
    {90, 64, "    rg_ldmatrix4(r, row + (wrong && t > 31 ? 256 : 0));\n",
     "bytes behind shared 'tile' (1024 bytes)"},
    {90, 64, "    if (!wrong) rg_barrier();\n    rg_ldmatrix4_trans(r, tile + 8 * (63 - t));\n",
     "block 0, thread "},
    {90, 64,
     "    rg_ldmatrix4(r, row);\n    if (!wrong) rg_warp_barrier();\n    tile[8 * (t ^ 1)] = 1;\n",
     "race with "},
    {90, 64, "    if (!wrong || t != 40) rg_mma_bf16(d, r, b);\n",
     "divergent warp operation: it waits at the warp operation of line 14, but thread 40 has "
     "ended"},
    {90, 64, "    if (!wrong || t % 2) rg_mma_f16(d, r, b); else rg_mma_tf32(d, r, b);\n",
     "at another one of line 14"},
    {90, 64, "    rg_ldmatrix2(r, wrong ? row + 64 * (t / 8 % 2) * 8 : row);\n", "out of bounds"},
    {90, 64, "    rg_ldmatrix2(r, t % 32 > 15 ? row + 3 : row + (wrong ? 3 : 0));\n",
     "not a multiple of 16"},
    {75, 64, "    rg_ldmatrix2(r, t % 32 > 15 && wrong ? row + 3 : row);\n",
     "not a multiple of 16"},
    {75, 64, "    if (wrong) rg_mma_f16(d, r, b);\n    rg_mma_f16_k8(d, r, b);\n",
     "the mma of line 14 needs sm_80, this is sm_75"},
};

static void expect_fault(const fault_case *fault, const char *define, unsigned threads,
                         const char *expected) {
    static uint16_t halves[64 * 8];
    char body[4096];
    snprintf(body, sizeof body, "%s%s    a0[t] = d[0];\n}\n", load_tile, fault->body);
    char *whole = with_prelude(fault->arch, body);
    /* lines are counted from the kernel's own */
    char *at = strstr(whole, "RG_KERNEL void");
    assert_non_null(at);
    rg_text text = {0};
    rg_text_add_bytes(&text, whole, (size_t)(at - whole));
    rg_text_add(&text, "#line 1\n%s", at);
    char *cubin = compile_for(fault->arch, text.data, define);
    if (!cubin) fail_msg("%s", message);
    rg_cu_module module = load(cubin);
    rg_cu_ptr a0 = alloc(256, NULL), a1 = alloc(sizeof halves, halves);
    void *params[] = {&a0, &a1};
    rg_cu_result result = launch(module, 1, threads, 0, params);
    if (!expected && result != RG_CU_SUCCESS) fail_msg("the right version: %s", message);
    if (expected && (result == RG_CU_SUCCESS || !strstr(message, expected) ||
                     !strstr(message, "kernel k: block 0, thread ")))
        fail_msg("expected '%s', got '%s'", expected, message);
    (void)driver->memory_free(a0);
    (void)driver->memory_free(a1);
    (void)driver->module_unload(module);
    free(cubin);
    free(whole);
    rg_text_free(&text);
}

static void test_misuse_of_the_matrix_unit_is_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        options.arch = faults[i].arch;
        reopen(i);
        expect_fault(&faults[i], "-DRIGHT", faults[i].threads, NULL);
        reopen(i);
        expect_fault(&faults[i], "-DWRONG", faults[i].threads, faults[i].expected);
    }
    options.arch = 90;
    reopen(0);
    const fault_case whole = {90, 48, "    rg_mma_bf16(d, r, b);\n", ""};
    expect_fault(&whole, "-DRIGHT", 48, "a warp of 16 lanes at the matrix unit of line 14");
}

/* ---- the compiler ---- */

static void test_the_compiler_takes_the_device_side(void **state) {
    static const char *const texts[] = {mma_text, rows_text};
    (void)state;
    expect_compiled(texts, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_every_register_stands_for_its_element),
        TEST(test_bits_are_those_of_the_model_on_every_architecture),
        TEST(test_sums_are_cut_as_computed_by_hand),
        TEST(test_rows_come_to_their_lanes),
        TEST(test_misuse_of_the_matrix_unit_is_named),
        TEST(test_the_compiler_takes_the_device_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
