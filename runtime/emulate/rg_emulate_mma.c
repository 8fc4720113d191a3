/* The matrix unit's arithmetic, to the bit (MMA-Sim, arXiv 2511.10909): products are exact; they
 * and the accumulator are aligned to the largest exponent among them and cut, toward zero, behind
 * a number of fraction bits; the exact sum of these is cut to f32. Exponents are as the operands
 * have them: products and subnormals are not normalised. */
#include "rg_emulate_impl.h"

#include <string.h>

enum { M = 16, N = 8, MAX_K = 16, NO_EXPONENT = -1000 /* of zero: below all */ };

/* A row of N values at once. */
typedef int32_t row_int __attribute__((vector_size(4 * N)));
typedef uint32_t row_bits __attribute__((vector_size(4 * N)));
typedef float row_float __attribute__((vector_size(4 * N)));

/* How the words of an operand are read. */
typedef struct unit {
    int k, step; /* products that are summed at once */
    int fraction, bias;
    uint32_t field; /* the largest exponent field: infinite and NaN */
    int kept;       /* fraction bits of aligned terms */
    int zero;       /* exponent that a zero counts with */
} unit;

typedef struct operands {
    uint32_t a[M][MAX_K], b[MAX_K][N]; /* as they came */
    int32_t a_exponent[M][MAX_K], b_exponent[MAX_K][N];
    int32_t a_sign[M][MAX_K], b_sign[MAX_K][N]; /* 0 or -1 */
    uint32_t a_significand[M][MAX_K], b_significand[MAX_K][N];
    bool special; /* one is infinite or NaN */
} operands;

/* ---- architectures ---- */

static unit unit_of(int arch, int kind) {
    bool tf32 = kind == RG_EMULATE_MEET_TF32, bf16 = kind == RG_EMULATE_MEET_BF16;
    bool hopper = arch >= 90;
    unit u = {.k = tf32 || kind == RG_EMULATE_MEET_F16_K8 ? 8 : 16,
              .fraction = bf16 ? 7 : 10,
              .bias = tf32 || bf16 ? 127 : 15,
              .field = tf32 || bf16 ? 255 : 31,
              .kept = hopper ? 25 : 24,
              .zero = hopper ? -133 : -132};
    int step = (hopper ? 32 : 16) / (tf32 ? 4 : 2);
    u.step = step < u.k ? step : u.k;
    return u;
}

/* ---- fragments ---- */

static const rg_emulate_fragments *lane_of(const unsigned char *slot, int lane) {
    const void *at = slot + lane * RG_EMULATE_LANE_BYTES;
    return at;
}

/* 16-bit operands: words of two. */
static void gather_halves(const unsigned char *slot, int k, operands *o) {
    for (int lane = 0; lane < 32; lane++) {
        const rg_emulate_fragments *f = lane_of(slot, lane);
        int g = lane / 4, i = lane % 4 * 2;
        for (int j = 0; j < k / 4; j++) {
            o->a[g + j % 2 * 8][i + j / 2 * 8] = f->a[j] & 0xffff;
            o->a[g + j % 2 * 8][i + j / 2 * 8 + 1] = f->a[j] >> 16;
        }
        for (int j = 0; j < k / 8; j++) {
            o->b[i + j * 8][g] = f->b[j] & 0xffff;
            o->b[i + j * 8 + 1][g] = f->b[j] >> 16;
        }
    }
}

/* tf32: the unit takes the upper 19 bits. */
static void gather_words(const unsigned char *slot, operands *o) {
    for (int lane = 0; lane < 32; lane++) {
        const rg_emulate_fragments *f = lane_of(slot, lane);
        int g = lane / 4, i = lane % 4;
        for (int j = 0; j < 4; j++) o->a[g + j % 2 * 8][i + j / 2 * 4] = f->a[j] >> 13;
        for (int j = 0; j < 2; j++) o->b[i + j * 4][g] = f->b[j] >> 13;
    }
}

static void gather_sums(const unsigned char *slot, row_bits d[M]) {
    for (int lane = 0; lane < 32; lane++) {
        const rg_emulate_fragments *f = lane_of(slot, lane);
        int g = lane / 4, i = lane % 4 * 2;
        for (int j = 0; j < 4; j++) {
            uint32_t bits;
            memcpy(&bits, &f->d[j], sizeof bits);
            d[g + j / 2 * 8][i + j % 2] = bits;
        }
    }
}

static void scatter_sums(const row_bits d[M], unsigned char *slot) {
    for (int lane = 0; lane < 32; lane++) {
        int g = lane / 4, i = lane % 4 * 2;
        for (int j = 0; j < 4; j++) {
            uint32_t bits = d[g + j / 2 * 8][i + j % 2];
            memcpy(slot + lane * RG_EMULATE_LANE_BYTES + 4 * j, &bits, sizeof bits);
        }
    }
}

#define INLINE static inline __attribute__((always_inline))

/* `raise`: bits that the significand is shifted by. Returns whether one is infinite or NaN. */
INLINE bool take_apart(const unit *u, const uint32_t *word, int count, int raise, int32_t *exponent,
                       int32_t *sign, uint32_t *significand) {
    uint32_t specials = 0, field_mask = u->field, one = 1u << u->fraction;
    int fraction = u->fraction, top = u->field == 255 ? fraction + 8 : fraction + 5;
    int bias = u->bias;
    for (int i = 0; i < count; i++) {
        uint32_t field = word[i] >> fraction & field_mask, low = word[i] & (one - 1);
        uint32_t value = field ? low | one : low;
        int32_t e = (int32_t)(field ? field : 1) - bias;
        specials |= field == field_mask;
        exponent[i] = value ? e : NO_EXPONENT;
        sign[i] = -(int32_t)(word[i] >> top & 1);
        significand[i] = value << raise;
    }
    return specials != 0;
}

/* ---- infinite and NaN: as IEEE's exact sum ---- */

enum { NAN_BITS = 0x7fffffff, INFINITE_BITS = 0x7f800000, SIGN_BIT = 31 };

typedef struct seen {
    bool nan, plus, minus;
} seen;

static void see(seen *s, bool nan, bool infinite, bool negative) {
    s->nan |= nan;
    s->plus |= infinite && !negative;
    s->minus |= infinite && negative;
}

static void see_product(const unit *u, uint32_t a, uint32_t b, seen *s) {
    uint32_t infinite = u->field << u->fraction, sign = u->field + 1, size = sign << u->fraction;
    uint32_t a_size = a & (size - 1), b_size = b & (size - 1);
    bool nan = a_size > infinite || b_size > infinite;
    bool any = a_size == infinite || b_size == infinite;
    bool none = a_size == 0 || b_size == 0;
    see(s, nan || (any && none), any, ((a ^ b) & size) != 0);
}

/* The sums of this step that are not of numbers alone. */
static void put_specials(const unit *u, const operands *o, int from, const row_bits c[M],
                         row_bits d[M]) {
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            uint32_t size = c[m][n] & 0x7fffffff;
            seen s = {0};
            see(&s, size > INFINITE_BITS, size == INFINITE_BITS, c[m][n] >> SIGN_BIT);
            for (int k = from; k < from + u->step; k++) see_product(u, o->a[m][k], o->b[k][n], &s);
            if (s.nan || (s.plus && s.minus))
                d[m][n] = NAN_BITS;
            else if (s.plus || s.minus)
                d[m][n] = INFINITE_BITS | (uint32_t)s.minus << SIGN_BIT;
        }
}

/* ---- sums ---- */

/* By pointers, since vectors as arguments have no ABI without AVX. */
INLINE void larger(row_int *a, const row_int *b) {
    row_int mine = *a > *b;
    *a = (*a & mine) | (*b & ~mine);
}
INLINE void smaller(row_int *a, const row_int *b) {
    row_int mine = *a < *b;
    *a = (*a & mine) | (*b & ~mine);
}

/* (products + c) * 2^(exponent - kept), cut to f32. The sum of two 32-bit numbers has 33 bits: its
 * sign comes from both. A sum of zero is +0. */
INLINE void cut(const unit *u, const row_int *products, const row_int *c, const row_int *exponent,
                row_bits *d) {
    const row_int none = {0}, lowest = none - 126, most = none + 31;
    row_int sum = (row_int)((row_bits)*products + (row_bits)*c);
    row_int negative = ((*products & *c) | ((*products | *c) & sum)) < 0;
    row_bits size = (row_bits)((sum ^ negative) - negative), half = size >> 1;
    /* the highest bit, by the exponent of a float that the conversion cannot round up to the next
     */
    row_float high = __builtin_convertvector((row_int)(half & ~(half >> 1)), row_float);
    row_int top = (row_int)((row_bits)high >> 23) - 126, unit_exponent = *exponent - u->kept;
    larger(&top, &none);
    row_int e = unit_exponent + top, low = e;
    larger(&low, &lowest);
    row_int right = low - 23 - unit_exponent, left = -right;
    larger(&right, &none), larger(&left, &none), smaller(&right, &most);
    row_bits bits = (size >> (row_bits)right) << (row_bits)left;
    bits += (row_bits)(low + 126) << 23;
    row_bits over = (row_bits)(e > 127);
    bits = (over & INFINITE_BITS) | (~over & bits);
    bits |= (row_bits)negative & 0x80000000u;
    *d = bits & (row_bits)(size != 0);
}

/* One row of d += a b over a step's products. */
INLINE void add_row(const unit *u, const operands *o, int m, int from, row_bits *d) {
    const row_int none = {0}, most = none + 31, zero = none + u->zero;
    row_int field = (row_int)(*d >> 23 & 255), any = (row_int)((*d << 1) != 0);
    row_int c_exponent = field - 127 - (field == 0), largest, sum = none;
    row_bits c_size = (*d & 0x7fffff) | ((row_bits)(field != 0) & 0x800000);
    row_int c_sign = (row_int)*d < 0, b, delta;
    largest = (c_exponent & any) | (zero & ~any);
    for (int k = from; k < from + u->step; k++) {
        memcpy(&b, o->b_exponent[k], sizeof b);
        b += o->a_exponent[m][k];
        larger(&largest, &b);
    }
    for (int k = from; k < from + u->step; k++) {
        row_bits size;
        row_int sign;
        memcpy(&b, o->b_exponent[k], sizeof b);
        memcpy(&size, o->b_significand[k], sizeof size);
        memcpy(&sign, o->b_sign[k], sizeof sign);
        delta = largest - b - o->a_exponent[m][k];
        smaller(&delta, &most);
        row_int term = (row_int)((size * o->a_significand[m][k]) >> (row_bits)delta);
        sign ^= o->a_sign[m][k];
        sum += (term ^ sign) - sign;
    }
    delta = largest - c_exponent;
    smaller(&delta, &most);
    row_int c = (row_int)((c_size << (u->kept - 23)) >> (row_bits)delta);
    c = (c ^ c_sign) - c_sign;
    cut(u, &sum, &c, &largest, d);
}

static bool any_special(const row_bits d[M]) {
    row_int any = {0};
    for (int m = 0; m < M; m++) any |= (row_int)((d[m] >> 23 & 255) == 255);
    for (int n = 0; n < N; n++)
        if (any[n]) return true;
    return false;
}

/* ---- one mma ---- */

INLINE void multiply(const unit *u, operands *o, row_bits d[M]) {
    int raise = u->kept - 2 * u->fraction;
    bool special = take_apart(u, o->a[0], M * MAX_K, raise, o->a_exponent[0], o->a_sign[0],
                              o->a_significand[0]);
    special |=
        take_apart(u, o->b[0], MAX_K * N, 0, o->b_exponent[0], o->b_sign[0], o->b_significand[0]);
    for (int from = 0; from < u->k; from += u->step) {
        row_bits c[M];
        bool fix = special || any_special(d);
        if (fix) memcpy(c, d, sizeof c);
        for (int m = 0; m < M; m++) add_row(u, o, m, from, &d[m]);
        if (fix) put_specials(u, o, from, (const row_bits *)c, d);
    }
}

#if defined __x86_64__
__attribute__((target("avx2"))) static void multiply_avx2(const unit *u, operands *o,
                                                          row_bits d[M]) {
    multiply(u, o, d);
}
#endif

static void multiply_plain(const unit *u, operands *o, row_bits d[M]) {
    multiply(u, o, d);
}

void rg_emu_multiply(int arch, int kind, unsigned char *slot) {
    operands o = {0};
    row_bits d[M];
    const unit u = unit_of(arch, kind);
    if (kind == RG_EMULATE_MEET_TF32)
        gather_words(slot, &o);
    else
        gather_halves(slot, u.k, &o);
    gather_sums(slot, d);
#if defined __x86_64__
    if (__builtin_cpu_supports("avx2"))
        multiply_avx2(&u, &o, d);
    else
#endif
        multiply_plain(&u, &o, d);
    scatter_sums((const row_bits *)d, slot);
}
