/* Templates: text with Lua lines, and the list of variants. All of templates/ is embedded in the
 * program. */
#ifndef RG_TPL_H
#define RG_TPL_H

#include "rg_kdesc.h"

/* What is compiled for. */
typedef struct rg_target {
    const char *name;     /* "cpu" or "cuda" */
    const char *isa;      /* "avx2" or "avx512"; "cuda" */
    int32_t vector;       /* floats in a vector: 8 or 16 (cuda: 16, what channels are padded to) */
    bool riders;          /* a convolution's kernel may keep two sums: fprops of one operand ride */
    int32_t arch;         /* cuda: 90 for sm_90; else 0 */
    rg_kformat precision; /* of contractions; 16-bit formats also of what is stored */
    int32_t max_blocks;   /* image blocks of a training batch: what costs are computed for */
    /* NULL, or names, with commas between them: these variants alone wherever one of them applies
     * ("direct,split": no Winograd). */
    const char *only;
} rg_target;

typedef struct rg_tpl rg_tpl;

/* Loads variants.lua, lib.lua and the templates into one Lua state. Owner: caller, rg_tpl_close. */
rg_status rg_tpl_open(rg_ctx *ctx, const rg_target *target, rg_tpl **tpl) RG_CHECKED;
void rg_tpl_close(rg_tpl *tpl);

/* All variants that apply to a description (its variant field is ignored), cheapest first; ties in
 * the order of the list. Owner: ctx's arena. No variant: RG_E_UNSUPPORTED, naming the description.
 * WEIGHT/WINO/PARTW arguments that a variant wants in another form are told in `needs`. */
typedef struct rg_candidate {
    rg_kvariant variant;
    const char *weights; /* CONV: "master", "turn", "wino", "winoturn": what its weight argument
                            must be; else NULL */
    int32_t wino_m;      /* WINO: output tile */
    bool instances;      /* the row makes kernels of several instances, too */
} rg_candidate;
/* `dgrad`: the CONV is a dgrad (its weights are the turned master). */
rg_status rg_tpl_candidates(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, bool dgrad,
                            rg_candidate **list, int32_t *count) RG_CHECKED;

/* RG_E_USAGE where target->only names a variant that no row of the target has. */
rg_status rg_tpl_check_only(rg_ctx *ctx, rg_tpl *tpl, const rg_target *target) RG_CHECKED;

/* The cost of the cheapest variant in microseconds; INFINITY where none applies. */
rg_status rg_tpl_cheapest_us(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, bool dgrad,
                             double *us) RG_CHECKED;

/* Source text of a description whose variant is set. `symbol` is the function's name. */
rg_status rg_tpl_render(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, const char *symbol,
                        rg_text *out) RG_CHECKED;

/* A CUDA text that is no template, with what it names of the prelude before it. */
rg_status rg_tpl_text(rg_ctx *ctx, rg_tpl *tpl, const char *body, rg_text *out) RG_CHECKED;

/* An embedded file of templates/ by name, NULL when there is none. */
const char *rg_tpl_file(const char *name);

/* Appends all text that the rendering of a template depends on: itself, what it includes,
 * engine.lua, lib*.lua and preludes. For keys. */
void rg_tpl_sources(rg_text *text, const char *name);

#endif
