/* From kernel descriptions to source files: symbol, key, header comment, text. */
#ifndef RG_EMIT_H
#define RG_EMIT_H

#include "rg_tpl.h"

typedef struct rg_emitted {
    char symbol[160]; /* rg_<name>__<format>_<shape>_<8 hex digits of the key> */
    char key[33];     /* of description (with variant), template, lib, prelude */
    char *source;     /* complete C text. Owner: ctx's arena */
} rg_emitted;

/* Byte-identical for the same description and templates. */
rg_status rg_emit_kernel(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc,
                         rg_emitted *out) RG_CHECKED;
/* Key and symbol alone (cheap: nothing is rendered). */
rg_status rg_emit_name(rg_ctx *ctx, rg_tpl *tpl, const rg_kdesc *desc, rg_emitted *out) RG_CHECKED;

#endif
