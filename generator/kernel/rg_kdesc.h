/* The frozen description of one kernel: the emitter, the reference check, the bench and the cache
 * key read it and nothing else.
 *
 * No ids, no layer names, no spec lines: layers with equal descriptions share one kernel. The batch
 * is not in it either: activations are stored as blocks of 16 images, [blocks][H][W][16][C], and
 * the number of blocks is in the control block.
 *
 * Every kernel computes sites: a site is one expression DAG evaluated for each element of some
 * space, and outputs that store its nodes or reduce them. By kind:
 *
 * - CONV has an anchor: sum over contractions of taps . weights (fprop and dgrad alike). Sites: one
 *   prologue per operand (space: the operand; node `root` is its value; may also STORE: the value
 *   is kept for other kernels), then one epilogue (space: the output; leaf ACC i is the sum of the
 *   contractions with acc i). A contraction with a sum of its own rides with those before it.
 * - WGRAD has an anchor: dw[k][r][s][c] = sum x[..]*dy[..]. Sites: prologue of x, prologue of dy.
 *   The result goes to argument `w_arg`: complete (WEIGHT), or one part per image block (PARTW) if
 *   the variant splits.
 * - WINDOW has an anchor: maximum, average, or their gradients, over a list of taps. Sites:
 *   prologue of operand, epilogue (ACC 0: result; for MAX, ACC 1: which tap, r*S+s, as a float).
 * - MAP has none. Sites: stages over the same pixels, each with its own number of channels (C or
 *   1); a reduction over C alone gives leaf ROW i to the later stages.
 * - VEC has none. One site over a run of `length` elements; leaf FIN i gathers partial results in
 *   their fixed order: BN finalisation, the optimiser, the finishing stage of split reductions. Its
 *   reductions (SUM, MAX) are over the whole run, into a PART of one channel.
 * - PACK makes derived weights (turned for dgrad, Winograd-transformed). No site.
 * - INPUT makes a batch of a data set's bytes: gathers, resizes, normalises. No site. */
#ifndef RG_KDESC_H
#define RG_KDESC_H

#include "rg_expr.h"

#define RG_KKIND_LIST(X)                                                                           \
    X(CONV, "conv")                                                                                \
    X(WGRAD, "wgrad")                                                                              \
    X(WINDOW, "window")                                                                            \
    X(MAP, "map")                                                                                  \
    X(VEC, "vec")                                                                                  \
    X(PACK, "pack")                                                                                \
    X(INPUT, "input")

typedef enum rg_kkind {
#define X(id, name) RG_K_##id,
    RG_KKIND_LIST(X)
#undef X
} rg_kkind;

/* How an element of an argument is stored. Whatever it is, trees compute in f32. */
#define RG_KTYPE_LIST(X) X(F32, "f32", 4) X(BF16, "bf16", 2) X(F16, "f16", 2) X(U32, "u32", 4)

typedef enum rg_ktype {
#define X(id, name, bytes) RG_KTYPE_##id,
    RG_KTYPE_LIST(X)
#undef X
} rg_ktype;

/* What a contraction's products are made of: both operands are numbers of this format; products
 * and sums are in f32, as matrix units make them where it is not F32. */
#define RG_KFORMAT_LIST(X) X(F32, "f32") X(TF32, "tf32") X(BF16, "bf16") X(F16, "f16")

typedef enum rg_kformat {
#define X(id, name) RG_KFORMAT_##id,
    RG_KFORMAT_LIST(X)
#undef X
} rg_kformat;

/* How an argument lies in memory (float stands for an element of the argument's type).
 * - ACT: float [blocks][h][w][16][cp]; h == 1 or w == 1 or c == 1 broadcasts where the space is
 *   larger
 * - VEC: float [cp]: one value a channel (c == 1: one for all)
 * - WEIGHT: float [ceil(kp/kb)][r][s][c][kb]: k output channels padded to kp, c not padded. Where
 *   `turned`, k and c change places: float [ceil(kp/kb)][r][s][k][kb] with c padded to kp (a dgrad
 *   reads its fprop's weights as they are)
 * - WINO: float [(m+r-1)*(m+r-1)][kp/kb][c][kb]: Winograd-transformed weights (m in `h`)
 * - PART: float [parts][stats][cp]: partial reductions; parts = parts_per_block * blocks (of
 *   images); stats: 1 for SUM and MAX, 3 for MOMENTS: (count, mean, M2), count in every channel
 * - PARTW: float [parts][WEIGHT]: partial weight gradients, `length` floats each
 * - FLAT: float [length]
 * Types other than F32: BF16 and F16 in ACT, WEIGHT and FLAT; U32 in FLAT (a tail's counters), and
 * in ACT of INPUT */
#define RG_LAYOUT_LIST(X)                                                                          \
    X(ACT, "act")                                                                                  \
    X(VEC, "vec")                                                                                  \
    X(WEIGHT, "weight")                                                                            \
    X(WINO, "wino")                                                                                \
    X(PART, "part")                                                                                \
    X(PARTW, "partw")                                                                              \
    X(FLAT, "flat")

typedef enum rg_layout {
#define X(id, name) RG_LAYOUT_##id,
    RG_LAYOUT_LIST(X)
#undef X
} rg_layout;

typedef struct rg_karg {
    rg_layout layout;
    rg_ktype type;
    bool read, written;
    bool turned;             /* WEIGHT */
    int32_t h, w, c, cp;     /* ACT: extents, physical channels. VEC, PART: c, cp */
    int32_t k, kp, kb, r, s; /* WEIGHT, WINO (with c: input channels of the contraction) */
    int32_t stats;           /* PART */
    int32_t parts_per_block; /* PART, PARTW */
    int64_t length;          /* FLAT, PARTW (floats of one part) */
} rg_karg;

/* Which input coordinate a tap reads: in = (out*mul + tap*tap_mul + off) / div, where that divides
 * and 0 <= in < extent; else the tap is not in the list. fprop: mul = stride, tap_mul = dilation,
 * off = -pad, div = 1; dgrad: mul = 1, tap_mul = -dilation, off = pad, div = stride. WGRAD is
 * written as its fprop. */
typedef struct rg_kgeom {
    int32_t mul, tap_mul, off, div;
} rg_kgeom;

#define RG_AXIS_N 1u
#define RG_AXIS_H 2u
#define RG_AXIS_W 4u
#define RG_AXIS_C 8u

#define RG_KOUT_LIST(X) X(STORE, "store") X(SUM, "sum") X(MAX, "max") X(MOMENTS, "moments")

typedef enum rg_kout_kind {
#define X(id, name) RG_KOUT_##id,
    RG_KOUT_LIST(X)
#undef X
} rg_kout_kind;

typedef struct rg_kout {
    rg_kout_kind kind;
    int32_t root; /* node of the site's DAG */
    int32_t arg;  /* STORE: ACT or VEC or FLAT; reductions over N, H, W: PART; over H, W (map): ACT
                     with h = w = 1; over C (map): -1 */
    uint32_t axes;
    int32_t row; /* reduction over C: the ROW leaf that it becomes; else -1 */
} rg_kout;

/* Extents of a site's space: ACT-like (h, w, c), N always whole blocks; or a run (VEC kernels: h =
 * w = 1, c = length). */
typedef struct rg_ksite {
    int32_t h, w, c;
    rg_expr expr;
    int32_t root; /* prologues: the operand's value; else -1 */
    int32_t out_count;
    rg_kout *out;
} rg_ksite;

/* One contraction or window: operand (site) x taps. */
typedef struct rg_kcontr {
    int32_t site; /* index of the prologue's site; CONV: an earlier contraction's, or the next */
    int32_t acc;  /* CONV: the sum that it adds to: 0, then 1; else 0 */
    rg_kformat format; /* operands: the prologue's root is rounded by its own nodes; weights are
                          rounded where they are read (those of a 16-bit copy are already) */
    int32_t w_arg;     /* CONV: WEIGHT or WINO argument; WGRAD: the result; WINDOW: -1 */
    int32_t r, s;
    rg_kgeom gh, gw;
} rg_kcontr;

#define RG_KWINDOW_LIST(X)                                                                         \
    X(MAX, "max") /* ACC 0 maximum, ACC 1 index of the first maximum in row order; NaN wins */     \
    X(SUM, "sum") /* ACC 0 sum of the taps (average: the epilogue multiplies) */                   \
    X(MAXGRAD, "maxgrad") /* operand: site 0 gives dy, `index_arg` (ACT) the index; ACC 0 = sum of \
                             dy where index == tap */

typedef enum rg_kwindow {
#define X(id, name) RG_KWINDOW_##id,
    RG_KWINDOW_LIST(X)
#undef X
} rg_kwindow;

/* A gathered partial result: leaf FIN i. */
#define RG_KFIN_LIST(X) X(SUM, "sum") X(MAX, "max") X(MEAN, "mean") X(M2, "m2") X(COUNT, "count")

typedef enum rg_kfin_kind {
#define X(id, name) RG_KFIN_##id,
    RG_KFIN_LIST(X)
#undef X
} rg_kfin_kind;

typedef struct rg_kfin {
    rg_kfin_kind kind; /* MEAN, M2, COUNT: of a MOMENTS part, merged by Chan's rule */
    int32_t arg;       /* PART or PARTW */
} rg_kfin;

#define RG_KPACK_LIST(X)                                                                           \
    X(TURN, "turn") /* WEIGHT [k..][r][s][c][kb] -> WEIGHT with k and c exchanged (dgrad's view;   \
                       taps keep their number) */                                                  \
    X(WINO, "wino") /* WEIGHT -> WINO: U = G w G' */                                               \
    X(WINO_TURN, "winoturn") /* WEIGHT -> WINO of the turned weights (k and c exchanged, taps      \
                                rotated by 180 degrees) */

typedef enum rg_kpack {
#define X(id, name) RG_KPACK_##id,
    RG_KPACK_LIST(X)
#undef X
} rg_kpack;

/* INPUT: images of h x w pixels become those of argument 0, as PIL's bilinear resize does it (taps:
 * weights of an output, rg_resize_taps), then (byte/255 - mean)/std, channel by channel. Arguments,
 * all but the first two ACT of one pixel, type U32: image (ACT) and label (ACT of one value),
 * written; pixels (an image's bytes, [c][h][w], four a word), labels, order (which images),
 * weights (FLAT: rg_plan_set). Images that do not count become zeros, and the kernel does nothing
 * for blocks beyond the control block's. */
typedef struct rg_kinput {
    int32_t h, w, taps_h, taps_w;
    float mean[4], std[4];
} rg_kinput;

enum {
    RG_KINPUT_IMAGE,
    RG_KINPUT_LABEL,
    RG_KINPUT_PIXELS,
    RG_KINPUT_LABELS,
    RG_KINPUT_ORDER,
    RG_KINPUT_WEIGHTS,
    RG_KINPUT_ARGS
};

/* A tail: one more site over a run, as a VEC kernel's, which the tile that ends last computes when
 * all others are complete (rg_last_block); its FIN leaves gather PART arguments that this kernel
 * writes. They run one after the other, so that one may read what an earlier one stored. WGRAD: the
 * tail adds up PARTW, and the last tile of each slice of dw does that slice; what it leaves of the
 * parts is nobody's. VEC with tails leaves parts, and gathers none in its own site. */
typedef struct rg_ktail {
    rg_ksite site;
} rg_ktail;

typedef struct rg_kparam {
    const char *name;
    int32_t value;
} rg_kparam;

/* What a variant settles (from templates/variants.lua). */
typedef struct rg_kvariant {
    const char *name; /* the row */
    const char *file; /* the template */
    const char *isa;  /* "avx2", "avx512" */
    int32_t param_count;
    rg_kparam *param;
    int32_t tiles_per_block; /* tiles = tiles_per_block * blocks + tiles_fixed, handed out in any
                                order */
    int32_t tiles_fixed;
    int32_t parts_per_block; /* parts that its reductions over N, H, W leave, per image block */
    int64_t scratch_floats;  /* private to a thread (cpu) */
    int32_t counters;        /* of its tails: U32 words (0: one) */
    int32_t threads;         /* of a block (cuda; a tile is a block); else 0 */
    int32_t shared_bytes;    /* dynamic shared memory of a block (cuda); else 0 */
    bool complete;           /* WGRAD: false if it leaves PARTW */
    double cost_us; /* the model's estimate at `cost_blocks` image blocks, two threads; not part of
                       the key */
} rg_kvariant;

typedef struct rg_kdesc {
    rg_kkind kind;
    char name[64]; /* readable stem of the symbol: conv2d_fprop_bnrelu_moments, no layer's name */
    int32_t instances; /* equal kernels, each with arguments of its own, in one launch; 0: one. All
                          that names an argument means instance 0's; instance i has it
                          i * rg_kdesc_own_args further on. Tile t is tile t / instances of instance
                          t % instances. */
    int32_t arg_count; /* of all instances */
    rg_karg *arg;
    int32_t site_count;
    rg_ksite *site; /* CONV: prologues in the order of contractions, then the epilogue, last.
                       WGRAD: x, dy. WINDOW: prologue, epilogue. */
    int32_t contr_count;
    rg_kcontr *contr;
    rg_kwindow window; /* WINDOW */
    int32_t index_arg; /* WINDOW MAXGRAD; else -1 */
    int32_t fin_count;
    rg_kfin *fin; /* VEC, tails */
    int32_t tail_count;
    rg_ktail *tail;
    int32_t counter_arg; /* with tails: FLAT of type U32, read and written, zeros before the first
                            launch and after every one; else -1 (or 0 with no tail) */
    rg_kpack pack;       /* PACK: arg 0 -> arg 1 */
    rg_kinput input;     /* INPUT */
    rg_kvariant variant; /* name NULL until selected */
} rg_kdesc;

/* Instances of a description, 1 or more, and the arguments of one. */
int32_t rg_kdesc_instances(const rg_kdesc *desc);
int32_t rg_kdesc_own_args(const rg_kdesc *desc);
/* Instance 0 alone. It shares all arrays with `desc`. */
rg_kdesc rg_kdesc_first(const rg_kdesc *desc);
/* `desc`, which is one instance, n times in one launch. A variant is kept as it is: it must have
 * been chosen for all of them. Errors: RG_E_INTERNAL where n is under 2 or `desc` has several.
 * Owner: ctx's arena. */
rg_status rg_kdesc_repeat(rg_ctx *ctx, const rg_kdesc *desc, int32_t n, rg_kdesc *all) RG_CHECKED;

/* Canonical text of a description: a Lua table constructor. Templates read it, dumps print it, the
 * key is made of it. Of several instances their number and the first one's arguments are printed.
 * `cost_us` and (when `with_variant` is false) the whole variant stay out. */
void rg_kdesc_print(rg_text *text, const rg_kdesc *desc, bool with_variant);

/* Every index in range, every arity and extent right: RG_E_INTERNAL with one line otherwise. */
rg_status rg_kdesc_check(rg_ctx *ctx, const rg_kdesc *desc) RG_CHECKED;

/* Makes the VEC description `vec` a tail of `desc`, which writes the parts that it gathers; both
 * are one instance. same[i]: the argument of `desc` that the argument i of `vec` is; -1: it is
 * appended, and same[i] tells where. Owner: ctx's arena. */
rg_status rg_kdesc_add_tail(rg_ctx *ctx, rg_kdesc *desc, const rg_kdesc *vec,
                            int32_t *same) RG_CHECKED;
/* Appends the counters, once `desc` has all its tails and its variant. A kernel with dynamic shared
 * memory gives three floats a thread of it to its tails. */
rg_status rg_kdesc_add_counter(rg_ctx *ctx, rg_kdesc *desc) RG_CHECKED;

/* Sums that a CONV keeps: 1, or 2 where a contraction rides. */
int32_t rg_kdesc_sums(const rg_kdesc *desc);

/* Do two arguments lie in memory alike, whoever reads or writes them? */
bool rg_karg_same_layout(const rg_karg *a, const rg_karg *b);
/* Elements of an argument's buffer for `blocks` image blocks, and their bytes. */
int64_t rg_karg_elements(const rg_karg *arg, int32_t blocks);
int64_t rg_karg_bytes(const rg_karg *arg, int32_t blocks);
int64_t rg_ktype_bytes(rg_ktype type);
const char *rg_kformat_name(rg_kformat format);
/* Is there a format of this name? */
bool rg_kformat_find(const char *name, rg_kformat *format);
/* How numbers of a format are kept: in 16 bits where that holds them, else as f32. */
rg_ktype rg_kformat_type(rg_kformat format);
/* The operator that rounds to a format; F32: RG_EXPR_OP_COUNT. */
rg_expr_op rg_kformat_rounding(rg_kformat format);
/* `v` as a number of this format, or as it comes back from memory of this type. */
double rg_kformat_round(rg_kformat format, double v);
double rg_ktype_round(rg_ktype type, double v);

/* Multiply-adds counted as the direct algorithm, times 2, all taps (useful == false) or those
 * inside the image (true), per image. */
double rg_kdesc_flop(const rg_kdesc *desc, bool useful);
/* Bytes that must cross memory: every argument once, for `blocks` image blocks. */
double rg_kdesc_bytes(const rg_kdesc *desc, int32_t blocks);

/* The meaning of a kernel, in double precision. arg[i] is the argument as doubles in the argument's
 * own layout (surplus channels and images may hold anything: only logical elements are written,
 * except that parts are written whole). Partial reductions: part 0 gets the whole, the other parts
 * the neutral element (moments: count 0). */
rg_status rg_kdesc_interpret(rg_ctx *ctx, const rg_kdesc *desc, const rg_ctrl *ctrl,
                             double *const *arg) RG_CHECKED;
/* The same, and for every written argument i with error[i] not NULL a bound, element by element, of
 * what a kernel in f32 may be off: running error analysis of sums and trees, where a comparison
 * whose operands are too close to call counts as both ways (rg_kinterp.h). */
rg_status rg_kdesc_interpret_bound(rg_ctx *ctx, const rg_kdesc *desc, const rg_ctrl *ctrl,
                                   double *const *arg, double *const *error) RG_CHECKED;

/* Where the elements of an argument lie; sizes of 1 broadcast (ACT, VEC, FLAT). */
int64_t rg_karg_index(const rg_karg *arg, int32_t n, int32_t h, int32_t w, int32_t c);
int64_t rg_karg_weight_index(const rg_karg *arg, int32_t k, int32_t r, int32_t s, int32_t c);
/* Winograd's weight transform G of F(m, r): (m + r - 1) rows of r. false: not an output tile we
 * use. */
bool rg_wino_weights(int32_t m, int32_t r, double *g);
/* The input coordinate that tap `tap` of output `out` reads; -1 where the tap is not in the list.
 */
int32_t rg_kgeom_tap(const rg_kgeom *geom, int32_t out, int32_t tap, int32_t extent);

#endif
